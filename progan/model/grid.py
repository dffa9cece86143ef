"""Picture files: grids of many images, and figures."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from progan.runtime.disk import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST_CELL = 64  # pixels; smaller images are enlarged, pixel by pixel, to be seen


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [N, C, r, r] -> one image [C, rows * cell, columns * cell] with cells of 64 or more."""
    n, c, r, _ = images.shape
    zoom = max(1, SMALLEST_CELL // r)
    rows = -(-n // columns)
    canvas = np.zeros((rows * columns, c, r, r), np.uint8)
    canvas[:n] = images
    canvas = canvas.reshape(rows, columns, c, r, r).transpose(2, 0, 3, 1, 4)
    canvas = canvas.reshape(c, rows * r, columns * r)
    return canvas.repeat(zoom, axis=1).repeat(zoom, axis=2)


def save_png(image: np.ndarray, path: Path) -> None:
    """uint8 [C, H, W] with 1 or 3 channels, written whole or not at all."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    write_atomically(path, lambda temporary: temporary.write_bytes(data.getvalue()))


def save_figure(figure: "Figure", path: Path, dpi: int = 120) -> None:
    """Write a figure in the format of the path's suffix, whole or not at all."""
    suffix = path.suffix[1:].lower()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names may be in any script
        write_atomically(path, lambda part: figure.savefig(part, format=suffix, dpi=dpi))
