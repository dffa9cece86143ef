"""A run's files for TensorBoard: curves and pictures with descriptions, charts, texts, settings.

TensorBoard names a run after the folder of its event files. They lie in the run's own folder, so
`tensorboard --logdir runs` calls the run by its name.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_BLOB_SEQUENCE,
    DATA_CLASS_SCALAR,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams, image

from progan.config.config import Config, flatten
from progan.config.phase_text import phase_rows
from progan.runs.charts import about, is_drawn, layout
from progan.runs.folder import EVENTS, fixed_settings
from progan.runs.records import LATER, METRICS, SECTION, lines_of, metrics_in
from progan.runs.which_run import STARTS
from progan.runtime.disk import read_lines


def events_folder(run_dir: Path) -> Path:
    """Where a run's curves are: in its own folder; of older versions in `tensorboard/`."""
    old = run_dir / "tensorboard"
    return old if old.is_dir() else run_dir


def evaluations_folder(run_dir: Path) -> Path:
    """Where those of `progan evaluate` are.

    A folder of their own, as TensorBoard may follow only the newest file of a folder, which may
    belong to a training that goes on.
    """
    folder = events_folder(run_dir)
    old = folder / "evaluate"
    return old if folder != run_dir and old.is_dir() else folder / "evaluated"


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Inside, TensorBoard's threads print no traceback where they cannot write, as on a full disk.

    Whoever gives them something to write gets their error, too.
    """
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        module = type(failed.thread).__module__
        if not (module.startswith("tensorboard.") and issubclass(failed.exc_type, OSError)):
            before(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def add_scalars(writer: SummaryWriter, values: dict[str, float], nimg: int) -> None:
    """Add a point to each curve; `SummaryWriter.add_scalar` takes no description."""
    found = []
    for tag, value in values.items():
        if is_drawn(tag, value):
            metadata = described(tag, "scalars", DATA_CLASS_SCALAR)
            found.append(Summary.Value(tag=tag, simple_value=value, metadata=metadata))
    add_summary(writer, Summary(value=found), nimg)


def add_picture(
    writer: SummaryWriter, name: str, resolution: int, picture: np.ndarray, nimg: int
) -> None:
    """Add a grid, uint8 [C, H, W], to those of its resolution.

    TensorBoard keeps ten pictures of a tag. With a tag for each resolution it shows all stages.
    """
    made = image("", picture, dataformats="CHW").value[0].image
    # TensorBoard's fast reader drops the description of a picture that is no tensor of strings.
    parts = [str(made.width).encode(), str(made.height).encode(), made.encoded_image_string]
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(parts))])
    value = Summary.Value(
        tag=f"Samples/{resolution}x{resolution}/{name}",
        tensor=TensorProto(dtype="DT_STRING", string_val=parts, tensor_shape=shape),
        metadata=described(name, "images", DATA_CLASS_BLOB_SEQUENCE),
    )
    add_summary(writer, Summary(value=[value]), nimg)


def add_summary(writer: SummaryWriter, summary: Summary, step: int) -> None:
    file: Any = writer.file_writer  # torch annotates it as None
    file.add_summary(summary, step)


def described(tag: str, plugin: str, data_class: Any) -> SummaryMetadata:
    """What TensorBoard has to know of a tag: its description, who draws it, and its form."""
    data = SummaryMetadata.PluginData(plugin_name=plugin)
    text = about(tag)
    return SummaryMetadata(summary_description=text, plugin_data=data, data_class=data_class)


def add_start(writer: SummaryWriter, config: Config, run_dir: Path, step: int) -> None:
    """Add what a start says of itself: charts, texts, and settings to compare runs by.

    Only these settings are written, and no list of metrics: TensorBoard then compares all curves
    that the runs have, by their last values. A list would hold for all runs, whatever they have.
    """
    writer.add_custom_scalars(layout(config.run.metrics))
    for name, text in texts(config, run_dir).items():
        writer.add_text(f"run/{name}", text, step)
    settings = flatten(fixed_settings(config))
    _, session, _ = hparams({key: plain(value) for key, value in settings.items()}, {})
    add_summary(writer, session, step)


def plain(value: Any) -> float | str:
    """A setting as TensorBoard takes it: a number, or a text as in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, int | float) else str(value)


def texts(config: Config, run_dir: Path) -> dict[str, str]:
    """Command, versions, schedule and settings, in Markdown."""
    found = {}
    for start in read_lines(run_dir / STARTS)[-1:]:
        found["command"] = code(str(start.pop("command", "")))
        rows = [["", ""], *([key, str(v)] for key, v in start.items() if v is not None)]
        found["versions"] = markdown(rows)
    found["schedule"] = markdown(phase_rows(config.make_schedule()))
    found["settings"] = code(config.to_yaml())
    return found


def code(text: str) -> str:
    """A block of code: in Markdown, lines that begin with four spaces."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def markdown(rows: list[list[str]]) -> str:
    """A table; its first row is the header."""
    header, *more = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([header, "|---" * len(rows[0]) + "|", *more])


@quiet_writers()
def write_evaluations(run_dir: Path) -> None:
    """Write what `progan evaluate` has found, from `metrics.jsonl`, in place of an older file.

    Always all of it, in order: TensorBoard drops points that a smaller step follows.
    """
    folder = evaluations_folder(run_dir)
    old = list(folder.glob(EVENTS))
    found: dict[int, dict[str, float]] = {}
    for nimg, line in lines_of(run_dir / METRICS):
        if line.get(LATER):
            found.setdefault(nimg, {}).update(metrics_in(line))
    if found:
        with SummaryWriter(str(folder), purge_step=0) as writer:
            writer.add_custom_scalars(layout(chain(*found.values())))
            for nimg in sorted(found):
                tagged = {SECTION + name: value for name, value in found[nimg].items()}
                add_scalars(writer, tagged, nimg)
    for file in old:
        file.unlink(missing_ok=True)
