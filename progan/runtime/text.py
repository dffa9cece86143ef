"""Numbers, names and tables as people read them."""

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

PART_BYTES, JOINED_BYTES = 80, 160  # of names in file names, which take 255


def human_time(seconds: float | None) -> str:
    """`3d 4h`, `2h 05m`, `3m 20s`; a dash for an unknown time."""
    if seconds is None:
        return "-"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h}h"
    if hours:
        return f"{h}h {m:02d}m"
    return f"{m}m {s:02d}s" if m else f"{s}s"


def human_bytes(count: float) -> str:
    """`12 kB`, `3.4 GB`: powers of 1000, as disks are sold."""
    power = 0
    while count >= 999.5 and power < 4:
        count, power = count / 1000, power + 1
    digits = 1 if power and count < 10 else 0
    return f"{count:.{digits}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def short(number: float) -> str:
    """Two digits that say something, and all before the point: `1,234`, `5.6`, `0.043`."""
    if not number or not math.isfinite(number):
        return f"{number:g}"
    decimals = 1 - math.floor(math.log10(abs(number)))
    return f"{number:,.{min(max(decimals, 0), 12)}f}"


def kimg(nimg: int, total_nimg: int) -> str:
    """`nimg` in kimg with digits that say something in a run of `total_nimg`."""
    decimals = 3 if nimg < 100 or total_nimg < 10_000 else 2 if total_nimg < 100_000 else 1
    return f"{nimg / 1000:.{decimals if nimg else 1}f}"


def percent(share: float, digits: int = 1) -> str:
    """`12.3 %`"""
    return f"{100 * share:.{digits}f} %"


def stage_text(resolution: int, alpha: float | None) -> str:
    """`32x32, 50 % faded in`"""
    size = f"{resolution}x{resolution}"
    return size if alpha is None else f"{size}, {percent(alpha, 0)} faded in"


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Rows of cells as aligned lines: the columns `left` to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(aligned(row, widths, left) for row in rows)


def aligned(
    cells: Sequence[str], widths: Sequence[int], left: Collection[int] = (0,), gap: str = "  "
) -> str:
    """One line of a table whose columns have these widths."""
    padded = (
        cell.ljust(width) if i in left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return gap.join(padded).rstrip()


def printable(text: str) -> str:
    """`text` with escapes for characters that would break the line or control the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def for_file_names(names: Sequence[str]) -> list[str]:
    """Names as parts of file names, for any system; where two would be the same, with a number.

    They are the same if only capitals differ, as some file systems do not tell those apart.
    """
    plain = [within(PART_BYTES, unicodedata.normalize("NFC", name)) for name in names]
    plain = ["".join(c if fits_file_names(c) else "_" for c in name) for name in plain]
    alike = Counter(map(str.casefold, plain))
    return [f"{name}~{k}" if alike[name.casefold()] > 1 else name for k, name in enumerate(plain)]


def fits_file_names(c: str) -> bool:
    """Whether a character is a letter, a digit or one of `_.-`: `~` and `+` join such parts."""
    return unicodedata.category(c)[0] in "LMN" or c in "_.-"


def joined_for_files(parts: Sequence[str]) -> str:
    """Parts of file names as one: `Male+Smiling`. One that would be too long ends in a hash."""
    whole = "+".join(parts)
    if len(whole.encode()) <= JOINED_BYTES:
        return whole
    return f"{within(PART_BYTES, whole)}~{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def within(most: int, text: str) -> str:
    """The start of a text that takes at most so many bytes."""
    return text.encode(errors="replace")[:most].decode(errors="ignore")


def stamp(nimg: int) -> str:
    """`nimg` in kimg for file names, which then sort by progress: 60160 -> 000060.160."""
    return f"{nimg / 1000:010.3f}"


def kimg_of(file: Path) -> float:
    """The stamp at the end of a file's name, in kimg; nan for a name that progan does not give."""
    match = re.fullmatch(r".*-(\d+\.\d{3})", file.stem)
    return float(match[1]) if match else math.nan
