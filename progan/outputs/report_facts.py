"""What there is to tell of a run: rows of tables. No paths, no machine's or user's name."""

import re
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from progan.config.config import Config
from progan.config.metric_names import PROTOCOLS, REALS, better, is_whole, parts
from progan.data.pyramid.format import Pyramid
from progan.data.sources.find import NAMED
from progan.runs.records import ENERGY, amount, metrics_of
from progan.runs.spare_cache import folders_in
from progan.runs.summary import Summary
from progan.runs.which_run import STARTS
from progan.runtime.cache import pyramids_folder
from progan.runtime.disk import read_lines
from progan.runtime.errors import UserError
from progan.runtime.secrets import redact
from progan.runtime.text import human_time, kimg, percent, printable, short, within

Rows = list[tuple[str, str]]
MOST_LABELS = 100  # in a table
MOST_BYTES = 200  # of a text from a run's files
# A path on a machine: /home/me/x, ~/x, C:\x; none is "w/ Radeon" or an address of the web.
PATH = re.compile(r"(?<![\w/:.])[/~][\w.-]*[/\\]|\b[A-Za-z]:\\|\\\\\w")
ENVIRONMENT = {  # by the key in starts.jsonl, which has command lines and paths, too
    "device": "device",
    "device_memory_gb": "memory of the device, in GiB",
    "processes": "processes",
    "cores": "cores",
    "precision": "precision",
    "system": "system",
    "python": "Python",
    "progan": "progan",
    "torch": "torch",
    "torchvision": "torchvision",
    "accelerate": "accelerate",
    "numpy": "numpy",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
}


@dataclass(frozen=True)
class MetricRow:
    """A metric, as texts.

    Args:
        newest, best: values, each with its kimg; no best if neither low nor high is better.
        reals: what real images get; empty if it was not measured.
    """

    name: str
    newest: str
    best: str
    reals: str
    what: str


@dataclass(frozen=True)
class LabelRow:
    """A class or an attribute, and the share of the data that has it, from 0 to 1."""

    name: str
    count: str
    percent: str
    share: float


@dataclass(frozen=True)
class DataFacts:
    """The training data, as far as they are known here."""

    rows: Rows
    labels: list[LabelRow]
    more_labels: int = 0  # than are listed
    kind: str = "labels"  # classes or attributes


def clean(value: Any) -> str:
    """A value of a run's file as a text of one line that is not long, without secrets of URLs."""
    return within(MOST_BYTES, printable(redact(str(value))))


def about_run(run: Summary, config: Config) -> Rows:
    """How far it is, how large, for how long it trained."""
    network = config.network
    colours = "grey" if network.channels == 1 else "colour"
    shown = f"{kimg(run.nimg, run.total_nimg)} of {kimg(run.total_nimg, run.total_nimg)} kimg"
    rows = [
        ("state", run.state.name),
        ("real images shown", f"{shown} (thousands of images)"),
        ("resolution", f"{run.resolution}x{run.resolution}, {colours}"),
    ]
    if run.resolution < network.resolution:
        rows.append(("planned resolution", f"{network.resolution}x{network.resolution}"))
    if run.hours is not None:
        rows.append(("time of training", human_time(3600 * run.hours)))
    energy = amount(run.tick.get(ENERGY))
    rows.append(("energy", f"{short(energy)} kWh, of GPUs alone" if energy else "not measured"))
    rows.append(("seed", str(config.run.seed)))
    return rows


def metric_rows(run: Summary) -> list[MetricRow]:
    """The metrics in the run's records, those of damaged lines left out."""
    found = metrics_of(run.folder)

    def told(values: dict[int, float], nimg: int) -> str:
        return f"{values[nimg]:.4g} at {kimg(nimg, run.total_nimg)} kimg"

    rows = []
    for name in sorted(filter(is_whole, found)):
        values, wanted = found[name], better(name)
        kind = parts(name)[0]
        choose = {"lower": min, "higher": max}.get(wanted or "")
        best = told(values, choose(values, key=lambda n: values[n])) if choose else ""
        reals = found.get(f"{name}_{REALS[kind]}", {}) if kind in REALS else {}
        floor = f"{reals[max(reals)]:.4g}" if reals else ""
        what = PROTOCOLS[kind].what + (f"; {wanted} is better" if wanted else "")
        rows.append(MetricRow(name, told(values, max(values)), best, floor, what))
    return rows


def environment(run: Summary) -> Rows:
    """Of the newest start; and how often and when the run was started."""
    starts = read_lines(run.folder / STARTS)
    if not starts:
        return []
    last = starts[-1]
    rows = [("begun", day) for day in [day_of(starts[0].get("time"))] if day]
    rows.append(("starts", f"{len(starts):,}"))
    known = ((name, last.get(key)) for key, name in ENVIRONMENT.items())
    texts = ((name, clean(value)) for name, value in known if value not in (None, ""))
    return rows + [(name, text) for name, text in texts if not PATH.search(text)]


def day_of(time: Any) -> str:
    """The day of a time in ISO 8601; empty if it is none."""
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(time).date().isoformat()
    return ""


def prepared_data(identity: str | None, labels: bool) -> Pyramid | None:
    """The prepared data of this identity in progan's own cache; None if they are not there.

    Other folders that a run names are not opened, as a run may come from anybody.
    """
    folders = []
    with suppress(UserError):  # there is no home
        folders = folders_in(pyramids_folder(None)) if identity else []
    for folder in folders:
        with suppress(UserError):
            pyramid = Pyramid.open(folder, labels, workers=0)
            if pyramid.identity == identity:
                return pyramid
            pyramid.close()
    return None


def about_data(config: Config, identity: str | None) -> DataFacts:
    """What is known of the data that a run was trained on.

    Args:
        identity: of the data, as a snapshot has it.
    """
    data = config.data
    name = str(data.source) if data.source in NAMED else "images that are not named here"
    rows = [("data", name), ("trained with labels", "yes" if data.labels else "no")]
    if data.mirror:
        rows.append(("flipped", "half of the images, at random"))
    pyramid = prepared_data(identity, data.labels)
    if pyramid is None:
        absent = "not counted: the prepared data are not in this machine's cache"
        return DataFacts([*rows, ("images", absent)], [])
    with closing(pyramid):
        rows += about_images(pyramid)
        labels = pyramid.labels
    if labels is None:
        return DataFacts(rows, [])
    each = zip(labels.names, labels.counts.tolist(), labels.shares.tolist(), strict=True)
    listed = [LabelRow(clean(n), f"{c:,}", percent(s), s) for n, c, s in each]
    return DataFacts(rows, listed[:MOST_LABELS], len(listed[MOST_LABELS:]), labels.kind)


def about_images(pyramid: Pyramid) -> Rows:
    """How many there are, and how many of them are of no use. No names of files."""
    repeats, size = pyramid.meta.repeats, f"{pyramid.resolution}x{pyramid.resolution}"
    rows = [
        ("images", f"{pyramid.count:,}, prepared up to {size}"),
        ("left out, as unreadable or too small", f"{pyramid.meta.bad:,}"),
    ]
    if not pyramid.meta.checksums:
        return [*rows, ("exact copies", "not known: they were prepared by an older version")]
    rows.append(("exact copies of other images", f"{repeats.copies:,}"))
    if repeats.dropped:
        rows.append(("exact copies that were left out", f"{repeats.dropped:,}"))
    if repeats.contradictory:
        rows.append(("copies with another label", f"{repeats.contradictory:,}"))
    rows.append(("blank images, of a single colour", f"{repeats.blank:,}"))
    return rows
