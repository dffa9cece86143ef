"""What pixels mean: their depth, colour profile, transparency, and whatever else is in a file."""

import json
import logging
import re
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from pictures import chw, encoded, folder, noise
from PIL import Image, ImageCms
from profiles import ADOBE, P3, SRGB, cmyk_profile, profile, seen

from progan.config.load import load_config
from progan.data import colour
from progan.data.boxes import profile_in_boxes
from progan.data.decode import READING, BadImage, Square, open_image, read_plain, read_square
from progan.data.info.report import source_report
from progan.data.info.survey import survey
from progan.data.metadata import PNG, without_excess
from progan.data.pyramid.prepare import prepare
from progan.data.sources.bit_depth import warn_of_darkness
from progan.data.sources.find import find
from progan.data.workers import without_pil_warnings
from progan.metrics import reference_cache
from progan.runtime.errors import UserError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def grey(x):
    return np.broadcast_to(np.asarray(x), (3, *np.shape(x)))


def info(path):
    source = find(str(path))
    return " ".join(" ".join(source_report("x", source, survey(source, 0))).split())


# --- depth ---


def tiff(pixels, photometric=1, order="<"):
    """A grey TIFF of these pixels, uncompressed, in their own type."""
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    values = {256: pixels.shape[1], 257: pixels.shape[0], 258: 8 * pixels.itemsize, 259: 1}
    values |= {262: photometric, 273: 8, 277: 1, 278: pixels.shape[0], 279: len(data), 339: kind}
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, v) for tag, v in values.items())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(values)) + entries + b"\0\0\0\0"


def twelve_bits(pixels):
    """A grey TIFF of 12 bits, two values in three bytes."""
    a, b = pixels.reshape(-1, 2).T.astype(np.uint16)
    data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8)
    content = tiff(data.reshape(16, 24)).replace(  # width, and bits of a value
        struct.pack("<HHII", 256, 4, 1, 24), struct.pack("<HHII", 256, 4, 1, 16)
    )
    bits = struct.pack("<HHII", 258, 4, 1, 8), struct.pack("<HHII", 258, 4, 1, 12)
    return content.replace(*bits)


