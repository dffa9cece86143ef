"""Statistics to `stats.jsonl` and trackers (TensorBoard by default)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import LoggerType, get_available_trackers

from progan.config.config import Config, flatten
from progan.runs import board
from progan.runs.records import METRICS, STATS, drop_lines_after
from progan.runtime.disk import DiskError, append, why_write_failed
from progan.runtime.errors import UserError, nearest


def check_tracker(name: str | None) -> None:
    """Raises UserError if Accelerate does not know the tracker, or it is not installed."""
    if name is None:
        return
    known = [t for t in LoggerType.list() if t != "all"]
    if name not in known:
        raise UserError(
            f"run.tracker '{name}' is unknown{nearest(name, known)}; known: {', '.join(known)}"
        )
    if LoggerType(name) not in get_available_trackers():
        raise UserError(
            f"run.tracker '{name}' is not installed: pip install {name.replace('_', '-')}"
        )


class Tracker:
    """Writes statistics, texts and pictures of a run; used by the main process only.

    The step axis is `nimg` everywhere. What a previous start wrote after `nimg` is removed, since
    those images will be shown again.
    """

    def __init__(self, accelerator: Accelerator, run_dir: Path, nimg: int, config: Config):
        self.accelerator = accelerator
        self.run_dir = run_dir
        self.lines: dict[str, str] = {}  # not on the disk yet, by file
        self.scalars: list[tuple[int, dict[str, float]]] = []  # not in the trackers yet
        self.lost = False  # whether TensorBoard's writer has failed
        for name in (STATS, METRICS):
            drop_lines_after(run_dir / name, nimg)
        # Hides an abandoned branch of curves, and at 0 the start of one that saved nothing.
        first = nimg + 1 if nimg else 0
        options = {"tensorboard": {"purge_step": first}}
        name, self.place = run_dir.resolve().name, str(config.run.tracker)
        if config.run.tracker == "tensorboard":
            folder = board.events_folder(run_dir)
            name, self.place = str(folder.relative_to(run_dir)), f"TensorBoard's file in {folder}"
        with self.named():
            accelerator.init_trackers(name, init_kwargs=options)
            for tracker in accelerator.trackers:
                if tracker.name == "tensorboard":
                    board.add_start(tracker.writer, config, run_dir, first)
                else:
                    tracker.store_init_configuration(flatten(config.shared()))
            if board.evaluations_folder(run_dir).is_dir():
                board.write_evaluations(run_dir)

    def log(self, values: dict[str, float], nimg: int, file: str = STATS) -> None:
        """Add a line to a file of the run, and the values to the trackers.

        Raises:
            DiskError, OSError: they could not be written; the next call tries again.
        """
        line = json.dumps({"nimg": nimg, **values}) + "\n"
        self.lines[file] = self.lines.get(file, "") + line
        self.scalars.append((nimg, values))
        self.catch_up()

    def catch_up(self) -> None:
        """Write what could not be written before; raises the errors of `log`."""
        if not self.scalars:
            return
        for name in list(self.lines):
            append(self.run_dir / name, self.lines[name])
            del self.lines[name]
        with self.written():
            for step, scalars in self.scalars:
                for tracker in self.accelerator.trackers:
                    if tracker.name == "tensorboard":
                        board.add_scalars(tracker.writer, scalars, step)
                    else:
                        tracker.log(scalars, step=step)
        self.scalars.clear()

    def log_text(self, name: str, text: str, nimg: int) -> None:
        """Add a text to TensorBoard."""
        with self.written():
            for tracker in self.accelerator.trackers:
                if tracker.name == "tensorboard":
                    tracker.log({name: text}, step=nimg)

    def log_image(self, name: str, resolution: int, image: np.ndarray, nimg: int) -> None:
        """Add a grid, uint8 [C, H, W], to the trackers that take pictures.

        Args:
            resolution: of the images in it.
        """
        pixels = image.transpose(1, 2, 0)
        with self.written():
            for tracker in self.accelerator.trackers:
                if tracker.name == "tensorboard":
                    board.add_picture(tracker.writer, name, resolution, image, nimg)
                elif tracker.name in ("aim", "clearml"):
                    tracker.log_images({name: pixels}, step=nimg)
                elif hasattr(tracker, "log_images"):
                    tracker.log_images({name: [pixels]}, step=nimg)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Flush what TensorBoard is given inside, as its writer keeps events for minutes.

        After a full disk the writer is broken, and a new one takes its place.
        """
        boards = [t for t in self.accelerator.trackers if t.name == "tensorboard"]
        again = self.scalars[0][0] if self.scalars else None
        lost, self.lost = self.lost, True  # until all is written
        with self.named():
            for board in boards if lost else ():
                board.writer = type(board.writer)(board.writer.log_dir, purge_step=again)
            yield
            for board in boards:
                board.writer.flush()
        self.lost = False

    @contextmanager
    def named(self) -> Iterator[None]:
        """Raises DiskError in place of a tracker's errors, which often name no file; and UserError
        for a path that it cannot spell."""
        try:
            yield
        except UnicodeEncodeError:
            raise UserError(
                f"cannot write to {self.place}, as TensorBoard knows UTF-8 only: set PYTHONUTF8=1 "
                "in the environment, or run.tracker=null"
            ) from None
        except OSError as error:
            why = why_write_failed(error, self.run_dir)
            raise DiskError(f"cannot write to {self.place}: {why}") from error
