"""Labels of images: from a table next to them, an array, or the folders they lie in."""

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from progan.data.labels import Labels
from progan.runtime.errors import LabelError, UserError

TABLES = ("labels.csv", "dataset.json")


def from_table(file: str, data: bytes, names: Sequence[str]) -> Labels:
    """The labels of images from `data`, the content of a file with one of the names TABLES.

    Its paths are relative to its folder, as `names` are. Lines for other files are ignored.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"data.labels: {file} is not UTF-8 ({error}); save it as UTF-8") from None
    return (from_csv if file.endswith(".csv") else from_json)(file, text, names)


def from_csv(file: str, text: str, names: Sequence[str]) -> Labels:
    """Reads a header, then file name and class, or file name and 0/1 (or -1/1) per attribute."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise UserError(f"data.labels: {file} is no table that can be read ({error})") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if len(header) < 2 or len(set(header)) < len(header):
        raise UserError(
            f"data.labels: {file} must open with a line of column names that differ, such as "
            f"file,class or file,smiling,glasses; it has '{','.join(header)}'"
        )
    if header[0] and plain(header[0]) in set(map(plain, names)):
        raise UserError(
            f"data.labels: {file} has no header: its first line is '{','.join(header)}'; put a "
            "line of column names above it, such as file,class"
        )
    uneven = [row[0] for row in rows if len(row) != len(header)]
    refuse(file, uneven, f"of {len(rows)} lines do not have the header's {len(header)} columns")
    found = match(file, [row[0] for row in rows[1:]], names)
    values = [[value.strip() for value in rows[1 + k][1:]] for k in found]
    if len(header) == 2:
        return classes([value for (value,) in values], file, names)
    return attribute_rows(file, tuple(header[1:]), names, values)


def from_json(file: str, text: str, names: Sequence[str]) -> Labels:
    """Reads `{"labels": [[path, label], …]}`, as StyleGAN's tools write it.

    A label is a class number, or a list of 0 and 1: one-hot if each has exactly one 1, otherwise
    attributes. Both are named by number.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"data.labels: {file} is no JSON that can be read ({error})") from None
    pairs = content.get("labels") if isinstance(content, dict) else None
    if not pairs:
        raise LabelError(
            f'data.labels: {file} has no labels: expected {{"labels": [["a.png", 0], …]}}; add '
            "them, or set data.labels=false"
        )
    if not isinstance(pairs, list) or not all(map(is_pair, pairs)):
        raise UserError(f'data.labels: "labels" in {file} must be a list of [path, label]')
    found = match(file, [path for path, _ in pairs], names)
    labels = [pairs[k][1] for k in found]
    if isinstance(labels[0], int):
        wrong = [n for n, x in zip(names, labels, strict=True) if type(x) is not int or x < 0]
        refuse(file, wrong, f"of {len(names)} images have no class number such as 0 or 7")
        return classes(list(map(str, labels)), file, names)
    width = len(labels[0]) if isinstance(labels[0], list) else 0
    wrong = [n for n, x in zip(names, labels, strict=True) if not is_vector(x, width)]
    refuse(
        file, wrong, f"of {len(names)} images have neither a class number nor {width or 'some'} 0/1"
    )
    return from_array(np.array(labels), file)


def is_pair(x: object) -> bool:
    return isinstance(x, list) and len(x) == 2 and isinstance(x[0], str)


def is_vector(x: object, width: int) -> bool:
    """Whether `x` is a list of `width` 0s and 1s, not empty."""
    return isinstance(x, list) and 0 < len(x) == width and all(v in (0, 1) for v in x)


def from_array(labels: np.ndarray, where: str) -> Labels:
    """From class numbers [N] or [N, 1], or from 0/1 [N, K]: attributes or one-hot classes."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and np.isin(labels, (0, 1)).all():
        if not (labels.sum(1) == 1).all():
            return Labels(tuple(map(str, range(labels.shape[1]))), labels.astype(np.uint8))
        labels = labels.argmax(1)
    if labels.ndim != 1 or labels.dtype.kind not in "iub" or labels.min() < 0:
        raise UserError(
            f"data.labels: the labels of {where} are {labels.dtype} {list(labels.shape)}; they "
            "must be class numbers from 0, integers [N], or attributes, 0 and 1 [N, K]"
        )
    return classes(list(map(str, labels.astype(np.int64).tolist())), where)


def from_attributes(file: str, data: bytes, names: Sequence[str]) -> Labels:
    """From CelebA's own list: a count, the attributes' names, then file name and -1/1 for each."""
    lines = data.decode(errors="replace").splitlines()
    header = tuple(lines[1].split()) if len(lines) > 1 else ()
    rows = [line.strip().partition(" ") for line in lines[2:] if line.strip()]
    uneven = [name for name, _, rest in rows if len(rest.split()) != len(header)]
    if not header or not rows:
        raise UserError(f"data.labels: {file} is no list of attributes: fetch it again")
    refuse(file, uneven, f"of {len(rows)} lines do not have {len(header)} attributes")
    found = match(file, [name for name, _, _ in rows], names)
    return attribute_rows(file, header, names, (rows[k][2].split() for k in found))