SHARP = RAMP / 255 + 0.15 * (RAMP % 7 == 0) - 0.15 * (RAMP % 5 == 0)  # -0.15 … 1.15
DEEP = {  # a data set's images, and what 0 … 255 is in them: (black, white)
    "unit": ([SHARP, SHARP * 0.9], (0, 1)),
    "signed": ([SHARP * 2 - 1] * 2, (-1, 1)),
    "bytes": ([SHARP * 255, SHARP * 200, SHARP * 0], (0, 255)),
    "words": ([SHARP * 65535] * 2, (0, 65535)),
    "unit, one odd": ([SHARP] * 10 + [SHARP * 1.4], (0, 1)),
    "int32 of bytes": ([RAMP.astype(np.int32), RAMP.astype(np.int32) // 2], (0, 255)),
    "int32 of words": ([RAMP.astype(np.int32), RAMP.astype(np.int32) * 257], (0, 65535)),
    "uint16 of bytes": ([RAMP.astype(np.uint16)] * 2, (0, 255)),
    "uint16": ([RAMP.astype(np.uint16) * 257, RAMP.astype(np.uint16)], (0, 65535)),
    "int32 with overshoot": ([np.rint(SHARP * 255).astype(np.int32)] * 2, (0, 255)),
    "words with overshoot": ([np.rint(SHARP * 65535).astype(np.int32)] * 2, (0, 65535)),
    "nine bits": ([np.arange(45, 301, dtype=np.uint16).reshape(16, 16)] * 2, (0, 65535)),
    "large": ([RAMP.astype(np.int32) * 2**23] * 2, (0, 2**31 - 1)),
}


@pytest.mark.parametrize("case", DEEP)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_data_set_has_one_range(tmp_path, case, order):
    """Reference: (x - black) / (white - black), clipped, whatever range one image fills."""
    images, (black, white) = DEEP[case]
    images = [x.astype(np.float32) if x.dtype == np.float64 else x for x in images]
    files = {f"{i:02}.tif": tiff(x, order=order) for i, x in enumerate(images)}
    source = find(str(folder(tmp_path, files)))
    for i, x in enumerate(images):
        expected = ((x.astype(float) - black) / (white - black)).clip(0, 1) * 255
        assert abs(source.read(i, Square(16)) - grey(expected)).max() <= 0.5 + 1e-6


def test_images_outside_the_range_are_bad(tmp_path):
    """Reference: the rule of docs/data.md. An image that would be all white is left out by name; so
    are all if their range is none that is known."""
    files = {f"{i:02}.tif": tiff(SHARP.astype(np.float32)) for i in range(12)}
    files["12.tif"] = tiff((SHARP * 255).astype(np.float32))
    report = info(folder(tmp_path / "one", files))
    assert "bad 1," in report and "12.tif: has values of" in report and "of 0 … 1 " in report
    scan = {f"{i}.tif": tiff(RAMP.astype(np.int16) * 9 - 1024) for i in range(3)}
    report = info(folder(tmp_path / "scan", scan))
    assert "bad 3, which" in report and "run from -1,024 to 1,271, which is none of" in report
    eight = {f"{i:03}.png": noise((16, 16)) for i in range(200)}
    late = {"001x.tif": tiff(SHARP.astype(np.float32))}
    assert "holds floats, unlike the images" in info(folder(tmp_path / "late", eight | late))


def chunk(name, data, damage=0):
    checksum = zlib.crc32(name + data) ^ damage
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def deep_png(pixels):
    """A PNG of RGB in 16 bits, of which PIL keeps the upper 8."""
    rows = np.repeat(pixels[..., None], 3, 2).astype(">u2").reshape(len(pixels), -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">II5B", pixels.shape[1], len(pixels), 16, 2, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (tiff(SHARP.astype(np.float32) / 20), "images of floats is 0.0569118 of 1, so they"),
        (tiff(RAMP.astype(np.int32) // 20), "images of integers is 12 of 255, so they"),
        (tiff(RAMP.astype(np.uint16) * 235), ""),
        (tiff(RAMP.astype(np.uint16) * 16, 0), "4,080 of 65,535, so they will be nearly white"),
        (tiff(RAMP.astype(np.uint16) * 64, 0), "16,320 of 65,535, so they will be light"),
        (
            tiff(RAMP.astype(np.int16) * 128),
            "16-bit images is 32,640 of 65,535, so they will be dark",
        ),
        (twelve_bits(RAMP * 16.0), ""),
        (deep_png(RAMP * 16.0), "16-bit images is 3,855 of 65,535, so they"),
        (deep_png(RAMP * 257.0), ""),
    ],
)
def test_dark_images_are_told_of(tmp_path, caplog, content, told):
    """Reference: half of the range. Where the smallest value is white, dark ones come out
    light. Bright images and those of 8 bits are not spoken of."""
    with caplog.at_level(logging.WARNING, "progan"):
        warn_of_darkness(find(str(folder(tmp_path, {"a.tif": content, "b.tif": content}))))
    assert told in caplog.text if told else not caplog.records


def test_images_of_another_range_are_told_of(tmp_path, caplog):
    """Reference: the count, by hand. An image that is black everywhere is not spoken of."""
    values = [257] * 6 + [1] * 5 + [0] * 3
    files = {f"{i:02}.tif": tiff(RAMP.astype(np.uint16) * v) for i, v in enumerate(values)}
    with caplog.at_level(logging.WARNING, "progan"):
        warn_of_darkness(find(str(folder(tmp_path, files))))
    told = "5 of 14 images of more than 8 bits looked at lie within a smaller range than 0 … 65,535"
    assert told in caplog.text and "nearly black" in caplog.text


def test_images_of_0_to_1_among_those_of_minus_1_to_1_are_told_of(tmp_path, caplog):
    """Reference: the count, by hand. They would be pale; where all are alike, some of them bright,
    nothing is said."""
    signed, unit, bright = (
        tiff(x.astype(np.float32)) for x in (SHARP * 2 - 1, SHARP, 0.4 + SHARP / 2)
    )
    for count, name in ((0, "alike"), (4, "mixed")):
        files = {f"{i:02}.tif": unit if i < count else signed for i in range(10)}
        files |= dict.fromkeys(("08.tif", "09.tif"), bright)
        with caplog.at_level(logging.WARNING, "progan"):
            warn_of_darkness(find(str(folder(tmp_path / name, files))))
        assert len(caplog.records) == (count > 0)
    assert "4 of 10 images" in caplog.text and "so they will be pale" in caplog.text


@pytest.mark.parametrize("bright", [1, 31, 32])
def test_8_bit_images_of_few_values_are_told_of(tmp_path, bright):
    """Reference: masks whose values are numbers of classes; 32 of 255 is seen."""
    mask = Image.fromarray(np.full((16, 16), bright, np.uint8) * (RAMP > 100))
    path = folder(tmp_path / "in", {f"{i}.png": mask for i in range(3)})
    told = f"at 4x4, 90% of them have no value above {bright} of 255"
    repeats = prepare(find(str(path)), tmp_path / "out", Square(16)).meta.repeats
    assert (told in info(path)) == (told in repeats.lines(3)[-1]) == (bright < 32)


def test_values_with_a_sign(tmp_path):
    """Reference: refused, as PIL takes -1 for 255."""
    with pytest.raises(BadImage, match="8-bit values with a sign"):
        read_square(tiff((RAMP.astype(np.int16) - 128).astype(np.int8)), Square(16))


def test_twelve_bits():
    """Reference: x / 4095, whatever PIL takes for white; the negative where a TIFF says so."""
    x = np.rint(RAMP * (4095 / 255)).astype(np.uint16)
    assert (read_square(twelve_bits(x), Square(16)) == grey(RAMP)).all()
    one, zero = struct.pack("<HHII", 262, 4, 1, 1), struct.pack("<HHII", 262, 4, 1, 0)
    negative = twelve_bits(x).replace(one, zero)
    assert (read_square(negative, Square(16)) == grey(255 - RAMP)).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
def test_channels_one_after_another(bits, order):
    """Reference: the pixels. PIL takes the bytes of 16 bits for two pixels each."""
    rgb = np.stack([RAMP, RAMP.T, 255 - RAMP])
    kind = np.dtype(f"{order}u{bits // 8}")
    data = (rgb.astype(kind) * (257 if bits == 16 else 1)).tobytes()
    place, size = 8 + len(data), len(data) // 3
    entries = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 3, place), (259, 4, 1, 1)]
    entries += [(262, 4, 1, 2), (273, 4, 3, place + 6), (277, 4, 1, 3), (278, 4, 1, 16)]
    entries += [(279, 4, 3, place + 18), (284, 4, 1, 2)]
    more = struct.pack(
        order + "3H3I3I", *[bits] * 3, *(8 + k * size for k in range(3)), *[size] * 3
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place + len(more))
    content = head + data + more + struct.pack(order + "H", len(entries))
    content += b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + bytes(4)
    assert (read_square(content, Square(16)) == rgb).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int32", "float32", "float64"])
def test_the_smallest_value_may_be_white(kind, order):
    """Reference: the values, and the negative of TIFFs that say so (MinIsWhite); PIL inverts 8 bits
    itself."""
    x = (RAMP * {"uint8": 1.0, "float32": 1 / 255, "float64": 1 / 255}.get(kind, 257.0)).astype(
        kind
    )
    assert (read_square(tiff(x, 0, order), Square(16)) == grey(255 - RAMP)).all()
    assert (read_square(tiff(x, 1, order), Square(16)) == grey(RAMP)).all()


# --- modes ---

LAB = ImageCms.createProfile("LAB")
TO_LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), LAB, "RGB", "LAB")
COLOURS = noise((4, 4)).point(lambda v: 64 + v // 2).resize((16, 16), Image.Resampling.BICUBIC)
ALPHA = np.asarray(noise((16, 16), "L"))
WHITE_OVER = chw(COLOURS) * (ALPHA / 255) + 255 - ALPHA.astype(float)


def with_alpha(mode):
    image = COLOURS.convert("L" if mode[0] == "L" else "RGB")
    image.putalpha(Image.fromarray(ALPHA))
    return image.convert(mode)


MODES = {
    "LAB": (encoded(ImageCms.applyTransform(COLOURS, TO_LAB), "TIFF"), 3),
    "HSV": (COLOURS.convert("HSV"), 6),
    # Pillow 12 cannot read it back without compression.
    "YCbCr": (encoded(COLOURS.convert("YCbCr"), "TIFF", compression="tiff_lzw"), 3),
    "RGBa": (with_alpha("RGBa"), 3),
    "RGBX": (COLOURS.convert("RGBX"), 0),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MODES)
def test_modes(name, channels):
    """Reference: the colours before they were converted, over white; of grey their luma."""
    content, most = MODES[name]
    x = read_square(content, Square(16, channels))
    expected = WHITE_OVER if name == "RGBa" else chw(COLOURS).astype(float)
    if channels == 1:
        expected = np.tensordot([0.299, 0.587, 0.114], expected, 1)[None]
    assert abs(x - expected).max() <= most + 1


# --- colour profiles ---

PIXELS = np.asarray(COLOURS)
GREYS = Image.fromarray(RAMP)
WIDE = profile()
SAME_AS_SRGB = profile(SRGB, None, "sRGB by hand")
FILES = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "jpeg": ("JPEG", {"quality": 100, "subsampling": 0}),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("of", [(P3, 2.2), (ADOBE, 2.2), (SRGB, 1.8)])
def test_profiles_are_followed(kind, of):
    """Reference: the formula, in float64: through light and XYZ to sRGB. Luma comes after it."""
    name, options = FILES[kind]
    content = encoded(COLOURS, name, icc_profile=profile(*of), **options)
    near = 9 if kind == "jpeg" else 2
    expected = seen(PIXELS, *of).transpose(2, 0, 1)
    assert abs(read_square(content, Square(16)) - expected).max() <= near
    luma = np.tensordot([0.299, 0.587, 0.114], expected, 1)
    assert abs(read_square(content, Square(16, 1))[0] - luma).max() <= near


def test_profiles_of_grey_images_palettes_and_transparent_ones():
    """Reference: the formula. An RGB profile of a grey image counts as one for R = G = B."""
    expected = seen(np.repeat(RAMP[..., None], 3, 2), SRGB, 1.8).transpose(2, 0, 1)
    for primaries in (None, SRGB):
        content = encoded(GREYS, icc_profile=profile(primaries, 1.8))
        for channels in (1, 3):
            assert abs(read_square(content, Square(16, channels)) - expected).max() <= 2
    deep = encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), icc_profile=profile(None, 1.8))
    assert abs(read_square(deep, Square(16)) - expected).max() <= 2
    palette = COLOURS.quantize(16)
    shown = seen(np.asarray(palette.convert("RGB"))).transpose(2, 0, 1)
    content = encoded(palette, icc_profile=WIDE)
    assert abs(read_square(content, Square(16)) - shown).max() <= 2
    over_white = seen(PIXELS).transpose(2, 0, 1) * (ALPHA / 255) + 255 - ALPHA.astype(float)
    content = encoded(with_alpha("RGBA"), icc_profile=WIDE)
    assert abs(read_square(content, Square(16)) - over_white).max() <= 3


