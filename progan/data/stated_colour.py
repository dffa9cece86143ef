"""Colours that a file states without a profile, as a profile: PNG's chunks, EXIF's Adobe RGB."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

# x and y of white, red, green and blue.
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
REC2020 = (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
PAL = (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06)
NTSC = (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)

NEAR_XY, NEAR_GAMMA = 0.005, 0.05  # as near to sRGB as this is sRGB; the latter as for libpng
GAMMAS = 0.2, 5.0  # others are mistakes
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
D50 = (0.9642, 1.0, 0.8249)

# By their numbers in cICP (ITU-T H.273): primaries, and gammas; None is sRGB's curve, also for
# those of video, as in browsers.
PRIMARIES = {1: SRGB, 2: SRGB, 5: PAL, 6: NTSC, 7: NTSC, 9: REC2020, 12: P3}  # 2: not known
TRANSFERS = {1: None, 2: None, 6: None, 13: None, 14: None, 15: None, 4: 2.2, 5: 2.8, 8: 1.0}

SRGB_GAMMA = struct.pack(">I", 45455)
SRGB_PRIMARIES = struct.pack(">8I", *(round(v * 100_000) for v in SRGB))
CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")  # of a PNG


def profile_of_png(chunks: Mapping[bytes, bytes]) -> bytes | None:
    """The profile that stands for what a PNG says of its colours; None: sRGB, or that in iCCP.

    The order of precedence is PNG's: cICP, iCCP, sRGB, then gAMA and cHRM.

    Args:
        chunks: their bodies, by the names in CHUNKS.
    """
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) == 4:
        return profile_of_cicp("PNG's cICP", *cicp[:2])
    if b"iCCP" in chunks or b"sRGB" in chunks:
        return None
    try:
        (inverse,) = struct.unpack(">I", chunks.get(b"gAMA", SRGB_GAMMA))
        gamma = 100_000 / inverse
        near = abs(gamma / 2.2 - 1) <= NEAR_GAMMA
        xy = [v / 100_000 for v in struct.unpack(">8I", chunks.get(b"cHRM", SRGB_PRIMARIES))]
        name = f"PNG's gamma {gamma:.3g}{' and primaries' if b'cHRM' in chunks else ''}"
        if GAMMAS[0] <= gamma <= GAMMAS[1]:
            return matrix_profile(name, xy, None if near else gamma)
    except (struct.error, ArithmeticError, np.linalg.LinAlgError):
        pass
    return None


def profile_of_cicp(where: str, primaries: int, transfer: int) -> bytes | None:
    """The profile that stands for two numbers of cICP, which are `where`; None: sRGB."""
    name, xy = f"{where} {primaries}/{transfer}", PRIMARIES.get(primaries)
    if xy is None or transfer not in TRANSFERS:  # of HDR, for example
        return written(name, [])
    return matrix_profile(name, xy, TRANSFERS[transfer])


def matrix_profile(name: str, xy: Sequence[float], gamma: float | None) -> bytes | None:
    """An ICC profile of RGB; None if it would be that of sRGB.

    Args:
        xy: as SRGB.
        gamma: of a power; None: sRGB's curve.

    Raises:
        ArithmeticError, LinAlgError, struct.error: no colours have such primaries.
    """
    if gamma is None and max(abs(a - b) for a, b in zip(xy, SRGB, strict=True)) <= NEAR_XY:
        return None
    columns = [(x / y, 1, (1 - x - y) / y) for x, y in zip(xy[::2], xy[1::2], strict=True)]
    white, primaries = np.array(columns[0]), np.array(columns[1:]).T
    light = primaries * np.linalg.solve(primaries, white)  # of the three together: white
    ratio = BRADFORD @ D50 / (BRADFORD @ white)  # to the white of all profiles
    adapted = np.linalg.inv(BRADFORD) @ (ratio[:, None] * (BRADFORD @ light))
    kind, numbers = 0, [gamma] if gamma else []
    if gamma is None:
        kind, numbers = 3, [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045]
    curve = b"para" + struct.pack(">IHH", 0, kind, 0) + fixed(numbers)
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + fixed(D50))]
    for channel, column in zip((b"r", b"g", b"b"), adapted.T.tolist(), strict=True):
        tags += [(channel + b"XYZ", b"XYZ \0\0\0\0" + fixed(column)), (channel + b"TRC", curve)]
    return written(name, tags)


def fixed(numbers: Sequence[float]) -> bytes:
    """ICC's s15Fixed16 numbers."""
    return struct.pack(f">{len(numbers)}i", *(round(v * 65536) for v in numbers))


def written(name: str, tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The bytes of an ICC profile of RGB. Without tags it has a name, and cannot be followed."""
    text = name.encode("ascii") + b"\0"
    tags = [(b"desc", b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)), *tags]
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags:
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(D50) + bytes(48)
    return head + table + body


ADOBE_RGB = matrix_profile("Adobe RGB, by EXIF", ADOBE, 563 / 256)
