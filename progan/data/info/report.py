"""Reports of `progan data` on sources, prepared folders and known data sets, line by line."""

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from progan.config.resolutions import resolutions_to
from progan.config.settings import DataConfig
from progan.data.decode import Square
from progan.data.depth import FLOATS, Range
from progan.data.info.advice import commands
from progan.data.info.resolution import (
    Choice,
    choose,
    left_out_line,
    near_misses,
    resolution_table,
)
from progan.data.info.survey import Survey
from progan.data.labels import Labels
from progan.data.pyramid.format import BAD_FILES, Pyramid
from progan.data.pyramid.plan import make_plan
from progan.data.pyramid.writer import read_journal
from progan.data.sources.source import Source
from progan.runtime.text import human_bytes, percent, printable

WIDTH = 96  # columns
INDENT = 12
BAR = 30
MOST_CLASSES = 40  # that are listed
MOST_BAD = 20  # bad images that are named
MANY_COPIES = 0.1  # share of copies from which the commands leave them out
MOST_SIZES = 5
GREY = ("1", "L", "LA", "I", "I;16", "F")  # PIL's modes without colour
COLOURS = {1: "grey", 3: "colour"}
GREY_HINT = (
    "all images are grey: a third of it with prepare --channels 1, and train with "
    "-o network.channels=1"
)


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


def source_report(
    name: str,
    source: Source,
    seen: Survey,
    no_labels: str = "",
    label_level: int | None = None,
    gpu: bool = True,
) -> Iterator[str]:
    """The report on a source.

    Args:
        name: what the user calls it.
        no_labels: why it has no labels.
        label_level: the level of folders that the user took the classes from.
        gpu: whether this machine has one.
    """
    choice = choose(seen.headers, len(source), "crop", DataConfig().max_bad)
    yield f"{name}: {len(source):,} images"
    if seen.sizes:
        yield from field("sizes", *sizes_of(source, seen, choice))
        yield from resolutions(seen.sizes, choice)
        yield from field("kinds", counted(seen.kinds.most_common()))
    yield from field("values", *values_of(source, seen), *seen.repeats.lines_on_darkness)
    yield from field("profiles", *profiles_of(seen))
    if seen.clear:
        over = "which are laid over white; data.background=black or '#rrggbb' takes another colour"
        yield from field("alpha", f"{seen.clear:,} have transparent parts, {over}")
    if seen.more:
        yield from field("frames", f"{seen.more:,} have more pages or frames; the first is taken")
    if seen.generated:
        yield from field("generated", f"{seen.generated:,} say that a model has drawn them")
    if seen.turned:
        yield from field("EXIF", f"{seen.turned:,} are turned, and will be set upright")
    yield from bad_images([f"{source.item_name(i)}: {why}" for i, why in seen.bad.items()])
    yield from field("copies", *seen.repeats.lines_on_copies(seen.sizes.total()))
    if source.left_out:
        yield from field("left out", source.left_out)
    if no_labels:
        yield from field("labels", f"none ({no_labels})")
    if source.labels:
        yield from label_table(source.labels)
    if choice is None:
        yield from field("training", "needs images of 4x4 or more, or data.allow_upscale=true")
    else:
        yield from disk_space(source, choice.resolution, 3)
        yield from how_to_train(name, source, seen, choice.resolution, label_level, gpu)


def how_to_train(
    name: str, source: Source, seen: Survey, resolution: int, label_level: int | None, gpu: bool
) -> Iterator[str]:
    """Commands that train on a source."""
    grey = all(kind.split()[1] in GREY for kind in seen.kinds)
    if grey:
        yield from field("", GREY_HINT)
    level = f" -o data.label_level={label_level}" if label_level else ""
    labels = f"-o data.labels=true{level}" if source.labels else ""
    doubt = source.labels and source.labels.doubt
    copies = seen.repeats.copies
    drop = "-o data.drop_copies=true" if copies >= MANY_COPIES * len(source) else ""
    fit = len(source) - copies * bool(drop), resolution, 1 if grey else 3
    options = " ".join(filter(None, (drop, "" if doubt else labels)))
    yield from training(commands(name, *fit, options, gpu))
    if doubt:
        yield from field("", f"on the labels with {labels}")


def training(lines: Iterable[str]) -> Iterator[str]:
    """Commands, whole on their lines, to be copied."""
    for k, line in enumerate(lines):
        yield f"{'' if k else 'training':<{INDENT}}{line}"


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
        "which are converted to sRGB": lambda profile: profile.mode,
        "which are sRGB": lambda profile: profile.usable and not profile.mode,
        "which are ignored, as damaged or of another colour space": lambda p: not p.usable,
    }.items():
        names = counted((profile.name, n) for profile, n in found if matches(profile))
        if names:
            yield f"{names}, {what}"


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


def resolutions(sizes: Counter[tuple[int, int]], choice: Choice | None) -> Iterator[str]:
    """A table of how many images have a resolution, unless all have the largest."""
    table = resolution_table(sizes)
    if len(table) > 1:
        yield f"{'resolution':<{INDENT}}images that have it"
        for r, count in table:
            yield " " * INDENT + f"{f'{r}x{r}':<10}{count:>10,}"
    if choice:
        yield from field("", near_misses(sizes, choice.resolution))


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
    names, counts, shares = labels.shown, labels.counts.tolist(), labels.shares.tolist()
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
    same = [labels.shown[k] for k in np.flatnonzero(np.isin(labels.shares, (0, 1)))]
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
    rows = [(f"{r}x{r}", raw.levels[r], png.levels[r]) for r in raw.levels]
    for name, as_raw, as_png in [*rows, ("together", raw.total, png.total)]:
        also = f"  {human_bytes(as_png):>8}" if both else ""
        yield " " * INDENT + f"{name:<10}{human_bytes(as_raw):>8}{also}"


def pyramid_report(pyramid: Pyramid, damage: Iterable[str] = (), gpu: bool = True) -> Iterator[str]:
    """The report on a prepared folder.

    Args:
        damage: as from `damage_of`.
        gpu: whether this machine has one.
    """
    path, r = pyramid.path, pyramid.resolution
    yield f"{path}: {pyramid.count:,} images of {printable(pyramid.meta.source)}, prepared"
    yield from field("levels", f"4x4 to {r}x{r}, {COLOURS[pyramid.channels]}")
    left_out = path / BAD_FILES
    lines = left_out.read_text("utf-8").splitlines() if left_out.exists() else []
    yield from bad_images([line for line in lines if ": an exact copy of " not in line])
    yield from field("copies", *pyramid.meta.repeats.lines_on_copies(pyramid.count))
    yield from field("values", *pyramid.meta.repeats.lines_on_darkness)
    yield from field("pixels", *damage)
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
    use = "-o data.labels=true" if labels else ""
    yield from training(commands(path, pyramid.count, r, pyramid.channels, use, gpu))


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
