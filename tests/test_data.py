"""From image files and named data sets to a pyramid."""

import io
import json
import logging
import os
import pickle
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from progan.data import demo, prepare
from progan.data.files import Source
from progan.data.images import BadImage, TooSmall, to_square
from progan.data.pyramid import Pyramid, PyramidWriter
from progan.data.sources import find
from progan.errors import UserError
from progan.schedule import resolutions_to


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test may touch the user's cache or data."""
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROGAN_DATA", str(tmp_path / "root"))


def noise(size, mode="RGB", seed=0):
    """A random PIL image; size is (width, height)."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.frombytes(mode, size, values.tobytes())


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def folder(path, files):
    """Write {relative name: PIL image or bytes} below `path`."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else encoded(content))
    return path


def archive(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content if isinstance(content, bytes) else encoded(content))
    return path


def read_one(tmp_path, name, content, resolution, channels=3):
    return find(str(folder(tmp_path / "one", {name: content}))).read(0, resolution, channels)


def chw(image):
    x = np.asarray(image)
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)


def box_average(x, resolution):
    """The reference: float64 mean over blocks of [..., H, W]."""
    k = x.shape[-1] // resolution
    return x.reshape(*x.shape[:-2], resolution, k, resolution, k).mean(axis=(-3, -1), dtype=float)


def make(source, dest, resolution=16, channels=3, **options):
    options = {"progress": False} | options
    return prepare.prepare(source, dest, resolution=resolution, channels=channels, **options)


# --- the pyramid ---


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_box_averages(tmp_path, channels):
    """Reference: each level the float64 box average of the image, rounded once, ties to even."""
    images = {f"{i}.png": noise((32, 32), seed=i) for i in range(5)}
    source = find(str(folder(tmp_path / "in", images)))
    pyramid = make(source, tmp_path / "out", 32, channels)
    top = np.stack([chw(x.convert("L" if channels == 1 else "RGB")) for x in images.values()])
    assert (pyramid.level(32) == top).all()
    for resolution in (16, 8, 4):
        level = pyramid.level(resolution)
        assert level.shape == (5, channels, resolution, resolution) and level.dtype == np.uint8
        assert (level == np.rint(box_average(top, resolution))).all()
        # The level above is rounded itself: half a grey level for it, half for this one.
        above = box_average(np.asarray(pyramid.level(2 * resolution)), resolution)
        assert abs(level - above).max() <= 1.0


def test_half_way_values_round_to_even(tmp_path):
    """Reference: averages 0.5, 1.5, 2.5, 3.5 become 0, 2, 2, 4."""
    x = np.repeat([[0, 1, 1, 2, 2, 3, 3, 4]], 8, axis=0).astype(np.uint8)
    source = find(str(folder(tmp_path / "in", {"a.png": Image.fromarray(x)})))
    assert make(source, tmp_path / "out", 8, 1).level(4)[0, 0, 0].tolist() == [0, 2, 2, 4]
    assert source.read(0, 4, 1)[0, 0].tolist() == [0, 2, 2, 4]


def test_pyramid_is_read_only_and_reopens(tmp_path):
    """What is opened again equals what `prepare` returned; writing to a level fails."""
    source = find(str(folder(tmp_path / "in", {"a.png": noise((20, 16))})))
    made = make(source, tmp_path / "out")
    pyramid = Pyramid.open(tmp_path / "out")
    assert (pyramid.count, pyramid.channels, pyramid.resolution) == (1, 3, 16)
    assert (pyramid.source, pyramid.classes, pyramid.labels, pyramid.bad) == ("in", (), None, 0)
    assert (pyramid.level(8) == made.level(8)).all()
    with pytest.raises(ValueError, match="read-only"):
        pyramid.level(8)[0] = 0
    with pytest.raises(ValueError, match="no level 32, only 4, 8, 16"):
        pyramid.level(32)


def damage_meta(path, **change):
    meta = json.loads((path / "meta.json").read_text()) | change
    (path / "meta.json").write_text(json.dumps(meta))