@pytest.mark.parametrize(
    "data", [SAME_AS_SRGB, WIDE[:200], b"junk", profile(None, 1.8), WIDE.replace(b"RGB ", b"CMYK")]
)
def test_profiles_that_change_nothing(data):
    """Reference: the file without it, bit for bit, and by the fast path where that was taken. So it
    is with sRGB's own, a damaged one, and one of another colour space."""
    for kind, options in FILES.values():
        with_it = encoded(COLOURS, kind, icc_profile=data, **options)
        without = encoded(COLOURS, kind, **options)
        assert (read_square(with_it, Square(8)) == read_square(without, Square(8))).all()
    assert read_plain(encoded(COLOURS, "JPEG", icc_profile=data), Square(8)) is not None
    assert read_plain(encoded(COLOURS, "JPEG", icc_profile=WIDE), Square(8)) is None


def with_chunks(png, *chunks, last=False):
    """A PNG with chunks after its header, or last of all."""
    place = len(png) - 12 if last else 33
    return png[:place] + b"".join(chunks) + png[place:]


def stated(chunks):
    return with_chunks(encoded(COLOURS), *(chunk(name, body) for name, body in chunks.items()))


def primaries(*xy):
    return struct.pack(">8I", *(round(v * 100_000) for v in (0.3127, 0.329, *xy)))


