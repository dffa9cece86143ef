"""Colours that files made of boxes state, and Pillow does not look for: JPEG 2000, AVIF, HEIC."""

import struct
from collections.abc import Iterator, Sequence

from progan.data.stated_colour import profile_of_cicp

WITHIN = (b"jp2h", b"meta", b"iprp", b"ipco")  # boxes that lead to those of colours, in this order


def profile_in_boxes(content: bytes, within: Sequence[bytes] = WITHIN) -> bytes | None:
    """The ICC profile in a JPEG 2000; or one for the numbers of cICP (nclx) in an AVIF or a HEIC,
    whose profiles Pillow finds. None: there is none, or it is sRGB.

    Args:
        content: the file. Only the first box of a kind counts.
        within: boxes that are looked into.
    """
    for name, body in boxes(content):
        if name in within:
            inner = body[4:] if name == b"meta" else body  # after its version
            return profile_in_boxes(inner, within[within.index(name) + 1 :])
        if name == b"colr" and body[:1] in (b"\2", b"\3"):
            return body[3:]
        if name == b"colr" and body.startswith(b"nclx") and len(body) >= 8:
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return profile_of_cicp("nclx", primaries, transfer)
    return None


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and bodies of the boxes that a file, or one of its boxes, consists of."""
    place = 0
    while place + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        start = place + 8
        if size == 1:  # the size follows, in eight bytes
            size, start = int.from_bytes(content[start : start + 8], "big"), start + 8
        end = place + size if size else len(content)
        if end < start:
            return
        yield name, content[start:end]
        place = end
