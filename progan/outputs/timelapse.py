"""The same samples through a whole training, as frames of a video."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from progan.config.schedule import Schedule
from progan.data.labels import Labels
from progan.model.grid import cell_of
from progan.model.sampling import MOST_ROWS, generate, grid_layout
from progan.outputs.video_file import check_video, counted, write_video
from progan.runs.folder import read_config
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot
from progan.runs.which_snapshot import snapshots_of
from progan.runtime.disk import read_plain
from progan.runtime.errors import UserError, brief
from progan.runtime.pictures import GAP, INK, LONGEST_NAME, PAPER, arrange, captions, font
from progan.runtime.progress import Say, progress_bar
from progan.runtime.provenance import Provenance
from progan.runtime.text import kimg, kimg_of, stage_text

Pace = Literal["images", "phases"]
Rows = Sequence[Sequence[np.ndarray]]

WIDEST = 1100  # pixels of a frame, where at least two samples fit beside each other
HOLD = 2  # seconds for which the end is shown
MOST_BYTES = 100_000_000  # of a grid's file, which takes 13 million at most


@dataclass(frozen=True)
class Moment:
    """A moment of a run, and the grid or the snapshot that shows it."""

    file: Path
    nimg: int
    resolution: int
    alpha: float | None


def moments_of(run_dir: Path, schedule: Schedule) -> list[Moment]:
    """What there is of a run, oldest first: grids; snapshots where there is no grid.

    Grids come at every tick, and are the images that training made. Snapshots are fewer, and
    making images of them takes time.

    Raises:
        UserError: there are fewer than two moments.
    """
    found = known_moments(run_dir, schedule)
    if len(found) < 2:
        raise UserError(
            f"{run_dir} has {len(found)} grids and snapshots, and a timelapse needs two or more: "
            "images/fakes-*.png, one for each tick, or snapshots"
        )
    return found


def known_moments(run_dir: Path, schedule: Schedule) -> list[Moment]:
    """`moments_of`, however many there are."""
    grids = sorted((run_dir / "images").glob("fakes-*.png"))
    files = {kimg_of(file): file for file in (*snapshots_of(run_dir), *grids)}
    known = sorted((round(1000 * kimg), file) for kimg, file in files.items() if not isnan(kimg))
    return [Moment(file, nimg, *schedule.reached(nimg)) for nimg, file in known]


def lengths(moments: Sequence[Moment], schedule: Schedule, pace: Pace, frames: int) -> list[int]:
    """For how many frames each moment is shown, until the next one; the last for none."""

    def position(moment: Moment) -> float:
        if pace == "images":
            return moment.nimg
        phase = schedule.at(max(moment.nimg - 1, 0))
        length = schedule.end_of(phase) - phase.start_nimg
        return schedule.phases.index(phase) + (moment.nimg - phase.start_nimg) / length

    at = np.array([position(moment) for moment in moments])
    starts = np.rint((at - at[0]) / (at[-1] - at[0]) * frames).astype(int)
    return [*np.diff(starts).tolist(), 0]


class Layout:
    """What all frames of a timelapse share: their samples, and the size of each.

    Args:
        labels: of the run; None without labels.
    """

    def __init__(self, moments: Sequence[Moment], total_nimg: int, labels: Labels | None):
        resolutions = {moment.resolution for moment in moments}
        self.total_nimg = total_nimg
        self.labels = labels
        self.has_rows = labels is not None and labels.kind == "classes"  # one for each class
        self.cell = max(map(cell_of, resolutions))
        most = max(2, WIDEST // (self.cell + GAP))
        self.columns = min(most, *(grid_layout(r, None)[2] for r in resolutions))
        names = captions(labels.names[:MOST_ROWS]) if labels and self.has_rows else []
        self.names = names[:most]
        self.height = len(self.names) or self.columns  # in rows

    def frame(self, moment: Moment) -> np.ndarray:
        """uint8 [H, W, 3]."""
        rows = made(moment) if moment.file.suffix == ".safetensors" else cut(moment)
        if self.has_rows:
            shared: Rows = [row[: self.columns] for row in rows[: self.height]]
        else:  # seeds from 0 on, row by row, in rows that were longer at smaller resolutions
            seeds = [image for row in rows for image in row]
            starts = range(0, self.columns * self.height, self.columns)
            shared = [seeds[start : start + self.columns] for start in starts]
        picture = arrange(shared, self.columns, self.cell, self.names)
        return under_a_line(
            picture, stage_text(moment.resolution, moment.alpha), self.shown(moment)
        )

    def shown(self, moment: Moment) -> str:
        return f"{kimg(moment.nimg, self.total_nimg)} kimg"


def made(moment: Moment) -> Rows:
    """The samples of a snapshot, in the rows of a grid."""
    snapshot = load_snapshot(moment.file)
    labels = None if snapshot.labels is None else snapshot.labels.values
    seeds, rows, columns = grid_layout(snapshot.resolution, labels)
    images = generate(snapshot.G, seeds, rows, snapshot.resolution, snapshot.alpha)
    return [list(images[start : start + columns]) for start in range(0, len(images), columns)]


def cut(moment: Moment) -> Rows:
    """The samples in a grid's file, uint8 [C, r, r] in its rows, as small as they were made.

    Raises:
        UserError: it cannot be read, or has another size than a grid of this resolution.
    """
    r, file = moment.resolution, moment.file
    cell, columns = cell_of(r), grid_layout(r, None)[2]
    step = cell + GAP
    try:
        if os.lstat(file).st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        with Image.open(io.BytesIO(read_plain(file)), formats=["PNG"]) as image:
            (width, height), most = image.size, max(MOST_ROWS, columns)
            count, rest = divmod(height - GAP, step)
            margin = width - GAP - columns * step  # with names of classes
            wide = not 0 <= margin <= LONGEST_NAME * cell + 3 * GAP
            if rest or not 0 < count <= most or wide or image.mode not in ("L", "RGB"):
                raise ValueError(f"its size, {width}x{height}, is no grid's of {r}x{r}")
            pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{file} is no grid of this run ({brief(error)}); move it away to go without it"
        ) from None
    zoom = cell // r
    tops = range(GAP, height, step)
    lefts = range(margin + GAP, width, step)
    return [
        [pixels[:, top : top + cell : zoom, left : left + cell : zoom] for left in lefts]
        for top in tops
    ]


def under_a_line(picture: np.ndarray, left: str, right: str) -> np.ndarray:
    """A picture [C, H, W] as [H + line, W, 3], with texts above it."""
    channels, height, width = picture.shape
    face = font("DejaVuSans", min(32, max(9, width // 28)))
    line = 2 * round(0.9 * face.size)  # even, as sides must be in an .mp4
    canvas = Image.new("L", (width, line), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((GAP, line // 2), left, INK, face, anchor="lm")
    pen.text((width - GAP, line // 2), right, INK, face, anchor="rm")
    head = np.broadcast_to(np.asarray(canvas)[..., None], (line, width, 3))
    below = np.broadcast_to(picture.transpose(1, 2, 0), (height, width, 3))
    return np.concatenate([head, below])


def labels_of(run_dir: Path, snapshot: Snapshot | None) -> Labels:
    """The labels of a run that has some, from its newest snapshot, if there is one.

    Raises:
        UserError: it has no snapshot yet.
    """
    labels = snapshot.labels if snapshot else None
    if labels is None:
        raise UserError(
            f"{run_dir} was trained with labels, and only a snapshot says which they are; wait for "
            "its first one (run.snapshot_ticks)"
        )
    return labels


def write_timelapse(
    run_dir: Path, out: Path, seconds: float, fps: int, pace: Pace, say: Say = None
) -> None:
    """Write a video of the samples that a run has shown, from its first grid to its last.

    The last picture stands for two seconds more. See `moments_of` for what is shown.

    Args:
        seconds: until the last picture.
        pace: what has the same time: equal numbers of images, or each phase of the schedule.
        say: for a line beforehand, and the progress.

    Raises:
        UserError: the folder is no run, there is too little in it, a grid cannot be read, or there
            can be no such file.
        DiskError: the video could not be written.
    """
    frames = check_video(out, fps, seconds)
    config = read_config(run_dir, [])
    schedule = config.make_schedule()
    moments = moments_of(run_dir, schedule)
    files = snapshots_of(run_dir) if config.data.labels else []
    newest = load_snapshot(files[-1]) if files else None
    labels = labels_of(run_dir, newest) if config.data.labels else None
    layout = Layout(moments, schedule.total_nimg, labels)
    counts = lengths(moments, schedule, pace, frames)
    counts[-1] = HOLD * fps
    shown = [(moment, count) for moment, count in zip(moments, counts, strict=True) if count]
    first, last = (f"{moment.nimg / 1000:g}" for moment in (moments[0], moments[-1]))
    if say:
        size = f"{layout.columns} x {layout.height} samples"
        length = f"{seconds + HOLD:g} s at {fps} frames a second"
        say(f"{len(shown):,} pictures, each of {size}, from {first} to {last} kimg: {length}")

    pictures = ((layout.frame(moment), count) for moment, count in shown)
    with progress_bar("timelapse", len(shown), 0, say, "pictures") as done:
        write_video(out, counted(pictures, done), fps, Provenance({"kimg": f"{first} to {last}"}))