CICP = {
    name: {b"cICP": bytes(body)}
    for name, body in {"P3": (12, 13, 0, 1), "PQ": (9, 16, 0, 1)}.items()
}
OF_ADOBE = primaries(0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
OF_SRGB = primaries(0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
MACS, SAME_GAMMA, LINEAR = (struct.pack(">I", n) for n in (55556, 45455, 100_000))


@pytest.mark.parametrize(
    "chunks, of",
    [
        ({b"gAMA": MACS}, (SRGB, 1.8)),
        ({b"gAMA": SAME_GAMMA, b"cHRM": OF_ADOBE}, (ADOBE, None)),
        ({b"gAMA": LINEAR, b"cHRM": OF_SRGB}, (SRGB, 1)),
        (CICP["P3"] | {b"gAMA": LINEAR, b"sRGB": b"\0"}, (P3, None)),
    ],
)
def test_colours_that_a_png_states_without_a_profile(chunks, of):
    """Reference: the formula, as for profiles."""
    expected = seen(PIXELS, *of).transpose(2, 0, 1)
    assert abs(read_square(stated(chunks), Square(16)) - expected).max() <= 2


@pytest.mark.parametrize(
    "chunks",
    [
        {b"gAMA": SAME_GAMMA},
        {b"gAMA": SAME_GAMMA, b"cHRM": OF_SRGB},
        {b"gAMA": LINEAR, b"sRGB": b"\0"},
        {b"gAMA": bytes(4), b"cHRM": OF_ADOBE},
        {b"gAMA": LINEAR, b"cHRM": bytes(32)},
        {b"gAMA": b"\0", b"cHRM": OF_ADOBE[:9]},
        CICP["PQ"],
    ],
)
def test_statements_of_colour_that_change_nothing(chunks):
    """Reference: the file without them: sRGB's, impossible ones, and HDR, which is counted."""
    assert (read_square(stated(chunks), Square(16)) == chw(COLOURS)).all()
    profile = colour.profile_of(open_image(stated(chunks)))
    assert profile == (("PNG's cICP 9/16", False, None, None) if b"cICP" in chunks else None)


def test_adobe_rgb_stated_in_exif():
    """Reference: the formula. A profile in the file wins; EXIF's sRGB changes nothing."""
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    for kind in ("jpeg", "webp"):
        name, options = FILES[kind]
        content = encoded(COLOURS, name, exif=exif, **options)
        expected = seen(PIXELS, ADOBE, 2.2).transpose(2, 0, 1)
        assert abs(read_square(content, Square(16)) - expected).max() <= 9
        content = encoded(COLOURS, name, exif=exif, icc_profile=SAME_AS_SRGB, **options)
        without = encoded(COLOURS, name, **options)
        assert (read_square(content, Square(16)) == read_square(without, Square(16))).all()
    exif[0x8769] = {0xA001: 1}
    content, without = encoded(COLOURS, "JPEG", exif=exif), encoded(COLOURS, "JPEG")
    assert (read_square(content, Square(16)) == read_square(without, Square(16))).all()


def test_profiles_in_jpeg_2000():
    """Reference: the formula, and ISO 15444-1, I.5.3: a box `colr` in `jp2h`, of method 2 or 3."""
    content = encoded(COLOURS, "JPEG2000", no_jp2=False)
    start = content.index(b"colr") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    header = content.index(b"jp2h") - 4
    for method in (2, 3):
        box = struct.pack(">I4s3B", 11 + len(WIDE), b"colr", method, 0, 0) + WIDE
        size = int.from_bytes(content[header : header + 4], "big") + len(box) - length
        said = content[:header] + struct.pack(">I", size) + content[header + 4 : start]
        said += box + content[start + length :]
        expected = seen(PIXELS).transpose(2, 0, 1)
        assert abs(read_square(said, Square(16)) - expected).max() <= 2
    for cut in (3, 11, header + 6, start + 9):  # of the boxes only
        assert profile_in_boxes(said[:cut]) in (None, b"")
    deep = b""
    for _ in range(2000):  # no box lies within one of its own kind
        deep = struct.pack(">I4s", 8 + len(deep), b"jp2h") + deep
    assert profile_in_boxes(deep) is None
    bare = encoded(COLOURS, "JPEG2000", no_jp2=True)
    assert (read_square(bare, Square(16)) == chw(COLOURS)).all()


@pytest.mark.parametrize(
    "numbers, of",
    [
        ((1, 13), None),
        ((2, 2), None),
        ((9, 16), None),  # HDR
        ((12, 13), (P3, None)),
        ((1, 8), (SRGB, 1)),
    ],
)
def test_numbers_of_colours_in_avif(numbers, of):
    """Reference: the formula, as for profiles. A profile in the file wins."""
    how = {"quality": 100, "subsampling": "4:4:4"}
    before, after = (b"nclx" + struct.pack(">HH", *pair) for pair in ((1, 13), numbers))
    content = encoded(COLOURS, "AVIF", **how)
    assert before in content
    x = read_square(content.replace(before, after), Square(16))
    plain = read_square(content, Square(16))
    expected = seen(plain.transpose(1, 2, 0), *of).transpose(2, 0, 1) if of else plain
    assert abs(x - expected.astype(float)).max() <= 2 * bool(of)
    content = encoded(COLOURS, "AVIF", icc_profile=WIDE, **how)
    said = content.replace(b"nclx" + struct.pack(">HH", 2, 2), after)
    assert said != content or numbers == (2, 2)
    assert (read_square(said, Square(16)) == read_square(content, Square(16))).all()


def inks(transform=0):
    """A JPEG of CMYK as Adobe writes it, of four times four inks that are all or nothing.

    Args:
        transform: 2: as YCCK.
    """
    c, m, y, k = (
        (np.indices((2, 2, 2, 2)).reshape(4, 4, 4) * 255).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    )
    bands = [c, m, y, k]
    if transform:  # PIL stores the negative
        ycc = Image.fromarray(np.stack([c, m, y], 2)).convert("YCbCr")
        bands = [*(255 - np.asarray(ycc).transpose(2, 0, 1)), k]
    image = Image.merge("CMYK", [Image.fromarray(band) for band in bands])
    content = encoded(image, "JPEG", quality=100, subsampling=0, icc_profile=cmyk_profile())
    return re.sub(rb"(Adobe.{6})\0", lambda m: m[1] + bytes([transform]), content, flags=re.S)


@pytest.mark.parametrize("transform", [0, 2])
def test_inks_are_those_of_the_profile(transform):
    """Reference: CIE's formula for the L that the profile states, from 0 (all inks) to 100."""
    light = 100 - np.arange(16).reshape(4, 4).repeat(4, 0).repeat(4, 1) / 0.15
    y = np.where(light > 8, ((light + 16) / 116) ** 3, light * 27 / 24389)
    expected = 255 * np.where(y > 0.0031308, 1.055 * y ** (1 / 2.4) - 0.055, 12.92 * y)
    assert abs(read_square(inks(transform), Square(16)) - expected).max() <= 6


def test_pixels_of_an_earlier_reading_are_told_of(tmp_path, caplog, monkeypatch):
    """Reference: pixels made without the profile, and a meta.json that does not say who read them.
    Where today's pixels are the same, nothing is said."""
    source = find(str(folder(tmp_path / "x", {"a.png": encoded(COLOURS, icc_profile=WIDE)})))
    for name, read in (("old", lambda image: None), ("same", colour.profile_of)):
        monkeypatch.setattr(colour, "profile_of", read)
        prepare(source, tmp_path / name, Square(16))
        meta = tmp_path / name / "meta.json"
        assert (content := json.loads(meta.read_text())).pop("reading") == READING
        meta.write_text(json.dumps(content))
    for name, told in (
        ("old", "1 of 1 images looked at were prepared by an earlier"),
        ("same", ""),
    ):
        caplog.clear()
        prepare(source, tmp_path / name, Square(16))
        assert told in caplog.text if told else not caplog.records


def test_results_about_live_images_are_of_one_reading(tmp_path, monkeypatch):
    """Reference: images that are not kept have an identity that does not know how they are read, so
    the name of their results does."""
    data = SimpleNamespace(identity="a", title="live", channels=3)
    names = set()
    for reading in (1, READING):
        monkeypatch.setattr(reference_cache, "READING", reading)
        names.add(reference_cache.ReferenceCache(tmp_path, data, 16, False).folder)
    assert len(names) == 2


# --- what else is in a file ---


LONG = zlib.compress(bytes(2**21))
BROKEN_EXIF = b"MM\0*\0\0\0\10\0\2\1\x12\0\3\0\0"
EXTRAS = {
    "zTXt": [chunk(b"zTXt", b"Comment\0\0" + LONG)],
    "iTXt": [chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG)],
    "plain iTXt": [chunk(b"iTXt", b"Comment\0\0\0\0\0" + bytes(2**21))],
    "iCCP": [chunk(b"iCCP", b"long\0\0" + LONG)],
    "many": [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**20 - 1)))] * 70,
    "wrong checksum": [chunk(b"tEXt", b"Comment\0hello", damage=1)],
    "short pHYs": [chunk(b"pHYs", b"\0\0")],
    "broken EXIF": [chunk(b"eXIf", BROKEN_EXIF)],
    "packed in an unknown way": [chunk(b"zTXt", b"Comment\0\5x"), chunk(b"iCCP", b"x\0\1x")],
    "no name": [chunk(b"iCCP", b"profile")],
    "half an animation": [chunk(b"acTL", bytes(8)), chunk(b"fcTL", bytes(26))],
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", EXTRAS)
def test_what_else_is_in_a_png_does_not_make_it_bad(name, last):
    """Reference: the same file without it."""
    content = with_chunks(encoded(COLOURS), *EXTRAS[name], last=last)
    assert (read_square(content, Square(16)) == chw(COLOURS)).all()