def from_folders(where: object, names: Sequence[str]) -> Labels:
    """From the first folder of every name, below a folder around all of them."""
    start = len(common_folder(names))
    folders = [name[start:].rpartition("/")[0].partition("/")[0] for name in names]
    loose = [name for name, folder in zip(names, folders, strict=True) if not folder]
    lone = {name.rpartition("/")[0] for name in names}
    how = "<class>/<image>, two or more folders, put a labels.csv or dataset.json next to them"
    if loose and lone != {""} and len(lone) == 1:
        raise LabelError(
            f"data.labels: all images of {where} lie in one folder, {lone.pop()}; lay them out as "
            f"{how}, or set data.labels=false"
        )
    if loose:
        raise LabelError(
            f"data.labels: {len(loose)} of {len(names)} images of {where} lie in no class folder "
            f"({loose[0]}); lay them out as {how}, or set data.labels=false"
        )
    return classes(folders, where)


def common_folder(names: Sequence[str]) -> str:
    """The folder around all names, with a `/` at its end; empty if there is none."""
    prefix = os.path.commonprefix([min(names), max(names)])
    return prefix[: prefix.rfind("/") + 1]


def classes(texts: Sequence[str], where: object, names: Sequence[str] = ()) -> Labels:
    """From a class name for each image. Classes are sorted, by value if all are numbers."""
    wrong = [name for name, text in zip(names, texts, strict=False) if not text]
    refuse(where, wrong, f"of {len(texts)} images have an empty class")
    found = set(texts)
    digits = all(text.isascii() and text.isdigit() for text in found)
    ordered = sorted(found, key=(lambda text: (int(text), text)) if digits else None)
    if len(ordered) < 2:
        raise LabelError(
            f"data.labels: {where} knows only one class, {ordered[0]}; two or more are needed: "
            "set data.labels=false"
        )
    number = {name: k for k, name in enumerate(ordered)}
    return Labels(tuple(ordered), np.array([number[text] for text in texts], np.int64))


def attribute_rows(
    file: str, columns: tuple[str, ...], names: Sequence[str], values: Iterable[list[str]]
) -> Labels:
    """From rows of 0/1, or of -1/1, as text."""
    texts, odd, zeros, off = [], [], [], "0"
    for name, row in zip(names, values, strict=True):
        found = set(row)
        if not found <= {"0", "-1", "1"}:
            odd.append(name)
        elif "0" in found:
            zeros.append(name)
        off = "-1" if "-1" in found else off
        texts.append("".join(row))  # millions of strings for long would keep the collector busy
    wrong = odd + (zeros if off == "-1" else [])
    refuse(file, wrong, f"of {len(names)} images have attributes other than {off} and 1")
    digits = "".join(texts).replace("-1", "0").encode()
    rows = np.frombuffer(digits, np.uint8).reshape(len(names), len(columns))
    return Labels(columns, rows - ord("0"))


def match(file: str, paths: Sequence[str], names: Sequence[str]) -> list[int]:
    """The index of each image's line. There must be exactly one."""
    wanted = [plain(name) for name in names]
    line: dict[str, int] = {}
    twice = set()
    for k, path in enumerate(map(plain, paths)):
        if line.setdefault(path, k) != k:
            twice.add(path)
    refuse(file, [n for n in wanted if n in twice], "images are in it more than once")
    missing = [name for name, path in zip(names, wanted, strict=True) if path not in line]
    what = f"of {len(names)} images have no line in it"
    refuse(file, missing, what, instead(missing, paths, set(wanted)) if missing else "")
    return [line[path] for path in wanted]


def instead(missing: Sequence[str], paths: Sequence[str], wanted: set[str]) -> str:
    """Shows a line of the table next to the image that it may be meant for."""

    def stem(path: str) -> str:
        return os.path.splitext(plain(path).rpartition("/")[2])[0].lower()

    unused = {stem(path): path for path in reversed(paths) if plain(path) not in wanted}
    pairs = ((unused[stem(name)], name) for name in missing if stem(name) in unused)
    pair = next(pairs, None)
    if pair is None and unused and len(missing) == len(wanted):
        pair = next(reversed(unused.values())), missing[0]
    return f"; the table has '{pair[0]}' where '{pair[1]}' is expected" if pair else ""


def plain(path: str) -> str:
    """A path in one form: `/` between folders, and letters with accents normalized."""
    path = path.replace("\\", "/").removeprefix("./")
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def refuse(where: object, wrong: Iterable[str], what: str, more: str = "") -> None:
    """Raises a LabelError that counts and names those that are `wrong`, if any."""
    wrong = list(wrong)
    if wrong:
        first = ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else "")
        said = f"({first}){more}".encode(errors="backslashreplace").decode()
        raise LabelError(
            f"data.labels: {where}: {len(wrong)} {what} {said}; mend that, or set data.labels=false"
        )
