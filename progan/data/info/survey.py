"""What a source, a pyramid or an unfinished one holds. Nothing is printed or written here."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from progan.config.schedule import MAX_RESOLUTION, resolutions_to
from progan.data.decode import BadImage, Box, Content, Square, open_image, read_square, upright_size
from progan.data.pyramid.format import BAD_FILES, Pyramid
from progan.data.pyramid.plan import Plan, make_plan
from progan.data.pyramid.writer import read_journal
from progan.data.sources.source import Source
from progan.data.workers import Workers, cores
from progan.runtime.errors import UserError
from progan.runtime.progress import progress_bar

HEADERS = 1000  # images whose size is looked at to choose a resolution
NEARLY_ALL = 100  # all but one in so many
MAX_BAD = 100  # images that prepare leaves out unless --max-bad says otherwise
PIECE = 16  # images that a worker looks at before it reports
FEW = 64  # images are looked at here before workers have even started
ANY_SIZE = Square(4, 3, "crop", upscale=True)  # what any image that can be used can be made into
ORIENTATION = 0x0112  # in EXIF


class Look(NamedTuple):
    """One image: why it is bad, if it is; upright size and kind (`JPEG RGB`) if it has them.

    values: smallest, largest and possible, of arrays and of images of 16 bits that were decoded.
    """

    bad: str
    size: tuple[int, int] | None = None
    kind: str = ""
    turned: bool = False
    values: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Looker:
    """A worker's job. decode: read images to their ends, to know that they can be used."""

    source: Source
    decode: bool = True

    def __call__(self, indices: Sequence[int]) -> list[Look]:
        return [self._look(i) for i in indices]

    def _look(self, i: int) -> Look:
        try:
            return look_at(self.source.load(i), self.decode)
        except BadImage as error:
            return Look(str(error))


def look_at(content: Content, decode: bool) -> Look:
    """See `Looker`. Raises BadImage if it cannot even be opened."""
    try:
        image = open_image(content)
        turned = image.getexif().get(ORIENTATION, 1) > 1
        maker = content.dtype.name if isinstance(content, np.ndarray) else image.format
        look = Look("", upright_size(image), f"{maker or 'image'} {image.mode}", turned)
    except Exception:  # as broken files have it; what follows says it in words
        read_square(content, ANY_SIZE)
        raise
    try:
        if decode:
            read_square(image, ANY_SIZE)
            look = look._replace(values=_range(content, image))
    except BadImage as error:
        return look._replace(bad=str(error))
    return look


def _range(content: Content, image: Image.Image) -> tuple[int, int, int] | None:
    array = isinstance(content, np.ndarray)
    if not array and not image.mode.startswith("I"):
        return None
    x = content if array else np.asarray(image)
    return int(x.min()), int(x.max()), 255 if x.dtype == np.uint8 else 65535


@dataclass(frozen=True)
class Survey:
    """What was seen of images: counts of (width, height) and of kinds, of those that are good.

    turned: images that EXIF turns. bad: why, by index. headers: the sizes, by index, that preparing
    looks at to choose a resolution. values: smallest, largest and possible; see `Look`.
    """

    seen: int
    sizes: Counter[tuple[int, int]]
    kinds: Counter[str]
    turned: int
    bad: dict[int, str]
    headers: dict[int, tuple[int, int]] = field(default_factory=dict)
    values: tuple[int, int, int] | None = None

    @property
    def not_square(self) -> int:
        return sum(n for (width, height), n in self.sizes.items() if width != height)


def survey(
    source: Source, workers: int | None = None, say: Callable[[str], None] | None = None
) -> Survey:
    """Every image, decoded. workers: processes that do it; None: one a core."""
    ranges = [
        range(start, min(start + PIECE, len(source))) for start in range(0, len(source), PIECE)
    ]
    if workers is None:
        workers = 0 if len(source) <= FEW else min(cores(), len(ranges))
    looks: list[Look] = []
    with (
        progress_bar(f"looking at {source.name}", len(source), 0, say) as advance,
        Workers(Looker(replace(source, labels=None)), workers) as pool,
    ):
        for piece in pool.map(ranges):
            looks += piece
            advance(len(piece))
    return _sum_up(range(len(source)), looks)


def survey_headers(source: Source, limit: int = HEADERS) -> Survey:
    """Some images, spread evenly over the source, as far as their first bytes tell."""
    indices = evenly(len(source), limit)
    with Workers(Looker(source, decode=False), 0) as here:
        return _sum_up(
            indices, [look for looks in here.map([[i] for i in indices]) for look in looks]
        )


def _sum_up(indices: Sequence[int], looks: list[Look]) -> Survey:
    good = [look for look in looks if not look.bad]
    chosen = evenly(len(looks), HEADERS)  # of a bad file's body nothing can be seen in its header
    values = list(zip(*(look.values for look in good if look.values), strict=True))
    return Survey(
        len(looks),
        Counter(look.size for look in good),
        Counter(look.kind for look in good),
        sum(look.turned for look in good),
        {i: look.bad for i, look in zip(indices, looks, strict=True) if look.bad},
        {indices[k]: looks[k].size for k in chosen if looks[k].size},
        (min(values[0]), max(values[1]), max(values[2])) if values else None,
    )


def evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` indices, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def side_of(size: tuple[int, int], fit: str | Box) -> int:
    """Of the square that is taken; 0 if the image does not hold it."""
    if isinstance(fit, str):
        return min(size) if fit == "crop" else max(size)
    x, y, side = fit
    return side if x + side <= size[0] and y + side <= size[1] else 0


class Choice(NamedTuple):
    """A resolution, and which of the images looked at are too small for it, the smallest first."""

    resolution: int
    too_small: list[int]


def choose(
    sizes: Mapping[int, tuple[int, int]],
    count: int,
    fit: str | Box = "crop",
    max_bad: int = MAX_BAD,
) -> Choice | None:
    """The largest power of two up to 1024 that nearly all images have; None if even 4 is not.

    Too small may be one in NEARLY_ALL of those looked at, rounded up, so that one odd image decides
    nothing; but never half of them, nor more than stand for `max_bad` of all.

    Args:
        sizes: of the images looked at, by index. count: of all images.
    """
    sides = {i: side_of(size, fit) for i, size in sizes.items()}
    most = min(-(-len(sides) // NEARLY_ALL), max_bad * len(sides) // max(count, 1))
    for resolution in reversed(resolutions_to(MAX_RESOLUTION)):
        small = [i for i, side in sides.items() if side < resolution]
        if len(small) <= most and 2 * len(small) < len(sides):
            return Choice(resolution, sorted(small, key=lambda i: (sides[i], i)))
    return None


def choose_resolution(source: Source, fit: str | Box, max_bad: int) -> tuple[int, str]:
    """The largest that nearly all images have, and what there is to say of it. See `choose`.

    UserError if there is none.
    """
    seen = survey_headers(source)
    choice = choose(seen.headers, len(source), fit, max_bad)
    if choice:
        r, left_out = choice.resolution, left_out_line(choice, source, seen)
        looked_at = f"({seen.seen:,} of {len(source):,} looked at)"
        said = f"{r}x{r} is the largest resolution that nearly all images have {looked_at}"
        return r, f"{said}; {left_out}" if left_out else said
    if not seen.sizes:
        i, why = next(iter(seen.bad.items()))
        raise UserError(
            f"{source.name}: none of {seen.seen} images looked at can be read "
            f"({source.item_name(i)}: {why}); mend or replace them"
        )
    size = min(seen.sizes, key=lambda size: side_of(size, fit))
    lacks, remedy = "are smaller than 4x4", "enlarge them with --allow-upscale --max-resolution 4"
    if not isinstance(fit, str):
        x, y, side = fit
        lacks, remedy = f"do not hold the crop {x},{y},{side}", "take another --crop"
    raise UserError(
        f"{source.name}: too many images {lacks} (one has {size[0]}x{size[1]}); remove them, or "
        f"{remedy}"
    )


def left_out_line(choice: Choice, source: Source, seen: Survey) -> str:
    """How many images looked at are too small, with the smallest two; nothing if none is."""
    small = choice.too_small
    if not small:
        return ""
    named = [f"{source.item_name(i)}, {'x'.join(map(str, seen.headers[i]))}" for i in small[:2]]
    return f"{len(small):,} smaller will be left out ({'; '.join(named + ['…'][: len(small) > 2])})"


def plans(source: Source, resolution: int, channels: int) -> tuple[Plan, Plan]:
    """What a pyramid would take with all levels as arrays, and with PNG records."""
    square = Square(resolution, channels, "crop", upscale=True)
    return make_plan(source, square, "raw", 0), make_plan(source, square, "png", 0)


class ClassShare(NamedTuple):
    """Images that have a class or an attribute, and the share of all."""

    name: str
    count: int
    share: float


def label_shares(classes: Sequence[str], labels: np.ndarray | None) -> list[ClassShare]:
    """Of each class (labels [N]) or attribute (labels [N, K])."""
    if labels is None:
        return []
    counts = labels.sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
    return [
        ClassShare(name, count, count / len(labels))
        for name, count in zip(classes, counts.tolist(), strict=True)
    ]


class Level(NamedTuple):
    resolution: int
    size: int  # bytes
    png: bool


def levels_of(pyramid: Pyramid) -> list[Level]:
    """What is on the disk, a level each."""
    found = []
    for r in resolutions_to(pyramid.resolution):
        files = [f for f in pyramid.path.glob(f"{r:04d}.*")]
        found.append(Level(r, sum(f.stat().st_size for f in files), r in pyramid.meta.png))
    return found


def bad_lines(path: Path) -> list[str]:
    """`name: reason` of each image that was left out."""
    try:
        return (path / BAD_FILES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


class Unfinished(NamedTuple):
    """How far a preparation came: images of how many, bad ones among them, largest level."""

    done: int
    total: int
    bad: int
    resolution: int


def unfinished(path: Path) -> Unfinished | None:
    """Of an interrupted preparation in a folder; None if its journal cannot be read."""
    first, *entries = read_journal(path) or [None]
    if not isinstance(first, dict) or not {"total", "resolution"} <= first.keys():
        return None
    done = entries[-1]["stop"] if entries else 0
    return Unfinished(
        done, first["total"], sum(len(entry["bad"]) for entry in entries), first["resolution"]
    )
