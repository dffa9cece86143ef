"""A model card for Hugging Face, of a run or a snapshot alone; and the templates of this folder."""

import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from progan import __version__
from progan.config.phase_text import phase_rows
from progan.outputs.report_facts import Rows, about_data, clean, environment, metric_rows
from progan.runs.folder import read_config
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import snapshot_path
from progan.runs.summary import Summary, of_whole
from progan.runs.which_run import CONFIG
from progan.runtime.text import stage_text

CARD, SAMPLES = "README.md", "samples.webp"
TODO = "To fill in:"  # marks what only its author can know
MARKDOWN = re.compile(r"([\\`*_\[\]|~$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
LICENCES = ("cc-by-nc-4.0", "mit", "apache-2.0", "bsd-3-clause")  # as the Hub names them


def render(template: str, **facts: Any) -> str:
    """A template of this folder with the facts; names in them may be anything and are escaped."""
    loader = PackageLoader("progan", "outputs")
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **options)
    pages.filters["md"] = in_markdown
    return pages.get_template(template).render(**facts)


def in_markdown(text: str) -> Markup:
    """A text as Markdown that shows it: no formats, no links, no HTML."""
    return Markup(MARKDOWN.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;")))


def render_card(name: str, licence: str | None, **facts: Any) -> str:
    """The card: its metadata, and its text. The licence may be any text."""
    licence = None if licence is None else clean(licence)
    return card_header(name, licence) + render(
        "model_card.md.j2", name=name, licence=licence, version=__version__, **facts
    )


def card_header(name: str, licence: str | None) -> str:
    """The metadata that Hugging Face reads (hub docs, "Model Cards"), as YAML."""
    content = {
        "library_name": "progan",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "progan", "progressive-growing", "pytorch"],
        "model_name": name,
    }
    if licence is not None:
        known = licence.lower().replace(" ", "-")
        other = {"license": "other", "license_name": licence}
        content |= {"license": known} if known in LICENCES else other
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---\n"


def about_snapshot(snapshot: Snapshot, file: str | None = None) -> dict[str, str]:
    """What a card says of the file.

    Args:
        file: its name; None: as in its run, as the file itself may have any name.
    """
    weights = sum(parameter.numel() for parameter in snapshot.G.parameters())
    return {
        "file": file or snapshot_path(Path(), snapshot.nimg).name,
        "sha256": snapshot.sha256,
        "weights": f"{weights:,}",
        "z_dim": str(snapshot.G.z_dim),
        "kimg": f"{snapshot.nimg / 1000:g}",
    }


def card_of(snapshot: Snapshot, model: str, file: str, run: Summary | None) -> str:
    """The card of a snapshot.

    Args:
        model: `user/model` on the Hub.
        file: the snapshot's name there.
        run: of the snapshot, whose metrics and environment the card then has; see `run_of`.
    """
    imported = snapshot.nimg == 0
    return render_card(
        clean(model.rpartition("/")[2]),
        snapshot.licence,
        run=rows_of(snapshot),
        complete=True,  # of a whole run or not, it is this snapshot that the card is about
        imported=imported,
        grids=True,
        source=f"hf://{model}",
        snapshot=about_snapshot(snapshot, file),
        data=about_data(snapshot.config, snapshot.data),
        metrics=metric_rows(run) if run else None,
        phases=[] if imported else phase_rows(snapshot.config.make_schedule()),
        environment=environment(run) if run else [],
    )


def run_of(snapshot: Snapshot) -> Summary | None:
    """The run that a snapshot lies in; None if it lies elsewhere.

    Raises:
        UserError: the run cannot be read.
    """
    folder = snapshot.file.absolute().parent
    if folder.name != "snapshots" or not (folder.parent / CONFIG).is_file():
        return None
    return of_whole(folder.parent, read_config(folder.parent, []))


def rows_of(snapshot: Snapshot) -> Rows:
    """How far it is, how large, and what it began with."""
    colours = "grey" if snapshot.G.channels == 1 else "colour"
    rows = [("resolution", f"{stage_text(snapshot.resolution, snapshot.alpha)}, {colours}")]
    if snapshot.nimg:
        rows.append(("real images shown", f"{snapshot.nimg:,}"))
        rows.append(("seed", str(snapshot.config.run.seed)))
    if snapshot.labels:
        rows.append((snapshot.labels.kind, f"{len(snapshot.labels.names):,}"))
    if snapshot.origin:
        origin = snapshot.origin
        rows.append(("first weights from", f"{clean(origin.name)}, SHA-256 {origin.sha256}"))
    return rows
