"""Where the files in a tar lie, from its headers alone. Names are only compared, never opened.

Python's tarfile keeps every member in memory, follows hostile headers back and forth, and reads
extended headers of any size; shards are many and come from anywhere.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

BLOCK = 512
LONGEST_EXTENDED = 2**20  # bytes of a long name or of a pax header
LINKS = (b"1", b"2")
NO_CONTENT = (*LINKS, b"3", b"4", b"5", b"6")  # devices, folders, pipes
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class BadTar(Exception):
    """What is wrong with a tar, to follow its name in a message."""


class Member(NamedTuple):
    name: str  # bytes that are not UTF-8 as in names of files on a disk (PEP 383)
    offset: int
    size: int


def members(
    file: BinaryIO, length: int, linked: Callable[[str], None] | None = None
) -> Iterator[Member]:
    """The regular files of an uncompressed tar of `length` bytes, in its order.

    Links, folders and devices are left out. Between two members, the caller may read elsewhere in
    `file`.

    Args:
        linked: called with the names of links, symbolic and hard.

    Raises:
        BadTar: it cannot be read.
    """
    position = 0
    extended: dict[bytes, bytes] = {}
    while header := read_at(file, position, BLOCK):
        if not any(header):
            return  # the end is two blocks of zeros, or that of the file
        size = check_header(header, position)
        kind, start = header[156:157], position + BLOCK
        if kind in NO_CONTENT:
            size = 0
        elif kind not in (b"x", b"g", b"L", b"K"):
            size = int(extended.get(b"size", size))
        if size < 0 or start + size > length:
            raise BadTar(f"is cut off or damaged: {size} bytes are said to follow byte {start}")
        if kind in (b"x", b"L"):
            if size > LONGEST_EXTENDED:
                raise BadTar(f"is damaged: a name of {size} bytes at byte {start}")
            body = read_at(file, start, size)
            extended |= pax_fields(body, start) if kind == b"x" else {b"path": body.rstrip(b"\0")}
        elif kind not in (b"g", b"K"):
            name = extended.get(b"path") or header_name(header)
            text = name.decode(errors="surrogateescape")
            if kind in (b"0", b"\0", b"7") and not name.endswith(b"/"):
                yield Member(text, start, size)
            elif kind in LINKS and linked:
                linked(text)
            extended = {}
        position = start + -(-size // BLOCK) * BLOCK
    if position == 0:
        raise BadTar("is empty")


def read_at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def check_header(header: bytes, position: int) -> int:
    """The size that a header states. Raises BadTar if the header cannot be used."""
    said = number(header[148:156])
    if len(header) < BLOCK or said != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        if position:
            raise BadTar(f"is cut off or damaged: no header at byte {position}")
        kinds = [kind for start, kind in COMPRESSED.items() if header.startswith(start)]
        raise BadTar(f"is compressed ({kinds[0]})" if kinds else "is not a tar")
    if header[156:157] == b"S":
        raise BadTar(f"holds a sparse file at byte {position}; write it without --sparse")
    return number(header[124:136])


def number(field: bytes) -> int:
    """Octal digits, or GNU's base 256; -1 if it is neither or negative."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def header_name(header: bytes) -> bytes:
    """The name in the block before a member's content; a long one is cut short."""
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def pax_fields(body: bytes, start: int) -> dict[bytes, bytes]:
    """The fields of a pax header: records of `LENGTH KEY=VALUE`, each ending its line."""
    fields = {}
    while body:
        length, _, _ = body.partition(b" ")
        record = body[: int(length)] if is_count(length) else b""
        key, equals, value = record[len(length) + 1 :].partition(b"=")
        good = equals and value.endswith(b"\n")
        if not good or (key == b"size" and not is_count(value[:-1])):
            raise BadTar(f"is damaged: no pax header at byte {start}")
        fields[key] = value[:-1]
        body = body[len(record) :]
    return fields


def is_count(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) < 20
