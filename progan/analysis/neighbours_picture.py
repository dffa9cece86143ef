"""One picture of samples and their nearest training images, a row for each seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from progan.analysis.neighbours import Comparison
from progan.data.dataset import Dataset
from progan.data.decode import box_levels
from progan.model.grid import SMALLEST_CELL
from progan.runtime.pictures import GAP, enlarged, font, in_colour

LARGEST_CELL = 256  # pixels: with larger ones nothing could open a picture of 64 rows
TEXT, FAINT, ALARM = (30, 30, 30), (110, 110, 110), (200, 0, 0)


@dataclass(frozen=True)
class Block:
    """Neighbours by one measure.

    Args:
        title: the heading.
        unit: of the distances, in the line below the picture.
    """

    title: str
    unit: str
    found: Comparison


def draw(
    title: str,
    seeds: Sequence[int],
    samples: np.ndarray,
    blocks: Sequence[Block],
    data: Dataset,
) -> np.ndarray:
    """The picture, uint8 [3, H, W], of samples uint8 [S, C, r, r] and their neighbours at r.

    Images of less than 64 pixels are enlarged pixel by pixel; those of more than 256 are reduced.
    """
    layout = Layout(title, samples.shape[-1], seeds, blocks)
    canvas = Image.new("RGB", layout.size, "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((layout.margin, layout.margin), title, TEXT, layout.bold)
    pen.text((layout.left - 2 * GAP, layout.head), "seed", FAINT, layout.plain, anchor="rs")
    pen.text((layout.left, layout.head), "sample", TEXT, layout.plain, anchor="ls")
    for block, x in zip(blocks, layout.lefts, strict=True):
        pen.text((x, layout.head), block.title, TEXT, layout.plain, anchor="ls")
    resolution = min(samples.shape[-1], LARGEST_CELL)
    small = box_levels(samples, resolution)[resolution]
    for row, (seed, sample) in enumerate(zip(seeds, small, strict=True)):
        y = layout.top(row)
        middle = (layout.left - 2 * GAP, y + layout.cell // 2)
        pen.text(middle, str(seed), TEXT, layout.plain, anchor="rm")
        canvas.paste(layout.picture(sample), (layout.left, y))
        for block, x in zip(blocks, layout.lefts, strict=True):
            images = data.read(block.found.samples.indices[row], resolution)
            draw_neighbours(canvas, layout, block.found, row, images, x)
    for line, text in enumerate(foot(blocks)):
        pen.text((layout.margin, layout.foot(line)), text, FAINT, layout.small)
    return np.asarray(canvas).transpose(2, 0, 1)


def draw_neighbours(
    canvas: Image.Image,
    layout: "Layout",
    found: Comparison,
    row: int,
    images: np.ndarray,
    x: int,
) -> None:
    """Draw one seed's images [K, C, r, r] from x on, each with its distance below."""
    pen, y = ImageDraw.Draw(canvas), layout.top(row)
    nearest = found.samples
    for k, image in enumerate(images):
        flipped = nearest.flipped[row, k]
        canvas.paste(layout.picture(image[..., ::-1] if flipped else image), (x, y))
        text = f"{nearest.distances[row, k]:.1f}" + (" ↔" if flipped else "")
        colour = ALARM if found.near[row, k] else FAINT
        below = (x + layout.cell // 2, y + layout.cell + GAP // 2)
        pen.text(below, text, colour, layout.small, anchor="ma")
        x += layout.step


def foot(blocks: Sequence[Block]) -> list[str]:
    """Lines below the picture: what the numbers are, and what to compare them with."""
    lines = [
        f"{block.title}: {block.unit}; training images to their nearest other: median "
        f"{block.found.yardstick:.1f}"
        for block in blocks
    ]
    marks = "red: less than half of that median"
    if any(block.found.samples.flipped.any() for block in blocks):
        marks += "; ↔: training image flipped"
    return [*lines, marks]


class Layout:
    """Positions of everything, in pixels."""

    def __init__(self, title: str, resolution: int, seeds: Sequence[int], blocks: Sequence[Block]):
        self.cell = min(max(resolution, SMALLEST_CELL), LARGEST_CELL)
        self.step = self.cell + GAP
        self.plain = font("DejaVuSans", max(13, self.cell // 13))
        self.bold = font("DejaVuSans-Bold", max(14, self.cell // 12))
        self.small = font("DejaVuSans", max(11, self.cell // 16))
        self.line = round(1.5 * self.small.size)
        self.margin = 3 * GAP
        self.rows = len(seeds)
        self.head = self.margin + round(3.2 * self.bold.size)  # the headings' baseline
        widest = max(self.plain.getlength(text) for text in ["seed", *map(str, seeds)])
        self.left = self.margin + round(widest) + 2 * GAP
        gap = self.cell // 3
        right = self.left + self.cell
        self.lefts = []
        for block in blocks:
            self.lefts.append(right + gap)
            wide = block.found.samples.indices.shape[1] * self.step - GAP
            right += gap + max(wide, round(self.plain.getlength(block.title)))
        texts = [self.bold.getlength(title), *map(self.small.getlength, foot(blocks))]
        width = max(right, self.margin + round(max(texts))) + self.margin
        self.size = (width, self.foot(len(foot(blocks))) + self.margin - GAP)

    def top(self, row: int) -> int:
        """The upper edge of a row's images."""
        return self.head + 2 * GAP + row * (self.cell + self.line + GAP)

    def foot(self, line: int) -> int:
        """The upper edge of a line below all rows."""
        return self.top(self.rows) + 2 * GAP + line * self.line

    def picture(self, image: np.ndarray) -> Image.Image:
        """uint8 [1 or 3, r, r] as a cell."""
        return Image.fromarray(in_colour(enlarged(image, self.cell)))
