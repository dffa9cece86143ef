"""What image files hold besides pixels: which way is up. None of it may make an image bad."""

import struct
import zlib
from typing import NamedTuple

from PIL import Image

from progan.data.depth import BadImage
from progan.data.stated_colour import CHUNKS, profile_of_png

ORIENTATION = 0x0112  # in EXIF
EXIF, INTEROPERABILITY, COLOUR_SPACE, INDEX = 0x8769, 0xA005, 0xA001, 1
TURNS = {  # to set an image upright, by EXIF's number
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FEW_BITS = {"L;2": 85, "L;4": 17}  # by PIL's name: what values of 2 and 4 bits are multiplied by
PNG = b"\x89PNG\r\n\x1a\n"
ANIMATION = b"acTL"  # begins with the number of frames
DEFLATED = (b"zTXt", b"iCCP")  # chunks of a PNG: a name, a zero, the method 0, and packed bytes
PACKED = (*DEFLATED, b"iTXt")
TEXTS = (b"tEXt", *PACKED)
USED = (b"eXIf", *TEXTS)
TEXT_BYTES = 2**20  # of one chunk, and TEXTS_BYTES of all: PIL refuses files with more
TEXTS_BYTES = 2**24
PROFILE_BYTES = 2**24  # of a profile, unpacked
MORE_FRAMES = "more-frames"  # in the `info` of a PNG that is an animation
MOST_CHUNKS = 2**17  # of a PNG: with as many of the usual size it would be a gigabyte


def orientation(image: Image.Image) -> int:
    """EXIF's number, 1 … 8; 1 where there is none, or none that can be read."""
    if image.format == "PNG":
        image.load()  # as `getexif` would, but damage to the pixels is an error
    try:
        number = image.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # PIL meets broken EXIF with errors of any type
        return 1
    return number if number in TURNS else 1


def is_adobe_rgb(image: Image.Image) -> bool:
    """Whether EXIF says so, as cameras do that write no profile (DCF 2.0, option file R03)."""
    if image.format == "PNG":  # has chunks for that; `getexif` would decode it
        return False
    try:
        exif = image.getexif()
        space = exif.get_ifd(EXIF).get(COLOUR_SPACE) if exif else 1
        index = exif.get_ifd(INTEROPERABILITY).get(INDEX, "") if space == 0xFFFF else ""
        return space == 2 or str(index).startswith("R03")  # 2 is of older cameras
    except MemoryError:
        raise
    except Exception:  # as above
        return False


def has_more_frames(image: Image.Image) -> bool:
    """Whether there are pages or frames besides the first, which is read. A JPEG's second picture,
    of a 3D camera or a phone, is none."""
    try:
        animated = MORE_FRAMES in image.info or getattr(image, "is_animated", False)
        return image.format != "MPO" and bool(animated)
    except MemoryError:
        raise
    except Exception:  # as above
        return False


def is_generated(image: Image.Image) -> bool:
    """Whether its metadata say that a model has drawn it, as progan's and others' do (IPTC)."""
    text = image.info.get("xmp") or b""
    return b"/trainedAlgorithmicMedia" in (text if isinstance(text, bytes) else text.encode())


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once EXIF's orientation is applied."""
    if image.format == "TIFF":  # PIL turns it when it is loaded, and its size then or before
        image.load()
        return image.size
    return image.size[::-1] if orientation(image) >= 5 else image.size


def set_upright(image: Image.Image) -> Image.Image:
    """The image as it is to be seen; its pixels are decoded."""
    image.load()
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


class Png(NamedTuple):
    """A PNG for PIL.

    Args:
        content: the file.
        profile: its profile where PIL would find that too long, or where other chunks state its
            colours.
        animated: whether it has more frames than one.
    """

    content: bytes
    profile: bytes | None = None
    animated: bool = False


def without_excess(content: bytes) -> Png:
    """A PNG without the chunks that do not concern its pixels, if PIL might stumble over them.

    PIL refuses a whole file for a long text or profile, a wrong checksum of either, or one that is
    packed in an unknown way.

    Raises:
        BadImage: it has so many that reading them would take minutes.
    """
    kept, profile, place, total, dropped = [PNG], None, len(PNG), 0, False
    stated: dict[bytes, bytes] = {}
    while place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        name, end = content[place + 4 : place + 8], place + 12 + size
        if not name.isalpha():  # no PNG from here on
            break
        if len(kept) > MOST_CHUNKS:
            raise BadImage(f"a PNG of more than {MOST_CHUNKS:,} chunks")
        chunk = content[place:end]
        keep = True
        if name[:1].islower() and name != b"tRNS":  # PNG's sign for what can be left out
            body = chunk[8:-4]
            whole = chunk[-4:] == zlib.crc32(chunk[4:-4]).to_bytes(4, "big") and len(body) == size
            length = len(unpacked(name, body, TEXT_BYTES + 1)) if whole and name in TEXTS else 0
            total += length
            keep = whole and name in USED and length <= TEXT_BYTES and total <= TEXTS_BYTES
            keep = keep and (name not in DEFLATED or body.partition(b"\0")[2][:1] == b"\0")
            if whole and name in (*CHUNKS, ANIMATION):
                stated.setdefault(name, body)
            if whole and name == b"iCCP" and not keep:
                profile = unpacked(name, body, PROFILE_BYTES)
        kept.append(chunk if keep else b"")
        dropped = dropped or not keep
        place = end
        if name == b"IEND":
            break
    profile = profile_of_png(stated) or profile
    animated = int.from_bytes(stated.get(ANIMATION, b"")[:4], "big") > 1
    return Png(b"".join(kept) + content[place:] if dropped else content, profile, animated)


def unpacked(name: bytes, body: bytes, most: int) -> bytes:
    """At most `most` bytes of what a chunk of a PNG holds after its keyword."""
    if name not in PACKED:
        return body[:most]
    _, _, rest = body.partition(b"\0")
    packed = rest[1:]  # after the method
    if name == b"iTXt":
        if rest[:1] != b"\1":
            return body[:most]
        packed = rest[2:].split(b"\0", 2)[-1]
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""


def scale_transparent(image: Image.Image) -> None:
    """Makes the transparent value of a PNG one of its pixels' values: PIL scales only these.

    Of colours in 16 bits it keeps the upper 8, so that neighbours become transparent, too.
    """
    clear, tiles = image.info.get("transparency"), getattr(image, "tile", [])
    bits = tiles[0][3] if image.format == "PNG" and tiles else None
    if bits in FEW_BITS and isinstance(clear, int):
        image.info["transparency"] = clear * FEW_BITS[bits]
    elif bits == "RGB;16B" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
