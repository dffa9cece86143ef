"""Names of the entries of a zip: a flag says that one is UTF-8, and many programs do not set it."""

import logging
import re
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import ZipInfo

UTF8_FLAG = 0x800
UNICODE_PATH = 0x7075  # Info-ZIP's extra field: version 1, the CRC of the name's bytes, UTF-8
log = logging.getLogger("progan")


def entry_name(info: ZipInfo) -> tuple[str, bool]:
    """The name of an entry, and whether its encoding is only a guess.

    Without the flag the extra field counts, then bytes that are valid UTF-8 are UTF-8 (macOS, for
    example, sets no flag). What remains is read as code page 437, as the format has it.
    """
    name = info.orig_filename.partition("\0")[0]  # as zipfile decodes it
    if info.flag_bits & UTF8_FLAG or name.isascii():
        return name, False
    raw = name.encode("cp437")  # the bytes: zipfile decodes them so, and no two alike
    for known in (unicode_path(info.extra, raw), raw):
        with suppress(UnicodeDecodeError):
            return known.decode(), False
    # After a byte that is not ASCII, a backslash is the second half of an East Asian letter. What
    # takes its place is in no name of code page 437, so that no two become the same.
    return re.sub(r"(?<=[^\0-\x7f])\\", "\uff3c", name), True


def unicode_path(extra: bytes, raw: bytes) -> bytes:
    """The name in the extra field if it belongs to a name of these bytes, else these."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and field[:5] == struct.pack("<BI", 1, zlib.crc32(raw)):
            return field[5:]
    return raw


def warn_of_guesses(path: Path, names: Sequence[str]) -> None:
    """One warning for an archive in which the encoding of these names is unknown."""
    if names:
        log.warning(
            "%s: the names of %d files are in an unknown encoding and may look wrong (%s); if "
            "classes or labels depend on them, make the archive again with names in UTF-8",
            path,
            len(names),
            names[0].encode(errors="backslashreplace").decode(),
        )
