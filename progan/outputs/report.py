"""A page about a run that needs no other file, and a model card for Hugging Face."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from progan import __version__
from progan.config.phase_text import phase_rows
from progan.config.schedule import Schedule
from progan.data.labels import Labels
from progan.outputs.animations import write_webp
from progan.outputs.model_card import CARD, SAMPLES, about_snapshot, render, render_card
from progan.outputs.report_curves import INK, charts_of, draw
from progan.outputs.report_facts import about_data, about_run, clean, environment, metric_rows
from progan.outputs.timelapse import Layout, Moment, known_moments, labels_of, lengths
from progan.runs.folder import base_name, read_config
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, without_places
from progan.runs.summary import Summary, of_whole
from progan.runs.which_snapshot import snapshots_of
from progan.runtime.disk import check_room, write_atomically
from progan.runtime.errors import UserError
from progan.runtime.paths import check_new_folder
from progan.runtime.progress import Say, progress_bar
from progan.runtime.provenance import Provenance

PAGE = "report.html"
MOST_FRAMES, FPS, SECONDS = 48, 8, 6  # of the timelapse; its last picture stands for 2 seconds more
WIDEST, WIDEST_FRAME = 1100, 400  # pixels of a grid, and of a frame
SHARP = 32  # up to this resolution pixels are enlarged, and files without loss are small
SVG = "image/svg+xml"


@dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Args:
        data: the file's content.
        kind: its media type.
        text: what it shows, for those who cannot see it.
    """

    data: bytes
    kind: str
    text: str

    @property
    def uri(self) -> Markup:
        return Markup(f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}")


@dataclass(frozen=True)
class Report:
    """Files by their names in a folder."""

    page: str
    card: str
    samples: bytes | None


def make_report(run_dir: Path, neighbours: np.ndarray | None = None, say: Say = None) -> Report:
    """Gather what a run's own files tell, and what progan's cache knows of its data.

    Args:
        neighbours: a picture of samples beside their nearest training images, uint8 [3, H, W].
            None: the report has no training image.
        say: for the progress.

    Raises:
        UserError: the folder is no run, or a grid or the newest snapshot cannot be read.
    """
    config = read_config(run_dir, [])
    run, schedule = of_whole(run_dir, config), config.make_schedule()
    files = snapshots_of(run_dir)
    snapshot = load_snapshot(files[-1]) if files else None
    pictures = draw_pictures(run, schedule, config.data.labels, snapshot, say)
    name = clean(base_name(run_dir.resolve()))
    facts: dict[str, Any] = {
        "run": about_run(run, config),
        "complete": run.nimg >= run.total_nimg,
        "phases": phase_rows(schedule),
        "metrics": metric_rows(run),
        "data": about_data(config, snapshot.data if snapshot else None),
        "environment": environment(run),
        "settings": without_places(config).to_yaml(),
        "snapshot": snapshot and about_snapshot(snapshot),
        "neighbours": None if neighbours is None else from_pixels(neighbours),
        **pictures,
    }
    page = render("report.html.j2", name=name, version=__version__, **facts)
    licence = snapshot.licence if snapshot else None
    card = render_card(name, licence, imported=False, source=None, **facts)
    grids = pictures["grids"]
    return Report(page, card, grids[-1].data if grids else None)


def draw_pictures(
    run: Summary, schedule: Schedule, has_labels: bool, snapshot: Snapshot | None, say: Say
) -> dict[str, Any]:
    """The pictures that the run's own files give, by the names that the templates have for them.

    Args:
        snapshot: the newest.
    """
    moments, labels = known_moments(run.folder, schedule), None
    if has_labels and snapshot:
        labels = labels_of(run.folder, snapshot)
    elif has_labels:  # only a snapshot says what the grids of a young run show
        moments = []
    stages, charts = last_of_each_stage(moments), list(charts_of(run))
    if say:
        film = " and a timelapse" if len(moments) > 1 else ""
        say(f"drawing {len(stages)} stages, {len(charts)} charts{film}")
    with progress_bar("report", len(stages) + len(charts) + 1, 0, say, "pictures") as done:
        grids = []
        for moment in stages:
            grids.append(grid_picture(moment, schedule, labels))
            done(1)
        curves = []
        for chart in charts:
            both = (Picture(draw(chart, s), SVG, f"Curve: {chart.title}") for s in INK)
            curves.append((chart, *both))
            done(1)
        moving = timelapse_picture(moments, schedule, labels)
        done(1)
    return {"grids": grids, "curves": curves, "timelapse": moving}


