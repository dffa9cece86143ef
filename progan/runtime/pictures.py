"""One picture of many images, in rows that may have names."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from progan.runtime.text import printable

GAP = 4  # pixels between cells and around them
PAPER, INK = 255, 30  # grey levels
HATCHED = (235, 190)  # its paper and its lines, which no black, white or grey image resembles
LONGEST_NAME = 2.5  # cells; of a longer name, the beginning is shown


def arrange(
    rows: Sequence[Sequence[np.ndarray | None]], columns: int, cell: int, names: Sequence[str] = ()
) -> np.ndarray:
    """Images uint8 [C, s, s] in rows; the cells that have none are hatched.

    Args:
        rows: of images with 1 or 3 channels, all the same; None is an empty cell.
        cell: side of a cell in pixels; images are enlarged to it by a whole factor.
        names: one for each row, to its left, as `captions` makes them; empty for none.

    Returns:
        uint8 [C, H, W].
    """
    channels = next((len(image) for row in rows for image in row if image is not None), 1)
    step = cell + GAP
    labels = Names(names, cell)
    height, width = len(rows) * step + GAP, labels.width + columns * step + GAP
    picture = np.full((channels, height, width), PAPER, np.uint8)
    for y, row in enumerate(rows):
        top = GAP + y * step
        if y < len(names):
            picture[:, top : top + cell, : labels.width] = labels.draw(names[y])
        for x in range(columns):
            left = labels.width + GAP + x * step
            image = row[x] if x < len(row) else None
            if image is None:
                shown: np.ndarray = hatching(cell)
            else:
                zoom = cell // image.shape[-1]
                shown = image.repeat(zoom, axis=1).repeat(zoom, axis=2)
            picture[:, top : top + cell, left : left + cell] = shown
    return picture


def captions(names: Sequence[str]) -> list[str]:
    """Names of classes as a picture can show them: `class 2` if the font lacks its letters."""
    known = letters()
    shown = map(printable, names)
    return [
        name if all(ord(c) in known for c in name) else f"class {k}" for k, name in enumerate(shown)
    ]


def hatching(cell: int) -> np.ndarray:
    """Diagonal lines, uint8 [cell, cell]."""
    y, x = np.mgrid[:cell, :cell]
    paper, line = HATCHED
    return np.where((x + y) % 8 < 2, line, paper).astype(np.uint8)


class Names:
    """Captions of rows as pixels, all of one width."""

    def __init__(self, names: Sequence[str], cell: int):
        self.cell = cell
        self.width = 0
        if any(names):
            self.font = font("DejaVuSans", min(max(11, cell // 8), 32))
            self.most = LONGEST_NAME * cell
            widest = max(self.font.getlength(self.shortened(name)) for name in names)
            self.width = round(widest) + 2 * GAP

    def shortened(self, name: str) -> str:
        """The name, or as much of it as there is room for."""
        if self.font.getlength(name) <= self.most:
            return name
        while name and self.font.getlength(name + "…") > self.most:
            name = name[:-1]
        return name + "…"

    def draw(self, name: str) -> np.ndarray:
        """uint8 [cell, width]."""
        canvas = Image.new("L", (self.width, self.cell), PAPER)
        if self.width:
            middle = (self.width - GAP, self.cell // 2)
            pen = ImageDraw.Draw(canvas)
            pen.text(middle, self.shortened(name), INK, self.font, anchor="rm")
        return np.asarray(canvas)


def font_file(name: str) -> Path:
    """A font that comes with matplotlib, so the same one on every machine."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


@functools.cache
def letters() -> Mapping[int, int]:
    """The characters that captions can have."""
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(font_file("DejaVuSans"))).get_charmap()


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(name), size)