DAMAGES = {
    "no data pyramid": lambda p: (p / "meta.json").unlink(),
    "damaged": lambda p: (p / "meta.json").write_text("{"),
    "damaged.*0008.npy": lambda p: (p / "0008.npy").unlink(),
    "version 99": lambda p: damage_meta(p, version=99),
    r"0004.npy holds uint8 \[3, 3, 4, 4\] where meta.json says uint8 \[4,": lambda p: damage_meta(
        p, count=4
    ),
    "unexpected keyword": lambda p: damage_meta(p, colour="blue"),
    "damaged or unreadable": lambda p: os.truncate(p / "0016.npy", 1000),
    "No data left": lambda p: os.truncate(p / "0016.npy", 0),
    "0016.npy has the wrong length": lambda p: os.truncate(p / "0016.npy", 10**5),
    r"labels outside of 0..1": lambda p: np.save(p / "labels.npy", np.array([0, 1, 2])),
    "labels.npy holds float64": lambda p: np.save(p / "labels.npy", np.zeros(3)),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_pyramid_is_refused(tmp_path, message):
    """Every file that does not fit `meta.json` is an error that names it."""
    with PyramidWriter(tmp_path, "x", 3, 16) as writer:
        levels = {r: np.zeros((3, 3, r, r), np.uint8) for r in resolutions_to(16)}
        writer.append(levels, np.array([0, 1, 0]))
        writer.finish(("a", "b"))
    assert Pyramid.open(tmp_path).labels.tolist() == [0, 1, 0]
    DAMAGES[message](tmp_path)
    with pytest.raises(UserError, match=message):
        Pyramid.open(tmp_path)


# --- one image ---


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
HALF_CLEAR = np.where(chw(PALETTE.convert("RGB")) >= 0, chw(PALETTE.convert("RGB")), 0)
HALF_CLEAR = np.where(np.asarray(PALETTE) == 3, 255, HALF_CLEAR)
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


def test_jpeg_cmyk_and_orientation(tmp_path):
    """Reference: an upright image; EXIF orientation 6 says that it was stored turned by 90°."""
    smooth = Image.fromarray(RAMP).resize((64, 64), Image.Resampling.BICUBIC).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = smooth.transpose(Image.Transpose.ROTATE_90)
    x = read_one(tmp_path, "t.jpg", encoded(turned, "JPEG", quality=98, exif=exif), 64)
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
    assert (to_square(centre, 64, 3) == chw(centre)).all()


def test_unreadable_images_say_why(tmp_path, monkeypatch):
    """Each reason is one that a reader understands, without addresses in memory."""
    whole = encoded(noise((64, 64)), "JPEG")
    cases = {
        "empty file": b"",
        "not an image, or of a kind": b"hello",
        "truncated": whole[: len(whole) // 2],
        "not finite": encoded(Image.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF"),
    }
    for reason, content in cases.items():
        with pytest.raises(BadImage, match=reason):
            read_one(tmp_path, "a.jpg", content, 64)
    for limit in (64 * 64 - 1, 64 * 64 // 3):  # PIL warns from the limit on, fails from twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(BadImage, match="decompression bomb"):
            read_one(tmp_path, "a.jpg", whole, 64)


def test_pil_warnings_do_not_leak(tmp_path, monkeypatch):
    """An image that only earns a warning from PIL harms only itself (warnings are errors)."""
    files = {"bomb.png": noise((64, 64)), "good.png": noise((16, 16))}
    source = find(str(folder(tmp_path / "in", files)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    pyramid = make(source, tmp_path / "out")
    assert (pyramid.count, pyramid.bad) == (1, 1)
    text = (tmp_path / "out" / "bad-files.txt").read_text()
    assert text == "bomb.png: 64x64 pixels: taken for a decompression bomb\n"


# --- folders and zips ---

TREE = {
    "b/two.PNG": noise((16, 16), seed=1),
    "a/deep/one.png": noise((16, 16), seed=2),
    "a/three.png": noise((16, 16), seed=3),
}
NOISE = {
    "a/notes.txt": b"no image",
    "a/.hidden.png": b"hidden",
    ".cache/x.png": b"hidden",
    "__MACOSX/a/three.png": b"bookkeeping",
}


def test_folder_is_searched_recursively(tmp_path):
    """All images below it in the order of their names; links in a circle end; nothing hidden."""
    path = folder(tmp_path / "in", TREE | NOISE)
    (path / "a" / "circle").symlink_to(path, target_is_directory=True)
    os.mkfifo(path / "pipe.png")
    source = find(str(path))
    names = ["a/deep/one.png", "a/three.png", "b/two.PNG"]
    assert [source.item_name(i) for i in range(len(source))] == names
    assert (source.name, source.classes, source.labels) == ("in", (), None)
    assert (source.read(2, 16, 3) == chw(TREE["b/two.PNG"])).all()


@pytest.mark.parametrize("prefix", ["", "data/set/", "./"])
def test_zip_equals_folder(tmp_path, prefix):
    """The same files in a zip, below a common folder or not: the same names, labels and pixels."""
    one = find(str(folder(tmp_path / "in", TREE | NOISE)), labels=True)
    files = {prefix + name: content for name, content in (TREE | NOISE).items()}
    two = find(str(archive(tmp_path / "in.zip", files)), labels=True)
    assert [one.item_name(i) for i in range(3)] == [two.item_name(i) for i in range(3)]
    assert one.classes == two.classes == ("a", "b") and two.name == "in"
    assert one.labels.tolist() == two.labels.tolist() == [0, 0, 1]
    first, second = make(one, tmp_path / "1"), make(two, tmp_path / "2")
    assert (first.level(16) == second.level(16)).all()
    assert first.classes == ("a", "b") and first.labels.tolist() == [0, 0, 1]


def test_labels_stay_with_their_images(tmp_path):
    """A bad image takes its label with it."""
    source = find(str(folder(tmp_path / "in", TREE | {"a/bad.png": b"junk"})), labels=True)
    pyramid = make(source, tmp_path / "out")
    assert pyramid.labels.tolist() == [0, 0, 1]
    assert (pyramid.level(16)[2] == chw(TREE["b/two.PNG"])).all()


def test_zip_entries_outside_are_ignored(tmp_path):
    """Absolute entries, drives and `..` are no images; nothing is extracted."""
    outside = dict.fromkeys(["/x.png", "../x.png", "a/../../x.png", "C:\\x.png"], noise((16, 16)))
    path = archive(tmp_path / "in" / "x.zip", outside | {"a\\good.png": noise((16, 16))})
    source = find(str(path))
    assert [source.item_name(i) for i in range(len(source))] == ["good.png"]
    source.read(0, 16, 3)
    assert os.listdir(tmp_path / "in") == ["x.zip"]


def test_class_folders(tmp_path):
    """Labels need a folder a class: a message that says so names the first loose image."""
    path = folder(tmp_path / "in", TREE)
    assert find(str(path)).key != find(str(path), labels=True).key
    folder(path, {"loose.png": noise((16, 16))})
    with pytest.raises(UserError, match=r"1 of 4 .*\(loose.png\).*<class>/<image>.*labels=false"):
        find(str(path), labels=True)
    assert len(find(str(path))) == 4


def test_an_encrypted_zip_is_refused_at_once(tmp_path):
    """Reference: the flag that the format sets for an encrypted entry, in both of its headers."""
    path = archive(tmp_path / "secret.zip", {"a.png": noise((8, 8))})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is encrypted; unpack it"):
        find(str(path))


def test_a_folder_around_the_classes_is_no_class(tmp_path):
    """Reference: the same tree without it, in a folder and in a zip."""
    files = {f"all/{name}/{i}.png": noise((16, 16), seed=i) for i in range(2) for name in "ab"}
    for path in (folder(tmp_path / "tree", files), archive(tmp_path / "tree.zip", files)):
        source = find(str(path), labels=True)
        assert source.classes == ("a", "b") and source.labels.tolist() == [0, 0, 1, 1]
    one = {name: image for name, image in files.items() if "/a/" in name}
    with pytest.raises(UserError, match="two or more folders"):
        find(str(folder(tmp_path / "one", one)), labels=True)


def test_key_follows_the_content(tmp_path):
    """A file added, renamed or rewritten changes the key; moving the whole folder does not."""
    path = folder(tmp_path / "in", {"a.png": noise((8, 8))})
    keys = [find(str(path)).key]
    folder(path, {"b.png": noise((8, 8))})
    keys.append(find(str(path)).key)
    (path / "b.png").rename(path / "c.png")
    keys.append(find(str(path)).key)
    os.utime(path / "a.png", (1, 1))
    keys.append(find(str(path)).key)
    assert len(set(keys)) == 4
    path.rename(tmp_path / "moved")
    assert find(str(tmp_path / "moved")).key == keys[-1]


def test_what_cannot_be_found(tmp_path, monkeypatch):
    """Unknown names, empty or unreadable folders and other files: what is wrong, what would do."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"'celebaa'.*did you mean 'celeba'.*no such path"):
        find("celebaa")
    (tmp_path / "empty").mkdir()
    archive(tmp_path / "empty.zip", {"readme.txt": b"nothing"})
    for data in ("empty", "empty.zip"):
        with pytest.raises(UserError, match=r"no images in empty.*\.jpg \.jpeg \.png"):
            find(data)
    (tmp_path / "data.tar").write_bytes(b"tar" * 1000)
    with pytest.raises(UserError, match="data.tar is neither a folder nor a .zip"):
        find("data.tar")

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(UserError, match="cannot read empty.*Permission denied"):
        find("empty")


def test_known_names_win_over_bare_paths(tmp_path, monkeypatch):
    """`demo` is the embedded set even where a folder has that name; `./demo` is the folder."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "demo", {"a.png": noise((16, 16))})
    assert len(find("demo")) == demo.SIZE and len(find("./demo")) == 1


# --- too many bad images ---


def bad_folder(tmp_path, good=3, broken=2, small=1):
    files = {f"good{i}.png": noise((16, 16), seed=i) for i in range(good)}
    files |= {f"broken{i}.png": b"junk" for i in range(broken)}
    files |= {f"small{i}.png": noise((12, 9)) for i in range(small)}
    return find(str(folder(tmp_path / "in", files)))


def test_bad_images_are_left_out_and_named(tmp_path, caplog):
    """The good ones remain in order, the bad ones are listed, and one line warns of them."""
    source = bad_folder(tmp_path)
    with caplog.at_level(logging.WARNING, "progan"):
        pyramid = make(source, tmp_path / "out", max_bad=3)
    assert (pyramid.count, pyramid.bad) == (3, 3)
    for i in range(3):
        assert (pyramid.level(16)[i] == chw(noise((16, 16), seed=i))).all()
    lines = (pyramid.path / "bad-files.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["broken0.png", "broken1.png", "small0.png"]
    assert lines[2] == "small0.png: 12x9 is too small for resolution 16"
    assert len(caplog.records) == 1 and "left out 3 bad images" in caplog.text


def test_too_many_bad_images(tmp_path):
    """How many, the first of them with reasons, and the key; no folder remains."""
    expected = r"3 of the 6 images.*max_bad is 2.*1 too small: 12x9 \(1 image\).*2 unreadable: "
    with pytest.raises(UserError, match=expected + "broken0.png: not an image.*-o data.max_bad"):
        make(bad_folder(tmp_path), tmp_path / "out", max_bad=2)
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_too_small_images_name_a_resolution(tmp_path):
    """Reference: 12 images of 64x64 and one of 100x80 would do at 64, whatever max_bad is."""
    files = {f"{i}.png": noise((64, 64)) for i in range(12)} | {"x.png": noise((100, 80))}
    source = find(str(folder(tmp_path / "in", files)))
    expected = r"13 of the 13.*13 too small: 64x64 \(12 images\), 100x80 \(1\).*resolution=64"
    with pytest.raises(UserError, match=expected):
        make(source, tmp_path / "out", 128)
    with pytest.raises(UserError, match=expected):
        make(source, tmp_path / "out", 128, max_bad=5)
    with pytest.raises(UserError, match="power of two"):
        make(source, tmp_path / "out", 48)
    assert make(source, tmp_path / "out", 64, max_bad=0).count == 13


def test_interrupted_prepare_leaves_nothing(tmp_path, monkeypatch):
    """Ctrl-C in the middle: no pyramid, no half one; what a killed process left is cleared."""
    source = bad_folder(tmp_path, good=200)
    real, calls = Source.read, []

    def stop(self, i, *rest):
        calls.append(i)
        if i == 150:
            raise KeyboardInterrupt
        return real(self, i, *rest)

    monkeypatch.setattr(Source, "read", stop)
    with pytest.raises(KeyboardInterrupt):
        make(source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]
    monkeypatch.setattr(Source, "read", real)
    folder(tmp_path / ".out.part", {"0004.npy": b"half"})
    assert make(source, tmp_path / "out").count == 200
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_full_disk(tmp_path, monkeypatch):
    """Too little room is noticed before the first image is read, and the message says how much."""
    source = bad_folder(tmp_path)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0.0 GB are free.*data.cache or \$PROGAN_CACHE"):
        make(source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


def test_progress_without_a_terminal(tmp_path, capsys):
    """One line at the start and one at the end, on stderr; none without progress."""
    make(bad_folder(tmp_path), tmp_path / "out", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 2
    assert "in at 16x16: preparing 6 images" in err and "images/s" in err
    make(bad_folder(tmp_path), tmp_path / "quiet", progress=False)
    assert capsys.readouterr() == ("", "")


# --- the cache ---


def cached(source, **options):
    options = {"resolution": 16, "channels": 3, "progress": False} | options
    return prepare.cached(source, **options)


def test_cache_is_used_again(tmp_path, monkeypatch):
    """The second call decodes nothing; another size, or a changed source, is prepared anew."""
    source = bad_folder(tmp_path, broken=0, small=0)
    first = cached(source)
    assert first.path.parent == tmp_path / "cache" / "pyramids"
    with monkeypatch.context() as patch:
        patch.setattr(Source, "read", lambda *_: pytest.fail("decoded again"))
        again = cached(find(str(tmp_path / "in")))
    assert again.path == first.path and (again.level(16) == first.level(16)).all()
    assert cached(source, resolution=8).path != first.path
    folder(tmp_path / "in", {"more.png": noise((16, 16))})
    assert cached(find(str(tmp_path / "in"))).count == first.count + 1


def test_cache_does_not_hide_bad_images(tmp_path):
    """A stricter data.max_bad counts for a pyramid that was made under a laxer one."""
    source = bad_folder(tmp_path)
    assert cached(source, max_bad=3).count == 3
    with pytest.raises(UserError, match="3 images are bad, and data.max_bad is 2.*bad-files.txt"):
        cached(source, max_bad=2)


def test_cache_places(tmp_path, monkeypatch):
    """The argument, $PROGAN_CACHE, $XDG_CACHE_HOME/progan, ~/.cache/progan, in this order."""
    source = bad_folder(tmp_path, broken=0, small=0)
    made = cached(source, cache=tmp_path / "mine")
    assert made.path.parent == tmp_path / "mine" / "pyramids"
    monkeypatch.delenv("PROGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert prepare.default_cache() == tmp_path / "xdg" / "progan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare.default_cache() == tmp_path / ".cache" / "progan"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*set data.cache"):
        cached(source, cache=tmp_path / "file")


def test_processes_make_it_once(tmp_path):
    """Two threads that start together, each with a lock of its own as processes have: one make."""
    source, made = bad_folder(tmp_path, good=100, broken=0, small=0), []
    real = prepare.prepare

    def counted(*args, **options):
        made.append(1)
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(prepare, "prepare", counted)
        jobs = [pool.submit(cached, source) for _ in range(2)]
        paths = {job.result().path for job in jobs}
    assert len(paths) == 1 and len(made) == 1


# --- named data sets ---


def test_demo():
    """Reference: what `demo.draw` gives; luma for one channel."""
    source = find("demo", labels=True)
    assert source.classes == tuple(demo.CLASSES) and len(source) == demo.SIZE
    assert (source.labels == demo.labels(0, range(demo.SIZE))).all()
    drawn = demo.draw(0, [5, 9], 32)
    assert (np.stack(source.read_batch([5, 9], 32, 3)) == drawn).all()
    luma = np.tensordot([0.299, 0.587, 0.114], drawn[1].astype(float), 1)
    assert abs(source.read(9, 32, 1)[0] - luma).max() <= 1


@pytest.mark.parametrize("layout", ["folder", "zip"])
def test_celeba(tmp_path, layout):
    """Reference: rows 57 to 185 and columns 25 to 153 of the aligned 178x218 image."""
    files = {f"img_align_celeba/00000{i}.jpg": noise((178, 218), seed=i) for i in (1, 2)}
    files["img_align_celeba/000003.jpg"] = noise((200, 218))
    if layout == "folder":
        folder(tmp_path / "root" / "celeba", files)
    else:
        archive(tmp_path / "root" / "celeba" / "img_align_celeba.zip", files)
    source = find("celeba")
    assert len(source) == 3 and source.name == "celeba"
    expected = chw(noise((178, 218), seed=2))[:, 121 - 64 : 121 + 64, 89 - 64 : 89 + 64]
    assert (source.read(1, 128, 3) == expected).all()
    with pytest.raises(BadImage, match="200x218 is not CelebA's 178x218"):
        source.read(2, 128, 3)
    with pytest.raises(TooSmall, match="128x128 is too small for resolution 256"):
        source.read(1, 256, 3)
    with pytest.raises(UserError, match="data.labels: celeba has attributes"):
        find("celeba", labels=True)


@pytest.mark.parametrize("name", ["celeba", "cifar10", "mnist"])
def test_absent_data_sets_say_what_to_do(tmp_path, name):
    """The place looked at, the manual way, and --download."""
    manual = {
        "celeba": "get img_align_celeba.zip from https://mmlab",
        "cifar10": "unpack cifar-10-python.tar.gz, giving .*cifar-10-batches-py",
        "mnist": "unpack its four idx files into .*raw",
    }
    with pytest.raises(UserError, match=f"{name}: not found in .*root.*{manual[name]}") as caught:
        find(name)
    assert "--download" in str(caught.value) and "download=True" not in str(caught.value)


@pytest.mark.parametrize("name", ["CelebA", "CIFAR10", "MNIST"])
def test_failed_download(monkeypatch, name):
    """Whatever torchvision raises becomes a message with the reason and the manual way."""
    import torchvision

    def fail(root, download):
        assert download
        raise RuntimeError("quota exceeded")

    monkeypatch.setattr(torchvision.datasets, name, fail)
    expected = r"the download failed \(RuntimeError: quota exceeded\); (get|unpack)"
    with pytest.raises(UserError, match=expected):
        find(name.lower(), download=True)


def test_mnist(tmp_path):
    """Reference: idx files written here; 28x28 inside a border of two black pixels."""
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9], np.uint8)
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, *images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 0x801, len(labels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    source = find("mnist", labels=True)
    assert source.labels.tolist() == labels.tolist() and len(source.classes) == 10
    x = source.read(2, 32, 1)
    assert (x[0, 2:30, 2:30] == images[2]).all() and x.sum() == images[2].sum()
    assert (source.read(2, 32, 3) == x).all()
    with pytest.raises(UserError, match=r"32x32 \(6 images\).*resolution=32"):
        make(source, tmp_path / "out", 64)
    assert find("mnist").labels is None


def test_cifar10(tmp_path, monkeypatch):
    """Reference: small batches in the format of the authors, [N, 3 * 32 * 32] uint8."""
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    base = tmp_path / "root" / "cifar-10-batches-py"
    base.mkdir(parents=True)
    data = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 32, 32), np.uint8)
    for k in range(5):
        batch = {"data": data[k].reshape(2, -1), "labels": [k, 9 - k]}
        (base / f"data_batch_{k + 1}").write_bytes(pickle.dumps(batch))
    names = [f"class {k}" for k in range(10)]
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    source = find("cifar10", labels=True)
    assert source.classes == tuple(names)
    assert source.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    pyramid = make(source, tmp_path / "out", 32)
    assert (pyramid.level(32) == data.reshape(10, 3, 32, 32)).all()
    assert pyramid.labels.dtype == np.int64 and pyramid.labels.tolist() == source.labels.tolist()
