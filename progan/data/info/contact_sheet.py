"""A contact sheet: one picture of evenly spaced images of a source or a pyramid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from progan.data.decode import BadImage, Square
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


def write_sheet(path: Path, data: Source | Pyramid, good: Sequence[int]) -> None:
    """Writes a PNG of evenly spaced images, whole or not at all: a row for each class, if any.

    Args:
        good: indices of images that can be read.
    """
    labels = data.labels if data.labels and data.labels.kind == "classes" else None
    rows = rows_of(np.asarray(good, np.int64), labels)
    wanted = sorted({i for row in rows for i in row})
    if isinstance(data, Source):
        read = data.read_batch(wanted, Square(CELL, 3, "crop", upscale=True))
    else:
        read = list(data.read(np.array(wanted), min(CELL, data.resolution)))
    images = {i: None if isinstance(x, BadImage) else x for i, x in zip(wanted, read, strict=True)}
    names = captions(labels.names[:MOST_ROWS] if labels else ())
    sheet = arrange([[images[i] for i in row] for row in rows], COLUMNS, CELL, names)
    pixels = np.broadcast_to(sheet, (3, *sheet.shape[1:])).transpose(1, 2, 0)
    sign = PngImagePlugin.PngInfo()
    sign.add_text("Software", SIGN)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    write_atomically(path, lambda temporary: picture.save(temporary, "PNG", pnginfo=sign))


def rows_of(good: np.ndarray, labels: Labels | None) -> list[list[int]]:
    """The indices to show: a row for each class, or eight rows in their order."""
    if labels:
        shown = labels.values[good]
        of_class = [good[shown == k] for k in range(len(labels.names))[:MOST_ROWS]]
        return [some[evenly(len(some), COLUMNS)].tolist() for some in of_class]
    chosen = good[evenly(len(good), COLUMNS**2)].tolist()
    return [chosen[i : i + COLUMNS] for i in range(0, len(chosen), COLUMNS)]
