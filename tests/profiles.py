"""ICC profiles, written by hand, for tests."""

import struct

WHITE = (0.9642, 1, 0.8249)  # D50, as in all profiles
# Columns of Adobe RGB (1998) and of Display P3: XYZ of red, green and blue, adapted to D50.
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))


def s15(value):
    return struct.pack(">i", round(value * 65536))


def xyz(value):
    return b"XYZ \0\0\0\0" + b"".join(map(s15, value))


def curve(gamma):
    """A power, or where it is None sRGB's curve as a table."""
    if gamma is not None:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    x = [i / 1023 for i in range(1024)]
    y = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in x]
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *(round(v * 65535) for v in y))


def description(name):
    return b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" * 79


def profile(primaries=P3, gamma=2.2, name="wide"):
    """Bytes of a profile; primaries: None for grey."""
    tags = [(b"desc", description(name)), (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", xyz(WHITE))]
    if primaries:
        tags += zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, primaries), strict=True)
        tags += [(tag, curve(gamma)) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    else:
        tags.append((b"kTRC", curve(gamma)))
    return assembled(tags, b"RGB " if primaries else b"GRAY", b"XYZ ", b"mntr")


def assembled(tags, space, connection, device):
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags:
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = struct.pack(">I", start + len(body))
    head = size + b"none" + struct.pack(">I4s4s4s", 0x02100000, device, space, connection)
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    return head + b"".join(map(s15, WHITE)) + b"\0" * 48 + table + body


def cmyk_profile():
    """A profile of CMYK in which all is grey. CIE's L is 100 - (8 C + 4 M + 2 Y + K) / 0.15,
    where an ink is 0 or 1."""
    corners = b"".join(bytes([255 - 17 * n, 128, 128]) for n in range(16))
    lut = b"mft1\0\0\0\0\4\3\2\0" + b"".join(map(s15, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut += bytes(range(256)) * 4 + corners + bytes(range(256)) * 3
    tags = [(b"desc", description("grey inks")), (b"wtpt", xyz(WHITE)), (b"A2B0", lut)]
    return assembled(tags, b"CMYK", b"Lab ", b"prtr")


def linear(x, gamma):
    """Values of 0 … 1 as light."""
    if gamma is not None:
        return x**gamma
    return (x <= 0.04045) * x / 12.92 + (x > 0.04045) * ((x + 0.055) / 1.055) ** 2.4


def seen(pixels, primaries=P3, gamma=2.2):
    """Reference: uint8 [..., 3] under such a profile as sRGB in 0 … 255, float64, un-rounded."""
    import numpy as np

    light = linear(pixels / 255, gamma) @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))
    light = light.clip(0, 1)
    low = light <= 0.0031308
    return 255 * np.where(low, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
