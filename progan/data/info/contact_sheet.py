"""A contact sheet: one picture of evenly spaced images of a source or a pyramid."""

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from progan.data.decode import Square
from progan.data.labels import Labels
from progan.data.pyramid.format import Pyramid
from progan.data.sources.source import Source, evenly
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError
from progan.runtime.pictures import arrange, captions

CELL = 128  # pixels of an image's side
COLUMNS = 8
MOST_ROWS = 32  # only the first classes are shown
SIGN = "progan data info"  # the file's Software, so that no other picture is overwritten

Read = Callable[[list[int]], Iterable[np.ndarray | Exception]]


def check_sheet(path: Path, data: Path | None) -> None:
    """Raises UserError if a sheet must not be written to `path`. data: the images' folder."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--sheet {path}: the sheet is a PNG; give a file ending in .png")
    if not path.parent.is_dir():
        raise UserError(f"--sheet {path}: there is no folder {path.parent}; make it first")
    if data and data.is_dir() and path.resolve().is_relative_to(data.resolve()):
        raise UserError(
            f"--sheet {path} lies among the images of {data} and would become one of them; give "
            "a file elsewhere"
        )
    if not path.exists():
        return
    try:
        with Image.open(path, formats=["PNG"]) as image:
            ours = image.info.get("Software") == SIGN
    except Exception:  # a folder, another kind of file, a broken one
        ours = False
    if not ours:
        raise UserError(
            f"--sheet {path} exists and is no sheet of an earlier `progan data info`; give "
            "another file, or delete it"
        )


def rows_of(good: Sequence[int], labels: Labels | None) -> list[list[int]]:
    """The indices to show: a row for each class, or eight rows in their order."""
    images = np.asarray(good, np.int64)
    if labels and labels.kind == "classes":
        shown = labels.values[images]
        of_class = [images[shown == k] for k in range(len(labels.names))[:MOST_ROWS]]
        return [some[evenly(len(some), COLUMNS)].tolist() for some in of_class]
    chosen = images[evenly(len(images), COLUMNS**2)].tolist()
    return [chosen[i : i + COLUMNS] for i in range(0, len(chosen), COLUMNS)]


def names_of(labels: Labels | None) -> list[str]:
    """Captions of the rows: the classes, or none."""
    return captions(labels.names[:MOST_ROWS] if labels and labels.kind == "classes" else ())


def write_sheet(path: Path, rows: list[list[int]], read: Read, names: Sequence[str] = ()) -> None:
    """Writes a PNG, whole or not at all.

    Args:
        read: indices to images uint8 [3 or 1, s, s], s up to CELL.
        names: of the rows; empty for none.
    """
    wanted = sorted({i for row in rows for i in row})
    shown = {
        i: image if isinstance(image, np.ndarray) else None
        for i, image in zip(wanted, read(wanted), strict=True)
    }
    sheet = arrange([[shown[i] for i in row] for row in rows], COLUMNS, CELL, names)
    pixels = np.broadcast_to(sheet, (3, *sheet.shape[1:])).transpose(1, 2, 0)
    sign = PngImagePlugin.PngInfo()
    sign.add_text("Software", SIGN)
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(data, "PNG", pnginfo=sign)
    write_atomically(path, lambda temporary: temporary.write_bytes(data.getvalue()))


def reader_of(data: Source | Pyramid) -> Read:
    """Reads images as a sheet shows them."""
    if isinstance(data, Source):
        return lambda indices: data.read_batch(indices, Square(CELL, 3, "crop", upscale=True))
    return lambda indices: data.read(np.array(indices), min(CELL, data.resolution))
