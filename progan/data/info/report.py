"""Reports of `progan data` on sources, prepared folders and known data sets, line by line."""

import shlex
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from progan.config.config import DataConfig
from progan.config.resolutions import resolutions_to
from progan.data.decode import Square
from progan.data.depth import FLOATS, Range
from progan.data.formats import SUFFIXES
from progan.data.info.resolution import Choice, choose, left_out_line
from progan.data.info.survey import Survey
from progan.data.labels import Labels
from progan.data.pyramid.format import BAD_FILES, Pyramid
from progan.data.pyramid.plan import make_plan
from progan.data.pyramid.writer import read_journal
from progan.data.sources.files import ARCHIVES
from progan.data.sources.find import NAMED, Known
from progan.data.sources.source import Source
from progan.runtime.text import human_bytes, percent

WIDTH = 96  # columns
INDENT = 12
BAR = 30
MOST_CLASSES = 40  # that are listed
MOST_BAD = 20  # bad images that are named
MOST_SIZES = 5
GREY = ("1", "L", "LA", "I", "I;16", "F")  # PIL's modes without colour
COLOURS = {1: "grey", 3: "colour"}
GREY_HINT = (
    "all images are grey: a third of it with prepare --channels 1, and train with "
    "-o network.channels=1"
)

PATHS = {  # kinds of paths to images
    "folder": f"of images at any depth: {' '.join(SUFFIXES)}",
    "archive": f"of images, read in place: {' '.join(ARCHIVES)}",
    "numpy": "an array of images in a .npy, or with labels in a .npz",
    "LMDB": "a folder with LSUN's data.mdb",
    "shards": "WebDataset tars, such as 'shards/{000..099}.tar' or s3://bucket/*.tar",
    "prepared": "a folder that `progan data prepare` has made",
}


