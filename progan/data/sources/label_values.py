"""From class names, cells of tables and arrays to labels; what fits none is refused by name."""

import re
import reprlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeVar

import numpy as np

from progan.data.labels import Labels
from progan.runtime.errors import LabelError, UserError
from progan.runtime.text import printable

LONGEST_NAME = 255  # characters of a class's name: no folder's name is longer
MISSING = {"", "nan", "<na>"}  # as pandas writes an empty cell
# As R, Excel and databases write one; but a class may have such a name.
PERHAPS_MISSING = re.compile(r"NA|N/A|NULL|None|#(N/A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)")
ZERO, ONE, NO, MINUS = range(4)  # what a cell of an attribute says; NO is a zero in words
CODES = {"0": ZERO, "0.0": ZERO, "1": ONE, "1.0": ONE, "-1": MINUS, "-1.0": MINUS}
CODES |= {"false": NO, "no": NO, "true": ONE, "yes": ONE}
EXACT = 2**53  # whole numbers below are exact as floats
UNSAID = re.compile(r"^\+|[.,]0*$")  # of +1, 1.00 and 1,0
CODES |= {text.capitalize(): code for text, code in CODES.items()}  # found at once, as most are

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """A cell that is no label."""

    line: int
    column: str
    value: str

    def __str__(self) -> str:
        length = len(self.value)
        value = f"'{printable(self.value)}'" if length else "an empty cell"
        if length > LONGEST_NAME:
            some = printable(self.value[:20])
            value = f"'{some}…' of {length:,} characters, more than {LONGEST_NAME},"
        return f"{value} in column {self.column}, line {self.line}"


def class_of(column: str, line: int, cells: Sequence[str]) -> str | Fault:
    """The class that the one cell of a line names."""
    text = cells[0].strip()
    missing = text.lower() in MISSING or len(text) > LONGEST_NAME
    return Fault(line, column, text) if missing else text


def attributes_of(columns: Sequence[str], line: int, cells: Sequence[str]) -> bytes | Fault:
    """The codes of a line's cells, one for each attribute."""
    try:
        return bytes(map(CODES.__getitem__, cells))  # the fast way, for tables of millions
    except KeyError:
        codes = [CODES.get(UNSAID.sub("", cell.strip().lower())) for cell in cells]
    if None in codes:
        k = codes.index(None)
        return Fault(line, columns[k], cells[k].strip())
    return bytes(code for code in codes if code is not None)


def labels_of_table(
    file: str, columns: tuple[str, ...], names: Sequence[str], found: Sequence[str | bytes | Fault]
) -> Labels:
    """From `class_of` each image, if there is one column, else from `attributes_of` each."""
    if len(columns) == 1:
        return classes(without_faults(file, names, found, "have no class", str), file)
    what = "have attributes that are neither 1 (True, yes) nor 0 (False, no; or -1 throughout)"
    # A table of classes and something else is the usual reason.
    what += ", as all columns but the first must be, unless there is only one, of classes"
    rows = b"".join(without_faults(file, names, found, what, bytes))
    codes = np.frombuffer(rows, np.uint8).reshape(len(names), len(columns))
    if (codes == MINUS).any() and (codes == ZERO).any():
        i, k = (int(x) for x in np.argwhere(codes == ZERO)[0])
        refuse(
            file,
            [names[n] for n in np.flatnonzero((codes == ZERO).any(1)).tolist()],
            f"of {len(names)} images have attributes other than -1 and 1, as the rest has",
            f"; column {columns[k]} of {names[i]} is 0",
        )
    return Labels(columns, (codes == ONE).astype(np.uint8))


def without_faults(
    file: str, names: Sequence[str], found: Sequence[str | bytes | Fault], what: str, kind: type[T]
) -> list[T]:
    """What was `found` in the lines of images, unless there are faults, which are refused."""
    faults = [(name, x) for name, x in zip(names, found, strict=True) if isinstance(x, Fault)]
    if faults:
        name, fault = faults[0]
        wrong = [name for name, _ in faults]
        refuse(file, wrong, f"of {len(names)} images {what}", f"; {name} has {fault}")
    return [x for x in found if isinstance(x, kind)]


def classes(texts: Sequence[str], where: object) -> Labels:
    """From a class name for each image. Classes are sorted, by value if all are numbers."""
    found = set(texts)
    digits = all(text.isascii() and text.isdigit() for text in found)
    ordered = sorted(found, key=by_value if digits else None)
    if len(ordered) < 2:
        raise LabelError(
            f"data.labels: {where} knows only one class, {ordered[0]}; two or more are needed: "
            "set data.labels=false"
        )
    number = {name: k for k, name in enumerate(ordered)}
    values = np.array([number[text] for text in texts], np.int64)
    return Labels(tuple(ordered), values, doubt=nearly_the_same(ordered) or perhaps_none(ordered))


