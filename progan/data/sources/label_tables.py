"""Labels of images from a table next to them, which is read line by line."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from progan.data.labels import Labels
from progan.data.sources.label_match import Line, match, plain, without_folder
from progan.data.sources.label_values import (
    LONGEST_NAME,
    attributes_of,
    class_of,
    classes_of_labels,
    from_array,
    labels_of_table,
    refuse,
)
from progan.runtime.errors import LabelError, UserError
from progan.runtime.text import human_bytes

TABLES = ("labels.csv", "dataset.json")
# A table may speak of more images than there are, as one of a larger set does: CelebA's 202,599
# lines take 47 MB in words. JSON must be smaller, as it unfolds to 20 times its size.
BYTES = {".csv": 3 * 2**24, ".txt": 3 * 2**24, ".json": 2**22}
BYTES_AN_IMAGE = 2**12  # 40 attributes as words take 250, a thousand as one-hot lists 3,000
LINES, LINES_AN_IMAGE = 10**6, 10
LONGEST_LINE = 2**20
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
SEPARATOR = re.compile('"?sep=.?"?')  # a line for Excel above the header
NO_NAME = re.compile(r"(Unnamed: \d+)?")  # how pandas heads its index

Chunks = Callable[[], Iterator[bytes]]  # reads a file from its beginning
Text = Callable[[], io.TextIOWrapper]


def from_table(file: str, chunks: Chunks, names: Sequence[str]) -> Labels:
    """The labels of images from a file with one of the names TABLES.

    Its paths are relative to its folder, as `names` are. Lines for other files are ignored.
    """
    read = from_csv if file.endswith(".csv") else from_json
    try:
        labels, way = read(file, partial(text_of, file, chunks, len(names)), names)
    except UnicodeDecodeError as error:
        raise UserError(f"data.labels: {file} is not UTF-8 ({error}); save it as UTF-8") from None
    return replace(labels, origin=file + (way and f", {way}"))


class Pieces(io.RawIOBase):
    """Chunks as a file to read."""

    def __init__(self, chunks: Iterator[bytes]):
        self.chunks, self.rest = filter(None, chunks), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.rest = self.rest or next(self.chunks, b"")
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


def limited(file: str, chunks: Iterator[bytes], images: int) -> Iterator[bytes]:
    """The chunks of a table of labels. Raises UserError once it is too large for so many images."""
    most, size = BYTES[file[file.rindex(".") :]] + BYTES_AN_IMAGE * images, 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise too_large(file, human_bytes(most), images)
        yield chunk


def too_large(file: str, most: str, images: int) -> UserError:
    return UserError(
        f"data.labels: {file} has more than {most}, too many for the labels of {images:,} images; "
        "leave only their lines in it"
    )


def text_of(file: str, chunks: Chunks, images: int, errors: str = "strict") -> io.TextIOWrapper:
    """The text of a table, from its beginning: UTF-8 or UTF-16."""
    raw = io.BufferedReader(Pieces(limited(file, chunks(), images)), 2**16)
    start = raw.peek(4)
    encoding = next((name for bom, name in BOMS.items() if start.startswith(bom)), "utf-8")
    if encoding == "utf-8" and b"\0" in start[:2]:  # half of a letter in UTF-16
        encoding = "utf-16-be" if start[0] == 0 else "utf-16-le"
    return io.TextIOWrapper(raw, encoding, errors, newline="")


def lines_of(file: str, text: io.TextIOWrapper, images: int) -> Iterator[str]:
    """Lines of a text, neither too long ones nor too many."""
    most = LINES + LINES_AN_IMAGE * images
    for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE + 1), "")):
        if len(line) > LONGEST_LINE:
            raise UserError(
                f"data.labels: line {number + 1} of {file} is longer than {LONGEST_LINE} "
                "characters, which is no line of a table of labels"
            )
        if number > most:
            raise too_large(file, f"{most:,} lines", images)
        yield "\n" if number == 0 and SEPARATOR.fullmatch(line.strip()) else line


def from_csv(file: str, text: Text, names: Sequence[str]) -> tuple[Labels, str]:
    """Reads a header, then file name and class, or file name and 0/1 (or -1/1) per attribute.

    Columns are separated by commas, semicolons or tabs. An index that pandas writes before the
    file names is ignored.
    """
    try:
        dialect, header, first = opening_of(lines_of(file, text(), len(names)))
        skip = len(header) > 2 and NO_NAME.fullmatch(header[0]) is not None and first.isdigit()
        columns = tuple(header[1 + skip :])
        check_header(file, header[skip:], names)

        def lines() -> Iterator[Line]:
            reader = csv.reader(lines_of(file, text(), len(names)), **dialect)
            next(filter(None, reader))
            for row in filter(None, reader):
                if not any(row[len(header) :]):  # commas at the end, as of empty cells
                    row = row[: len(header)]
                check_width(file, reader.line_num, len(row), len(header))
                yield row[skip], reader.line_num, row[1 + skip :]

        keep = partial(class_of, *columns) if len(columns) == 1 else partial(attributes_of, columns)
        found, way = match(file, lines, names, keep)
    except csv.Error as error:
        raise UserError(f"data.labels: {file} is no table that can be read ({error})") from None
    return labels_of_table(file, columns, names, found), way


def opening_of(lines: Iterator[str]) -> tuple[dict[str, Any], list[str], str]:
    """How `csv` reads a table, the names of its columns, and the first cell below them.

    Columns are separated by the first of comma, semicolon and tab that gives the first two lines
    the same number. Blanks before a quote belong to no cell.
    """
    two = list(islice(filter(str.strip, lines), 2))

    def dialect(mark: str) -> dict[str, Any]:
        return {
            "delimiter": mark,
            "skipinitialspace": any(f'{mark} "' in line for line in two),
        }

    rows = {mark: [*csv.reader(two, **dialect(mark)), [""], [""]][:2] for mark in ",;\t"}
    fits = [mark for mark, (head, row) in rows.items() if len(head) == len(row) > 1]
    mark = fits[0] if fits else max(rows, key=lambda mark: len(rows[mark][0]))
    header, first = rows[mark]
    names = [name.strip() for name in header]
    while names and not names[-1]:  # of columns that a spreadsheet has left empty
        names.pop()
    return dialect(mark), names, first[0]


def check_width(file: str, line: int, columns: int, wanted: int) -> None:
    if columns != wanted:
        raise LabelError(
            f"data.labels: {file}: line {line} has {columns} columns, and the header has "
            f"{wanted}; mend that, or set data.labels=false"
        )


def check_header(file: str, header: list[str], names: Sequence[str]) -> None:
    too_long = max(map(len, header), default=0) > LONGEST_NAME
    if len(header) < 2 or len(set(header)) < len(header) or too_long:
        raise UserError(
            f"data.labels: {file} must open with a line of column names that differ, such as "
            "file,class or file,smiling,glasses, separated by commas, semicolons or tabs; it has "
            f"'{','.join(header)[:200]}'"
        )
    for key in (plain, without_folder):
        if header[0] and key(header[0]) in set(map(key, names)):
            raise UserError(
                f"data.labels: {file} has no header: its first line is '{','.join(header)}'; put a "
                "line of column names above it, such as file,class"
            )


def from_json(file: str, text: Text, names: Sequence[str]) -> tuple[Labels, str]:
    """Reads `{"labels": [[path, label], …]}`, as StyleGAN's tools write it.

    A label is a class number; or a class name, if all are; or a list of 0 and 1: one-hot if each
    has exactly one 1, otherwise attributes. These are named by number.
    """
    try:
        content = json.load(text())
    except (UserError, UnicodeDecodeError):
        raise
    except (ValueError, RecursionError) as error:
        why = str(error).partition("; use sys.")[0]  # which raises Python's limit of digits
        raise UserError(f"data.labels: {file} is no JSON that can be read ({why})") from None
    pairs = content.get("labels") if isinstance(content, dict) else None
    if not pairs:
        raise LabelError(
            f'data.labels: {file} has no labels: expected {{"labels": [["a.png", 0], …]}}; add '
            "them, or set data.labels=false"
        )
    if not isinstance(pairs, list) or not all(map(is_pair, pairs)):
        raise UserError(f'data.labels: "labels" in {file} must be a list of [path, label]')

    def lines() -> Iterator[Line]:
        return ((path, k, label) for k, (path, label) in enumerate(pairs))

    labels, way = match(file, lines, names, lambda k, label: label)
    width = next((len(label) for label in labels if isinstance(label, list)), None)
    if width is None:
        return classes_of_labels(file, names, labels), way
    wrong = [n for n, x in zip(names, labels, strict=True) if not is_vector(x, width)]
    refuse(file, wrong, f"of {len(names)} images have no list of {width or 'some'} 0/1, as others")
    return from_array(np.array(labels), file), way


def is_pair(x: object) -> bool:
    return isinstance(x, list) and len(x) == 2 and isinstance(x[0], str)


def is_vector(x: object, width: int) -> bool:
    """Whether `x` is a list of `width` 0s (or -1s) and 1s, not empty."""
    return isinstance(x, list) and 0 < len(x) == width and all(v in (-1, 0, 1) for v in x)


def from_attributes(file: str, chunks: Chunks, names: Sequence[str]) -> Labels:
    """From CelebA's own list: a count, the attributes' names, then file name and -1/1 for each."""

    def rows() -> Iterator[tuple[int, list[str]]]:
        text = text_of(file, chunks, len(names), "replace")
        split = (line.split() for line in lines_of(file, text, len(names)))
        return ((number, words) for number, words in enumerate(split, 1) if words)

    columns = tuple(next((words for number, words in rows() if number == 2), ()))

    def lines() -> Iterator[Line]:
        for number, (name, *cells) in rows():
            if number > 2:
                check_width(file, number, 1 + len(cells), 1 + len(columns))
                yield name, number, cells

    if not columns or next(lines(), None) is None:
        raise UserError(f"data.labels: {file} is no list of attributes: fetch it again")
    found, _ = match(file, lines, names, partial(attributes_of, columns))
    return replace(labels_of_table(file, columns, names, found), origin=file)