def field(name: str, *texts: str) -> Iterator[str]:
    """Texts, wrapped, in the column next to `name`."""
    for text in texts:
        yield from textwrap.wrap(
            text,
            WIDTH,
            initial_indent=f"{name:<{INDENT}}",
            subsequent_indent=" " * INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        name = ""


def train_command(
    data: Path | str, resolution: int, channels: int = 3, labels: bool = False
) -> str:
    """The command that trains on a path at a resolution."""
    words = ["progan train --data", shlex.quote(str(data)), f"-o network.resolution={resolution}"]
    words += ["-o network.channels=1"] if channels == 1 else []
    words += ["-o data.labels=true"] if labels else []
    return " ".join(words)


def source_report(
    name: str,
    source: Source,
    seen: Survey,
    no_labels: str = "",
    label_level: int | None = None,
) -> Iterator[str]:
    """The report on a source.

    Args:
        name: what the user calls it.
        no_labels: why it has no labels.
        label_level: the level of folders that the user took the classes from.
    """
    choice = choose(seen.headers, len(source), "crop", DataConfig().max_bad)
    yield f"{name}: {len(source):,} images"
    if seen.sizes:
        yield from field("sizes", *sizes_of(source, seen, choice))
        yield from field("kinds", counted(seen.kinds.most_common()))
    yield from field("values", *values_of(source, seen))
    yield from field("profiles", *profiles_of(seen))
    if seen.clear:
        yield from field(
            "transparent", f"parts of {seen.clear:,}, laid over white (or data.background)"
        )
    if seen.turned:
        yield from field("EXIF", f"{seen.turned:,} are turned, and will be set upright")
    yield from bad_images([f"{source.item_name(i)}: {why}" for i, why in seen.bad.items()])
    if source.left_out:
        yield from field("left out", source.left_out)
    if no_labels:
        yield from field("labels", f"none ({no_labels})")
    if source.labels:
        yield from label_table(source.labels)
    if choice is None:
        yield from field("training", "needs images of 4x4 or more, or data.allow_upscale=true")
        return
    yield from disk_space(source, choice.resolution, 3)
    if all(kind.split()[1] in GREY for kind in seen.kinds):
        yield from field("", GREY_HINT)
    command = train_command(name, choice.resolution)
    yield from field("training", f"progan train --data {name}" if name in NAMED else command)
    if source.labels:
        level = f" -o data.label_level={label_level}" if label_level else ""
        yield from field("", f"on the labels with -o data.labels=true{level}")


def values_of(source: Source, seen: Survey) -> Iterator[str]:
    """The values of arrays and of images of more than 8 bits, and what is black and white."""
    ranges = source.values.ranges if source.values else {}
    for kind, (low, high) in seen.values.items():
        of = ranges.get(kind) or Range(0, 255, (low, high))
        clipped = "; what lies outside is clipped" if low < of.low or high > of.high else ""
        name = "floats: " if kind == FLOATS.name else ""
        yield f"{name}{replace(of, seen=(low, high))}{clipped}"


def profiles_of(seen: Survey) -> Iterator[str]:
    """The colour profiles of images, by what becomes of them."""
    found = seen.profiles.most_common()
    for what, matches in {
        "made sRGB": lambda profile: profile.mode,
        "sRGB already": lambda profile: profile.usable and not profile.mode,
        "ignored, as they are damaged or of another colour space": lambda p: not p.usable,
    }.items():
        names = counted((profile.name, n) for profile, n in found if matches(profile))
        if names:
            yield f"{names}: {what}"


def sizes_of(source: Source, seen: Survey, choice: Choice | None) -> Iterator[str]:
    sizes, total = seen.sizes, seen.sizes.total()
    common = [(f"{w}x{h}", n) for (w, h), n in sizes.most_common(MOST_SIZES) if n > 1 or total == 1]
    rest = len(sizes) - len(common)
    others = [f"{rest:,} {'more ' if common else ''}sizes"] if rest else []
    yield ", ".join([counted(common), *others] if common else others)
    small, large = min(sizes, key=np.prod), max(sizes, key=np.prod)
    if small != large:
        yield f"smallest {small[0]}x{small[1]}, largest {large[0]}x{large[1]}"
    if seen.not_square:
        yield f"{seen.not_square:,} ({percent(seen.not_square / total)}) are not square"
    if choice:
        resolution = choice.resolution
        short = sum(n for size, n in sizes.items() if min(size) < resolution)
        but = f" all but {short:,}" if short else " all"
        yield f"{resolution}x{resolution} is the largest resolution that{but} have"
        if choice.too_small:
            yield left_out_line(choice, source, seen)


def counted(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({n:,})" for name, n in items)


def bad_images(lines: list[str]) -> Iterator[str]:
    if not lines:
        yield from field("bad", "none")
        return
    yield from field("bad", f"{len(lines):,}, which are left out:")
    for line in lines[:MOST_BAD]:
        yield from field("", line)
    if len(lines) > MOST_BAD:
        yield from field("", f"… and {len(lines) - MOST_BAD:,} more")


def label_table(labels: Labels) -> Iterator[str]:
    """A table of classes or attributes, with bars."""
    names, counts, shares = labels.names, labels.counts.tolist(), labels.shares.tolist()
    few, many = min(counts), max(counts)
    each = f"each of {few:,}" if few == many else f"of {few:,} … {many:,}"
    origin = labels.origin and f" from {labels.origin}"
    yield from field("labels", f"{len(names):,} {labels.kind}{origin}, {each} images")
    if labels.doubt:
        yield from field("", labels.doubt)
    name_width = min(max(map(len, names)), 28)
    count_width = len(f"{many:,}")
    for name, count, share in list(zip(names, counts, shares, strict=True))[:MOST_CLASSES]:
        short = name if len(name) <= name_width else name[: name_width - 1] + "…"
        bar = "=" * round(BAR * count / max(1, many))
        line = f"{short:<{name_width}}  {count:>{count_width},}  {percent(share):>7}  {bar}"
        yield " " * INDENT + line.rstrip()
    if len(names) > MOST_CLASSES:
        yield from field("", f"… and {len(names) - MOST_CLASSES:,} more")
    if warning := useless(labels):
        yield from field("", f"warning: {warning}")


def useless(labels: Labels) -> str:
    """Why some of the labels cannot be learned; empty if all can."""
    if labels.kind == "classes":
        single = int((labels.counts == 1).sum())
        classes = "1 class" if single == 1 else f"{single:,} classes"
        return f"{classes} of 1 image: it would be learnt by heart" if single else ""
    same = [labels.names[k] for k in np.flatnonzero(np.isin(labels.shares, (0, 1)))]
    if not same:
        return ""
    names = ", ".join(same[:3]) + (", …" if len(same) > 3 else "")
    return f"{len(same):,} of {len(labels.names):,} attributes are the same in all images ({names})"


def disk_space(source: Source, resolution: int, channels: int) -> Iterator[str]:
    """The space that preparing would take."""
    square = Square(resolution, channels, "crop", upscale=True)
    raw, png = (make_plan(source, square, storage, 0) for storage in ("raw", "png"))
    both = bool(png.png)
    title = f"prepared in {COLOURS[channels]} at {resolution}x{resolution}"
    yield from field("disk", f"{title}, arrays and PNG (data.storage):" if both else f"{title}:")
    for r in raw.levels:
        also = f"  {human_bytes(png.levels[r]):>8}" if both else ""
        yield " " * INDENT + f"{f'{r}x{r}':<10}{human_bytes(raw.levels[r]):>8}{also}"
    also = f"  {human_bytes(png.total):>8}" if both else ""
    yield " " * INDENT + f"{'together':<10}{human_bytes(raw.total):>8}{also}"


def pyramid_report(pyramid: Pyramid) -> Iterator[str]:
    """The report on a prepared folder."""
    path, r = pyramid.path, pyramid.resolution
    yield f"{path}: {pyramid.count:,} images of {pyramid.meta.source}, prepared"
    yield from field("levels", f"4x4 to {r}x{r}, {COLOURS[pyramid.channels]}")
    left_out = path / BAD_FILES
    yield from bad_images(left_out.read_text("utf-8").splitlines() if left_out.exists() else [])
    labels = pyramid.labels
    yield from label_table(labels) if labels else field("labels", "none")
    levels = {
        level: sum(file.stat().st_size for file in path.glob(f"{level:04d}.*"))
        for level in resolutions_to(r)
    }
    yield from field("disk", f"{human_bytes(sum(levels.values()))}:")
    for level, size in levels.items():
        kind = "png" if level in pyramid.meta.png else "array"
        yield " " * INDENT + f"{f'{level}x{level}':<10}{human_bytes(size):>8}  {kind}"
    yield from field("training", train_command(path, r, pyramid.channels))
    if labels:
        yield from field("", "on the labels with -o data.labels=true")


def unfinished_report(path: Path) -> Iterator[str]:
    """The report on a folder whose preparation was interrupted."""
    how = f"run the same `progan data prepare SOURCE {shlex.quote(str(path))}` again to go on"
    first, pieces = read_journal(path)
    if not {"total", "resolution"} <= first.keys():
        yield f"{path}: not finished, and it cannot be seen how far it came; {how}"
        return
    done, total, r = pieces[-1]["stop"] if pieces else 0, first["total"], first["resolution"]
    yield f"{path}: not finished: {done:,} of {total:,} images ({percent(done / total)})"
    yield from field("levels", f"4x4 to {r}x{r}")
    yield from field("bad", f"{sum(len(piece['bad']) for piece in pieces):,} so far")
    yield from field("to go on", how)


def known_report(root: Path, chosen: Path | None) -> Iterator[str]:
    """Known data sets, and whether they are in `root`, the user's `chosen` folder or a default."""
    yield f"Data sets with a name are looked for in {root.resolve()}"
    for name, known in NAMED.items():
        yield ""
        yield from known_set(name, known, root, chosen)
    yield ""
    yield "Else --data is a path of your own:"
    for kind, text in PATHS.items():
        yield from field(kind, text)
    yield "Labels and all else: docs/data.md"


def known_set(name: str, known: Known, root: Path, chosen: Path | None) -> Iterator[str]:
    places = known.places(root)
    found = [path for path in places if path.exists()]
    yield f"{name}: {known.what}" if known.what else name
    yield from field("needs", known.needs)
    if places:
        texts = [f"{path} (found)" if path in found else f"{path}" for path in places]
        yield from field("looks for", *texts)
    yield from field("labels", known.labels)
    if not found and places:
        get = "--download fetches it" if known.downloads else "fetch it by hand"
        yield from field("not found", get)
    command = f"progan train --data {name}"
    if chosen:
        command += " -o " + shlex.quote(f"data.root={chosen}")
    yield from field("training", command)