def class_number(label: object) -> int | None:
    """The whole number that is meant by 7, 7.0, "7" or "7.0"; None if none is."""
    if isinstance(label, float) and label.is_integer() and abs(label) < EXACT:
        label = int(label)
    if type(label) is int:  # a bool is none
        return label
    whole = re.fullmatch(r"\s*([+-]?\d{1,10})(\.0*)?\s*", label) if isinstance(label, str) else None
    return int(whole[1]) if whole else None


def classes_of_labels(file: str, names: Sequence[str], labels: Sequence[object]) -> Labels:
    """From a class number from 0 up for each image, or a class name for each.

    Texts are names, too, if one begins with a zero: "01" may be another class than "1".
    """
    numbers = [class_number(label) for label in labels]
    texts = [label.strip() for label in labels if isinstance(label, str)]
    padded = any(re.match(r"0\d", text) for text in texts)
    if len(texts) == len(labels) and (None in numbers or padded):
        wrong, what = [not 0 < len(text) <= LONGEST_NAME for text in texts], "name"
    else:
        texts = list(map(str, numbers))
        wrong, what = [k is None or k < 0 for k in numbers], "number such as 0 or 7"
    if any(wrong):
        first = wrong.index(True)
        refuse(
            file,
            compress(names, wrong),
            f"of {len(names)} images have no class {what}",
            f"; {names[first]} has {reprlib.repr(labels[first])}",
        )
    return classes(texts, file)


def nearly_the_same(names: Sequence[str]) -> str:
    """Names classes that may be one, such as `Cat` and `cat`, or `1` and `1.0`."""
    first: dict[str, str] = {}
    for name in names:
        plain = unicodedata.normalize("NFKC", name).strip().casefold()
        seen = "".join(c for c in plain if unicodedata.category(c) != "Cf")  # no width, no sign
        same = re.sub(r"^0+(?=\d)|(?<=\d)\.0+$", "", " ".join(seen.split()))
        if first.setdefault(same, name) != name:
            both = f"'{printable(first[same])}' and '{printable(name)}'"
            return f"{both} are two classes; if they are one, give it one name"
    return ""


def perhaps_none(names: Sequence[str]) -> str:
    """Names a class that may stand for none."""
    for name in filter(PERHAPS_MISSING.fullmatch, names):
        return f"'{name}' is a class like others; if it means that an image has none, remove these"
    return ""


def by_value(digits: str) -> tuple[int, str, str]:
    """Sorts numbers of any length by value, and 7 after 07."""
    value = digits.lstrip("0")
    return len(value), value, digits


def from_array(labels: np.ndarray, where: str) -> Labels:
    """From class numbers or names [N] or [N, 1], or from 0/1 or -1/1 [N, K]: attributes or one-hot
    classes.

    Raises:
        UserError: they are something else.
    """
    given = f"{labels.dtype} {list(labels.shape)}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and np.isin(labels, (-1, 1)).all():
        labels = labels == 1
    if labels.ndim == 2 and np.isin(labels, (0, 1)).all():
        if not (labels.sum(1) == 1).all():
            return Labels(tuple(map(str, range(labels.shape[1]))), labels.astype(np.uint8))
        labels = labels.argmax(1)
    if labels.ndim == 1 and labels.dtype.kind in "fU":  # 0.0 and 1.0, or names
        images = list(map("image {}".format, range(len(labels))))
        return classes_of_labels(where, images, labels.tolist())
    if labels.ndim != 1 or labels.dtype.kind not in "iub" or labels.min() < 0:
        raise UserError(
            f"data.labels: the labels of {where} are {given}; they must be class numbers from 0, "
            "integers [N], or names [N], or attributes, 0 and 1 [N, K]"
        )
    return classes(list(map(str, (labels + 0).tolist())), where)


def refuse(where: object, wrong: Iterable[str], what: str, more: str = "") -> None:
    """Raises a LabelError that counts and names those that are `wrong`, if any."""
    wrong = list(wrong)
    if wrong:
        first = ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else "")
        said = f"({first}){more}".encode(errors="backslashreplace").decode()
        raise LabelError(
            f"data.labels: {where}: {len(wrong)} {what} {said}; mend that, or set data.labels=false"
        )