def test_long_profiles_and_orientation_are_kept():
    """Reference: a profile of 2 MB counts as any other; a text beyond the limit hides none."""
    size = struct.pack(">I", len(WIDE) + 2**21)
    packed = zlib.compress(size + WIDE[4:] + bytes(2**21))
    exif = Image.Exif()
    exif[0x0112] = 3
    exif[0x010E] = "x" * 2**21
    content = with_chunks(encoded(COLOURS, exif=exif), chunk(b"iCCP", b"wide\0\0" + packed))
    content = with_chunks(content, *EXTRAS["zTXt"])
    expected = seen(PIXELS[::-1, ::-1]).transpose(2, 0, 1)
    assert abs(read_square(content, Square(16)) - expected).max() <= 2
    bomb = with_chunks(encoded(COLOURS), chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**26))))
    assert len(without_excess(bomb)[1]) == 2**24


@pytest.mark.parametrize("filler", [b"", chunk(b"aaAa", b"")])
def test_a_png_of_millions_of_chunks(filler):
    """Reference: bad, at once. Zeros are no chunks; those that are would take PIL minutes."""
    content = PNG + (filler or bytes(12)) * 2**18
    with pytest.raises(BadImage, match="131,072 chunks" if filler else "not an image"):
        read_square(content, Square(16))
    assert filler or without_excess(content).content == content


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_broken_exif_does_not_make_an_image_bad(kind):
    """Reference: the same file without it."""
    content = encoded(COLOURS, kind, exif=b"Exif\0\0" + BROKEN_EXIF)
    with without_pil_warnings():
        x = read_square(content, Square(16))
    assert (x == read_square(encoded(COLOURS, kind), Square(16))).all()


