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
NOTE = 16  # pixels, for a line of text below a cell
LONGEST_NAME = 2.5  # cells; of a longer name, the beginning is shown
MOST_LETTERS = 1000  # of a name that are tried


def arrange(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: int,
    cell: int,
    names: Sequence[str] = (),
    notes: Sequence[Sequence[str]] = (),
) -> np.ndarray:
    """Images uint8 [C, s, s] in rows; the cells that have none are hatched.

    Args:
        rows: of images with 1 or 3 channels, all the same; None is an empty cell.
        cell: side of a cell in pixels; images are enlarged to it by a whole factor.
        names: one for each row, to its left, as `captions` makes them; empty for none.
        notes: below the cells, such as seeds: for each row one for each image; empty for none.

    Returns:
        uint8 [C, H, W].
    """
    channels = next((len(image) for row in rows for image in row if image is not None), 1)
    step = cell + GAP
    down = step + (NOTE if notes else 0)
    labels = drawn(names, cell)
    margin = labels.shape[2]
    height, width = len(rows) * down + GAP, margin + columns * step + GAP
    picture = np.full((channels, height, width), PAPER, np.uint8)
    for y, row in enumerate(rows):
        top = GAP + y * down
        if y < len(names):
            picture[:, top : top + cell, :margin] = labels[y]
        for x in range(columns):
            left = margin + GAP + x * step
            image = row[x] if x < len(row) else None
            if image is None:
                shown: np.ndarray = hatching(cell)
            else:
                shown = enlarged(image, cell)
            picture[:, top : top + cell, left : left + cell] = shown
        for x, note in enumerate(notes[y] if notes else ()):
            left = margin + GAP + x * step
            picture[:, top + cell : top + cell + NOTE, left : left + cell] = note_of(note, cell)
    return picture


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 [C, s, s] to [C, side, side], pixel by pixel, by a whole factor."""
    zoom = side // image.shape[-1]
    return image.repeat(zoom, axis=1).repeat(zoom, axis=2)


def in_colour(image: np.ndarray) -> np.ndarray:
    """uint8 [1 or 3, H, W] to [H, W, 3]."""
    return np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))


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


def drawn(names: Sequence[str], cell: int) -> np.ndarray:
    """Captions of rows as pixels, uint8 [N, cell, width]; without any names the width is 0."""
    if not any(names):
        return np.empty((len(names), cell, 0), np.uint8)
    face = font("DejaVuSans", min(max(11, cell // 8), 32))
    shown = [shortened(name, face, LONGEST_NAME * cell) for name in names]
    width = round(max(map(face.getlength, shown))) + 2 * GAP
    canvases = [Image.new("L", (width, cell), PAPER) for _ in shown]
    for canvas, name in zip(canvases, shown, strict=True):
        middle = (width - GAP, cell // 2)
        ImageDraw.Draw(canvas).text(middle, name, INK, face, anchor="rm")
    return np.stack([np.asarray(canvas) for canvas in canvases])


def note_of(text: str, width: int) -> np.ndarray:
    """A line of text as pixels, uint8 [NOTE, width], in the middle."""
    canvas, face = Image.new("L", (width, NOTE), PAPER), font("DejaVuSans", NOTE - 5)
    middle = (width // 2, NOTE // 2)
    ImageDraw.Draw(canvas).text(middle, shortened(text, face, width), INK, face, anchor="mm")
    return np.asarray(canvas)


def shortened(name: str, face: ImageFont.FreeTypeFont, most: float) -> str:
    """The name, or as much of it as `most` pixels have room for."""
    start = name[:MOST_LETTERS]  # Pillow measures no texts of a million
    if start == name and face.getlength(name) <= most:
        return name
    while start and face.getlength(start + "…") > most:
        start = start[:-1]
    return start + "…"


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