def last_of_each_stage(moments: Sequence[Moment]) -> list[Moment]:
    """The newest moment of each resolution, in their order."""
    return list({moment.resolution: moment for moment in moments}.values())


def reduced(pixels: np.ndarray, widest: int) -> np.ndarray:
    """A picture [H, W, 3] that is no wider than this."""
    height, width, _ = pixels.shape
    if width <= widest:
        return pixels
    size = widest, max(1, round(height * widest / width))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def grid_picture(moment: Moment, schedule: Schedule, labels: Labels | None) -> Picture:
    """The samples of one moment, made anew of their pixels: nothing else of the file is kept."""
    layout = Layout([moment], schedule.total_nimg, labels)
    pixels = reduced(layout.frame(moment), WIDEST)
    kimg, r = layout.shown(moment), moment.resolution
    marks = Provenance({"kimg": kimg}).save_options("WEBP")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=r <= SHARP, quality=85, **marks)
    return Picture(file.getvalue(), "image/webp", f"Samples at {r}x{r}, after {kimg}")


def timelapse_picture(
    moments: Sequence[Moment], schedule: Schedule, labels: Labels | None
) -> Picture | None:
    """A small animation of the same samples through training; None if there is one moment only."""
    if len(moments) < 2:
        return None
    places = np.linspace(0, len(moments) - 1, min(len(moments), MOST_FRAMES)).round().astype(int)
    some = [moments[place] for place in places]
    layout = Layout(some, schedule.total_nimg, labels)
    counts = lengths(some, schedule, "phases", FPS * SECONDS)
    counts[-1] = 2 * FPS
    frames = (
        (reduced(layout.frame(moment), WIDEST_FRAME), count)
        for moment, count in zip(some, counts, strict=True)
        if count
    )
    first, last = layout.shown(some[0]), layout.shown(some[-1])
    file = io.BytesIO()
    write_webp(file, frames, FPS, Provenance({"kimg": f"{first} to {last}"}))
    text = f"Animation: the same samples from {first} to {last}"
    return Picture(file.getvalue(), "image/webp", text)


def from_pixels(pixels: np.ndarray) -> Picture:
    """The picture of nearest neighbours."""
    file = io.BytesIO()
    marks = Provenance({}, composite=True).save_options("WEBP")
    whole = pixels.transpose(1, 2, 0)
    Image.fromarray(whole).save(file, "WEBP", quality=85, **marks)
    return Picture(file.getvalue(), "image/webp", "Samples next to their nearest training images")


def check_out(out: Path) -> list[Path]:
    """The files that a report writes to `out`, a folder or an .html, before any work.

    Raises:
        UserError: it cannot be, or there is a README.md that people may have written in.
    """
    if out.suffix.lower() in (".html", ".htm") and not out.is_dir():
        if not out.parent.is_dir():
            raise UserError(f"--out {out}: there is no folder {out.parent}")
        check_room(out)
        return [out]
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder, or a file that ends in .html")
    check_new_folder(out, "--out")
    if (out / CARD).exists() or (out / CARD).is_symlink():
        raise UserError(
            f"{out / CARD} is there already, and what was filled in would be lost: give another "
            f"--out, move it away, or write the page alone: --out {out / PAGE}"
        )
    files = [out / PAGE, out / CARD, out / SAMPLES]
    for file in files:
        check_room(file)
    return files


def write_report(report: Report, files: Sequence[Path]) -> None:
    """Write the files that `check_out` has listed, each whole or not at all.

    Raises:
        DiskError: one could not be written.
    """
    contents = report.page.encode(), report.card.encode(), report.samples
    for path, content in zip(files, contents, strict=False):  # the page alone, or all
        if content is not None:
            write_atomically(path, partial(Path.write_bytes, data=content))