# --- transparency, and what `data info` says ---


@pytest.mark.parametrize(("background", "rgb"), [("black", (0, 0, 0)), ("#ff8000", (255, 128, 0))])
def test_transparent_images_are_laid_over_the_background(background, rgb):
    """Reference: the formula. Bars stay black, and the colour is part of the cache's name."""
    alpha = ALPHA / 255
    over = np.array(rgb)[:, None, None] * (1 - alpha)
    square = Square(16, background=background)
    x = read_square(encoded(with_alpha("RGBA")), square)
    assert abs(x - chw(COLOURS) * alpha - over).max() <= 1
    assert abs(read_square(with_alpha("RGBa"), square) - chw(COLOURS) * alpha - over).max() <= 2
    clear = encoded(Image.new("RGBA", (16, 8)))
    padded = read_square(clear, Square(16, fit="pad", background=background))
    assert (padded[:, :4] == 0).all() and (padded[:, 4:12] == np.reshape(rgb, (3, 1, 1))).all()
    assert square.key not in (Square(16).key, Square(16, background="#123456").key)
    deep = encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), transparency=257 * 7)
    expected = np.where(RAMP == 7, np.reshape(rgb, (3, 1, 1)), RAMP)
    assert (read_square(deep, square) == expected).all()


@pytest.mark.parametrize("bits, kind", [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
def test_a_transparent_value_of_any_depth(bits, kind):
    """Reference: PNG's tRNS: the value is one of the file's, of grey or of three colours."""
    values = (RAMP.astype(np.int64) % 16) * (0x1234 if bits == 16 else 1) % 2**bits
    samples = np.repeat(values[..., None], 1 + kind, 2)
    if bits < 8:
        rows = np.packbits((values[..., None] >> np.arange(bits)[::-1] & 1).reshape(16, -1), 1)
    else:
        rows = samples.astype(f">u{bits // 8}").reshape(16, -1)
    head = struct.pack(">II5B", 16, 16, bits, kind, 0, 0, 0)
    clear = struct.pack(">H", values[0, 1]) * (1 + kind)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    png = [(b"IHDR", head), (b"tRNS", clear), (b"IDAT", body), (b"IEND", b"")]
    x = read_square(PNG + b"".join(chunk(*c) for c in png), Square(16, background="#ff0000"))
    red = (x == np.reshape((255, 0, 0), (3, 1, 1))).all(0)
    assert (red == (values == values[0, 1])).all()


def test_colours_in_settings():
    """Reference: one spelling for each colour, so that one has one cache. # is no comment."""
    for text, name in {"#FFFFFF": "white", "black": "black", "#FF8000": "#ff8000"}.items():
        config = load_config("demo", [f"data.background={text}"])
        assert config.data.background == name
    with pytest.raises(UserError, match="background.*must be white, black or '#rrggbb'"):
        load_config("demo", ["data.background=red"])


def test_info_counts_profiles_values_and_transparency(tmp_path):
    """Reference: what was written."""
    files = {
        "a.png": encoded(COLOURS, icc_profile=WIDE),
        "b.png": encoded(COLOURS, icc_profile=b"x"),
    }
    files["c.jpg"] = encoded(COLOURS, "JPEG", icc_profile=SAME_AS_SRGB)
    files["d.png"] = with_alpha("RGBA")
    files["e.png"] = COLOURS.convert("RGBA")  # nothing of it is transparent
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    files["g.png"] = encoded(deep, transparency=257 * 7)
    files |= {f"f{i}.tif": tiff(SHARP.astype(np.float32)) for i in range(2)}
    two = {"save_all": True, "append_images": [noise((16, 16))]}
    kinds = ("gif", "tiff", "webp", "png", "mpo")
    files |= {f"h.{kind}": encoded(COLOURS, kind, **two) for kind in kinds}
    report = info(folder(tmp_path, files))
    assert "frames 4 have more pages or frames; the first is taken" in report
    assert "wide (1), which are converted to sRGB sRGB by hand (1), which are sRGB" in report
    assert "a damaged one (1), which are ignored" in report
    assert "alpha 2 have transparent parts, which" in report
    ends = f"{SHARP.min():.6g} … {SHARP.max():.6g}"
    assert f"values floats: {ends}, of 0 … 1; what lies outside is clipped" in report
