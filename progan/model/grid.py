"""Picture files: grids of many images, and figures."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from progan.runtime.disk import write_atomically
from progan.runtime.pictures import arrange
from progan.runtime.provenance import Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = {  # what images are written as, by suffix
    **{".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"},
    **{".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"},
}
SMALLEST_CELL = 64  # pixels; smaller images are enlarged, pixel by pixel, to be seen


def grid(images: np.ndarray, columns: int, names: Sequence[str] = ()) -> np.ndarray:
    """uint8 [N, C, r, r] -> one image [C, H, W] with cells of 64 or more, row by row.

    names: of the rows, which then stand to their left.
    """
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    return arrange(rows, columns, cell_of(images.shape[-1]), names)


def cell_of(resolution: int) -> int:
    """The side in which a grid shows an image of this resolution, in pixels."""
    return resolution * max(1, SMALLEST_CELL // resolution)


def save_picture(image: np.ndarray, path: Path, made_by: Provenance | None = None) -> None:
    """uint8 [C, H, W], 1 or 3 channels, in the format of the path's suffix, whole or not at all.

    made_by: what a picture with generated images says of itself.
    """
    data = encoded(image, PICTURES[path.suffix.lower()], made_by)
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def encoded(image: np.ndarray, kind: str, made_by: Provenance | None = None) -> bytes:
    """The content of the file that `save_picture` writes; `kind` is Pillow's name of the format."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    data = io.BytesIO()
    marks = made_by.save_options(kind) if made_by else {}
    # Quality and lossless: where the format has such.
    Image.fromarray(pixels).save(data, format=kind, quality=95, lossless=True, **marks)
    return data.getvalue()


def save_figure(figure: "Figure", path: Path, dpi: int = 120) -> None:
    """Write a figure in the format of the path's suffix, whole or not at all."""
    suffix = path.suffix[1:].lower()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names may be in any script
        write_atomically(path, lambda part: figure.savefig(part, format=suffix, dpi=dpi))
