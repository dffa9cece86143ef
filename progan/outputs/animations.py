"""Animations as GIF, WebP and APNG, a frame at a time.

Pillow encodes each frame. Its own writers of animations keep all frames in memory, uncompressed,
until the last one is there; so the frames are put into their file here.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from progan.runtime.provenance import Provenance

Frames = Iterable[tuple[np.ndarray, int]]  # uint8 [H, W, 3], and for how many frames it is shown


def write_gif(file: BinaryIO, frames: Frames, fps: int, made_by: Provenance) -> None:
    """GIF89a that repeats for ever. Each frame has a palette of its own, of 256 colours.

    Delays are hundredths of a second, rounded so that they add up to the whole length.
    """
    shown = 0
    for pixels, count in frames:
        if not shown:
            height, width, _ = pixels.shape
            file.write(b"GIF89a" + struct.pack("<2H3B", width, height, 0, 0, 0))
            file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
            file.write(gif_comment(made_by.save_options("GIF")["comment"]))
        delay = round(100 * (shown + count) / fps) - round(100 * shown / fps)
        shown += count
        file.write(gif_frame(pixels, delay))
    file.write(b";")


def gif_frame(pixels: np.ndarray, delay: int) -> bytes:
    """A frame with its own palette, from the file that Pillow makes of it, where it is the file's.

    delay: in hundredths of a second.
    """
    encoded = io.BytesIO()
    Image.fromarray(pixels).quantize(256).save(encoded, "GIF", interlace=0)
    content = encoded.getvalue()
    bits = content[10] & 7
    start = 13 + 3 * 2 ** (bits + 1)
    palette, place = content[13:start], start
    while content[place] == 0x21:  # an extension: blocks that begin with their size, and a zero
        place += 2
        while content[place]:
            place += 1 + content[place]
        place += 1
    timing = b"\x21\xf9\x04\x00" + struct.pack("<H", delay) + b"\0\0"
    has_palette = bytes([0x80 | bits])
    return timing + content[place : place + 9] + has_palette + palette + content[place + 10 : -1]


def gif_comment(text: bytes) -> bytes:
    parts = [text[start : start + 255] for start in range(0, len(text), 255)]
    return b"\x21\xfe" + b"".join(bytes([len(part)]) + part for part in parts) + b"\x00"


def write_apng(file: BinaryIO, frames: Frames, fps: int, made_by: Provenance) -> None:
    """An animated PNG (PNG, third edition, 11.3.4) that repeats for ever, without loss."""
    number = count = 0  # of the chunks that have a sequence number, and of frames
    for pixels, ticks in frames:
        height, width, _ = pixels.shape
        chunks = list(png_chunks(pixels, made_by.save_options("PNG")))
        data = b"".join(content for kind, content in chunks if kind == b"IDAT")
        if not count:
            file.write(b"\x89PNG\r\n\x1a\n" + png_chunk(*chunks[0]))
            control = file.tell()
            file.write(png_chunk(b"acTL", bytes(8)))
            texts = [chunk for chunk in chunks if chunk[0] in (b"tEXt", b"iTXt")]
            file.writelines(png_chunk(*chunk) for chunk in texts)
        place = struct.pack(">5I2H2B", number, width, height, 0, 0, ticks, fps, 0, 0)
        file.write(png_chunk(b"fcTL", place))
        number += 1
        if count:
            file.write(png_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
        else:
            file.write(png_chunk(b"IDAT", data))
        count += 1
    file.write(png_chunk(b"IEND", b""))
    file.seek(control)
    file.write(png_chunk(b"acTL", struct.pack(">2I", count, 0)))


def png_chunks(pixels: np.ndarray, options: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents of the parts of a PNG that Pillow writes."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", **options)
    encoded.seek(8)
    while head := encoded.read(8):
        size, kind = struct.unpack(">I4s", head)
        yield kind, encoded.read(size)
        encoded.seek(4, io.SEEK_CUR)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def write_webp(file: BinaryIO, frames: Frames, fps: int, made_by: Provenance) -> None:
    """An animated WebP (RFC 9649) that repeats for ever. Times are rounded to milliseconds."""
    file.write(b"RIFF\0\0\0\0WEBP")
    shown = 0
    for pixels, count in frames:
        height, width, _ = pixels.shape
        size = bits24(width - 1, height - 1)
        if not shown:
            animated, has_xmp = 2, 4
            file.write(riff_chunk(b"VP8X", struct.pack("<I", animated | has_xmp) + size))
            file.write(riff_chunk(b"ANIM", b"\xff\xff\xff\xff\0\0"))
        duration = round(1000 * (shown + count) / fps) - round(1000 * shown / fps)
        shown += count
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "WEBP", quality=90, method=4)
        replaces = b"\2"  # the frame before, instead of being blended with it
        place = bits24(0, 0) + size + bits24(duration) + replaces
        file.write(riff_chunk(b"ANMF", place + encoded.getvalue()[12:]))
    file.write(riff_chunk(b"XMP ", made_by.xmp()))
    length = file.tell() - 8
    file.seek(4)
    file.write(struct.pack("<I", length))


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def bits24(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(3, "little") for number in numbers)
