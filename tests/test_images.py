"""From one image of any kind, size and orientation, whole or damaged, to a square."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pictures import box_average, chw, encoded, noise, read_one
from PIL import Image, ImageFile, ImageOps

from progan.data.decode import BadImage, Square, TooSmall, read_square
from progan.data.formats import FORMATS


def grey(x):
    return np.broadcast_to(np.asarray(x), (3, *np.shape(x)))


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIDE = RAMP.astype(np.uint16) * 257
PALETTE = noise((16, 16)).quantize(16)
RGBA = noise((16, 16), "RGBA")
OVER_WHITE = np.asarray(RGBA, float)[..., :3] * (np.asarray(RGBA, float)[..., 3:] / 255)
OVER_WHITE = (OVER_WHITE + 255 - np.asarray(RGBA, float)[..., 3:]).transpose(2, 0, 1)
LA = noise((16, 16), "LA")
LA_OVER_WHITE = np.asarray(LA, float)[..., 0] * np.asarray(LA, float)[..., 1] / 255
LA_OVER_WHITE = grey(LA_OVER_WHITE + 255 - np.asarray(LA, float)[..., 1])
HALF_CLEAR = np.where(np.asarray(PALETTE) == 3, 255, chw(PALETTE.convert("RGB")))
CMYK = noise((16, 16), "CMYK")
CMYK_REFERENCE = np.asarray(CMYK, float)
CMYK_REFERENCE = (255 - CMYK_REFERENCE[..., :3]) * (255 - CMYK_REFERENCE[..., 3:]) / 255
CMYK_REFERENCE = CMYK_REFERENCE.transpose(2, 0, 1)
BITS = (RAMP % 3 == 0).astype(np.uint8) * 255
FLOATS = (RAMP / 255).astype(np.float32)
PGM = b"P5 16 16 65535\n" + WIDE.astype(">u2").tobytes()

KINDS = {
    "rgb.png": (encoded(noise((16, 16))), chw(noise((16, 16)))),
    "rgb.webp": (encoded(noise((16, 16)), "WEBP", lossless=True), chw(noise((16, 16)))),
    "rgb.bmp": (encoded(noise((16, 16)), "BMP"), chw(noise((16, 16)))),
    "rgb.ppm": (encoded(noise((16, 16)), "PPM"), chw(noise((16, 16)))),
    "grey.png": (encoded(Image.fromarray(RAMP)), grey(RAMP)),
    "grey16.png": (encoded(Image.fromarray(WIDE)), grey(RAMP)),
    "grey16.tiff": (encoded(Image.fromarray(WIDE), "TIFF"), grey(RAMP)),
    "grey16.pgm": (PGM, grey(RAMP)),
    "int32.tif": (encoded(Image.fromarray(WIDE.astype(np.int32)), "TIFF"), grey(RAMP)),
    "float01.tif": (encoded(Image.fromarray(FLOATS), "TIFF"), grey(RAMP)),
    "float255.tif": (encoded(Image.fromarray(FLOATS * 255), "TIFF"), grey(RAMP)),
    "rgba.png": (encoded(RGBA), OVER_WHITE),
    "la.png": (encoded(LA), LA_OVER_WHITE),
    "palette.png": (encoded(PALETTE), chw(PALETTE.convert("RGB"))),
    "palette.gif": (encoded(PALETTE, "GIF"), chw(PALETTE.convert("RGB"))),
    "palette-clear.png": (encoded(PALETTE, transparency=3), HALF_CLEAR),
    "palette-alpha.png": (
        encoded(PALETTE, transparency=bytes([255, 255, 255, 0] + [255] * 12)),
        HALF_CLEAR,
    ),
    "cmyk.tif": (encoded(CMYK, "TIFF"), CMYK_REFERENCE),
    "bits.png": (encoded(Image.fromarray(BITS).convert("1", dither=0)), grey(BITS)),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file(tmp_path, name):
    """Reference: the pixels written, blended over white where transparent; luma for one channel."""
    content, expected = KINDS[name]
    x = read_one(tmp_path, name, content, 16)
    assert x.shape == (3, 16, 16) and x.dtype == np.uint8
    blended = name in ("rgba.png", "la.png", "cmyk.tif")  # PIL rounds these in its own way
    assert abs(x - expected.astype(float)).max() <= (1 if blended else 0)
    luma = np.tensordot([0.299, 0.587, 0.114], expected.astype(float), 1)
    assert abs(read_one(tmp_path, name, content, 16, channels=1)[0] - luma).max() <= 1.5


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RAMP, grey(RAMP)),
        (RAMP[..., None], grey(RAMP)),
        (WIDE, grey(RAMP)),
        (np.asarray(noise((16, 16))), chw(noise((16, 16)))),
        (np.asarray(noise((16, 16))).astype(np.uint16) * 257, chw(noise((16, 16)))),
    ],
)
def test_arrays(array, expected):
    """Reference: the same pixels; 16 bits by 257, which takes 65535 to 255."""
    assert (read_square(array, Square(16)) == expected).all()


ORIENTATIONS = {  # EXIF's number: how an upright image has been stored
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def stored(upright, orientation, kind, **options):
    """Bytes of a file with the image, rotated as `orientation` says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = upright
    if ORIENTATIONS[orientation] is not None:
        turned = upright.transpose(ORIENTATIONS[orientation])
    return encoded(turned, kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_orientation(kind, orientation):
    """Reference: the upright image, wider than high; crops are counted in its pixels."""
    upright = noise((24, 16))
    content = stored(upright, orientation, kind, **LOSSLESS[kind])
    assert (read_square(content, Square(16)) == chw(upright)[:, :, 4:20]).all()
    x = read_square(content, Square(8, fit=(15, 7, 8)))
    assert (x == chw(upright)[:, 7:15, 15:23]).all()
    with pytest.raises(TooSmall, match="24x16 is too small"):
        read_square(content, Square(32))


def test_jpeg_cmyk_and_orientation(tmp_path):
    """Reference: the image before it was compressed, upright and in RGB."""
    smooth = Image.fromarray(RAMP).resize((64, 64), Image.Resampling.BICUBIC).convert("RGB")
    x = read_one(tmp_path, "t.jpg", stored(smooth, 6, "JPEG", quality=98), 64)
    assert abs(x - chw(smooth).astype(float)).mean() < 1
    cmyk = encoded(smooth.convert("CMYK"), "JPEG", quality=98)
    assert abs(read_one(tmp_path, "t.jpg", cmyk, 64) - chw(smooth).astype(float)).mean() < 2


def test_crop_and_resize(tmp_path):
    """Reference: the centre square; float64 box averages from 2^k, PIL's Lanczos otherwise."""
    image = noise((70, 64))
    centre = image.crop((3, 0, 67, 64))
    x = read_one(tmp_path, "a.png", image, 16)
    assert (x == np.rint(box_average(chw(centre), 16))).all()
    odd = noise((48, 61))
    small = odd.crop((0, 6, 48, 54)).resize((32, 32), Image.Resampling.LANCZOS)
    assert (read_one(tmp_path, "a.png", odd, 32) == chw(small)).all()
    with pytest.raises(TooSmall, match="48x61 is too small for resolution 64") as caught:
        read_one(tmp_path, "a.png", odd, 64)
    assert caught.value.size == (48, 61)
    assert (read_square(centre, Square(64)) == chw(centre)).all()


def test_unreadable_images_say_why(tmp_path, monkeypatch):
    """Each reason is one that a reader understands, without addresses in memory."""
    whole = encoded(noise((64, 64)), "JPEG")
    monkeypatch.setattr("progan.data.formats.FORMATS", [name for name in FORMATS if name != "HEIF"])
    cases = {
        "empty file": b"",
        "not an image, or of a kind": b"hello",
        "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "a web page": b"\n<!DOCTYPE html><html>",
        r"HEIC, .*pip install '\.\[heic\]'": b"\0\0\0\x18ftypheic" + bytes(50),
        "truncated": whole[: len(whole) // 2],
        "not finite": encoded(Image.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF"),
    }
    for reason, content in cases.items():
        with pytest.raises(BadImage, match=reason):
            read_one(tmp_path, "a.jpg", content, 64)
    for limit in (64 * 64 - 1, 64 * 64 // 3):  # PIL warns from the limit on, fails from twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as worker processes do
            with pytest.raises(BadImage, match="ecompression bomb"):
                read_one(tmp_path, "a.jpg", whole, 64)


def test_a_bomb_is_not_decoded(monkeypatch):
    """Reference: PIL's decoder, which a PNG header of 60000x60000 does not reach."""
    head = b"IHDR" + struct.pack(">II5B", 60000, 60000, 8, 2, 0, 0, 0)
    small = encoded(noise((1, 1)))
    small = small[:12] + head + struct.pack(">I", zlib.crc32(head)) + small[33:]
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    with pytest.raises(BadImage, match="60000x60000|DecompressionBomb"):
        read_square(small, Square(16))
    assert not decoded


# --- properties ---

FITS = st.one_of(
    st.sampled_from(["crop", "pad"]),
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(4, 60)),
)
SQUARES = st.builds(
    Square, st.sampled_from([4, 8, 16]), st.sampled_from([1, 3]), FITS, st.booleans()
)
MODES = {
    "PNG": ["L", "LA", "RGB", "RGBA", "P", "1"],
    "TIFF": ["L", "RGB", "RGBA", "CMYK", "1"],
    "WEBP": ["RGB", "RGBA"],
    "JPEG": ["L", "RGB", "CMYK"],
    "BMP": ["L", "RGB"],
    "GIF": ["P", "L"],
    "PPM": ["L", "RGB"],
}


@st.composite
def files(draw):
    """A whole file of a random kind, mode, size and orientation."""
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    size = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    image = noise(size, "RGB" if mode in "P1" else mode, draw(st.integers(0, 99))).convert(mode)
    if kind in LOSSLESS or kind == "JPEG":
        number = draw(st.sampled_from(sorted(ORIENTATIONS)))
        return stored(image, number, kind, **LOSSLESS.get(kind, {}))
    return encoded(image, kind)


def reference_square(content, square):
    """The upright image in RGB over white and then a square: float64, un-rounded, or None.

    Written without any of the shortcuts. Where the side is not resolution * 2^k, PIL's Lanczos
    filter on the whole image.
    """
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    alpha = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), alpha).convert("RGB")
    r, width, height = square.resolution, *image.size
    if square.fit == "pad":
        side = max(image.size)
        whole = Image.new("RGB", (side, side))
        whole.paste(image, (round((side - width) / 2), round((side - height) / 2)))
        image = whole
    else:
        x, y, side = (
            (width - min(image.size)) // 2,
            (height - min(image.size)) // 2,
            min(image.size),
        )
        if square.fit != "crop":
            x, y, side = square.fit
        if x + side > width or y + side > height:
            return None
        image = image.crop((x, y, x + side, y + side))
    if side < r and not square.upscale:
        return None
    if square.channels == 1:
        image = image.convert("L")
    if side >= r and side % r == 0 and (side // r).bit_count() == 1:
        return box_average(chw(image).astype(float), r)
    return chw(image.resize((r, r), Image.Resampling.LANCZOS)).astype(float)


def read_or_bad(content, square):
    """Result of `read_square`, checked for shape and type; None for BadImage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's; as worker processes do
        try:
            x = read_square(content, square)
        except BadImage as error:
            assert str(error) and " at 0x" not in str(error)
            return None
    assert isinstance(x, np.ndarray) and x.dtype == np.uint8
    assert x.shape == (square.channels, square.resolution, square.resolution)
    assert x.flags.c_contiguous
    return x


QUICK = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,  # the suite is the same every time; raise max_examples to search
    database=None,
    suppress_health_check=list(HealthCheck),
)


@QUICK
@given(files(), SQUARES)
def test_whole_files_are_read_right(content, square):
    """Reference: `reference_square`. PIL rounds once more where it resizes, blends, or makes grey.

    JPEGs of noise may be decoded smaller; how near that is, is held below.
    """
    expected = reference_square(content, square)
    x = read_or_bad(content, square)
    assert (x is None) == (expected is None)
    if x is not None:
        assert abs(x - expected).max() <= (40 if content[:2] == b"\xff\xd8" else 3)


@QUICK
@given(files(), SQUARES, st.data())
def test_damaged_files_are_bad_or_images(content, square, data):
    """Bits flipped, bytes cut off or put in: an array of the right shape, or BadImage."""
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        how = data.draw(st.sampled_from(["flip", "flip", "cut", "insert"]))
        if how == "cut":
            del damaged[place:]
        elif how == "insert":
            damaged[place:place] = data.draw(st.binary(min_size=1, max_size=4))
        elif damaged:
            damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    read_or_bad(bytes(damaged), square)


@QUICK
@given(st.binary(max_size=64), SQUARES)
@example(b"\xff\xd8\xff", Square(4))
@example(b"P5 99999 99999 255\n", Square(4))
def test_junk_is_bad(content, square):
    """Reference: short byte strings are images only by chance."""
    read_or_bad(content, square)


@settings(QUICK, max_examples=60)
@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from([4, 8, 16]), st.integers(0, 9), FITS
)
@example(3000, 5, 16, 0, "pad")
@example(256, 256, 4, 0, "crop")
@example(256, 320, 8, 0, "crop")
def test_jpegs_decoded_smaller_are_the_same(width, height, resolution, seed, fit):
    """Reference: the whole decode. A JPEG decoded at 1/8, 1/4 or 1/2 differs little."""
    rough = noise((max(width // 8, 1), max(height // 8, 1)), seed=seed)
    content = encoded(rough.resize((width, height), Image.Resampling.BICUBIC), "JPEG", quality=95)
    square = Square(resolution, 3, fit, True)
    expected, x = reference_square(content, square), read_or_bad(content, square)
    assert (x is None) == (expected is None)
    if x is not None:
        assert abs(x - expected).mean() < 6 and abs(x - expected).max() < 40
