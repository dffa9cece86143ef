"""Which files count as images, by their names: in folders, zips, tars and shards alike."""

import base64
import io
import os
import re
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from pictures import chw, encoded, folder, names, noise, tarred, zipped
from PIL import Image, features

from progan.cli.main import main
from progan.config.load import load_config
from progan.data import formats
from progan.data.decode import Square
from progan.data.opening import open_data
from progan.data.sources.files import walk
from progan.data.sources.find import find
from progan.data.sources.names import MOST_REASONS, LeftOut
from progan.data.sources.shards import from_shards
from progan.data.sources.thumbnails import thumbnails

KEEP = {"folder": folder, "x.zip": zipped, "x.tar": tarred}
IMAGE = noise((16, 16))
SYSTEMS = [
    *("cats/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/a.jpg", "cats/#snapshot/x/a.jpg"),
    *("@Recycle/a.jpg", "$RECYCLE.BIN/S-1-5-21/$R1.jpg", "System Volume Information/a.png"),
    *("lost+found/a.png", "__MACOSX/cats/._a.jpg", ".AppleDouble/a.jpg", "cats/.@__thumb/a.jpg"),
    *(".ipynb_checkpoints/a-checkpoint.png", ".picasaoriginals/a.jpg", ".dtrash/files/a.jpg"),
    *("Previews.lrdata/0/a.jpg", "appdata_oc1a2b/preview/a.png", "FOUND.000/FILE0000.jpg"),
    "My.photoslibrary/resources/derivatives/1/a_1_105_c.jpeg",
    *("node_modules/x/logo.png", ".dropbox.cache/a.jpg", "@tmp/a.jpg", "cats/~snapshot/a.jpg"),
    *("@GMT-2020.01.31-00.00.00/cats/a.jpg", "LOST.DIR/1.jpg"),
    *("PRIVATE/M4ROOT/THMBNL/C0001T01.JPG", "cats/[Originals]/a.jpg"),
    *("My.aplibrary/Previews/a.jpg", "Old.migratedphotolibrary/Thumbnails/a.jpg"),
    *("iPhoto Library/Modified/a.jpg", "venv/lib/python3.11/site-packages/x/logo.png"),
]
THUMBNAILS = [  # of the first two of OWN: MediaWiki's, and two others
    *("thumb/b.jpg/120px-b.jpg", "x/a.jpg/large.jpg", "cats/thumbs/a.jpg", "cats/@odd/a.jpg"),
    "cats/a-150x150.jpg",
]
OWN = [
    *("cats/a.jpg", "b.jpg", "@somebody/a.jpg", "#hashtag/a.jpg", "$uicideboy$/a.jpg", "_x/a.jpg"),
    *("thumbs/c.jpg", "recycled/a.jpg", "trash/a.jpg", "clip.gif/0001.png", "Originals/a.jpg"),
    *("other-150x150.jpg", "cats/b-2.jpg", "My.photoslibrary/originals/1/a.jpg"),
    *("My.aplibrary/Masters/a.jpg", "iPhoto Library/Originals/a.jpg", "CVS/a.jpg", "cats/a_t.jpg"),
]
OTHERS = ["Thumbs.db", "cats/desktop.ini", "cats/.DS_Store", "Icon\r", "cats/@eaDir/a@SynoEAStream"]


@pytest.mark.parametrize(
    "original, small",
    [
        ("images1024x1024/0/a.png", "thumbnails128x128/0/a.png"),
        ("data/photos/a.jpg", "data/photos_thumbs/a.jpg"),
        ("cats/a.jpg", "cats_thumbs/a.jpg"),
        ("full/a.jpg", "Previews/a.webp"),
        ("a.jpg", "thumbs/a.png"),
        ("a.tif", "thumbs/a.tif.jpg"),
        ("a.jpg", "thumbs/a_thumb.jpg"),
        *(("a.jpg", name) for name in ("a_thumb.jpg", "a.thumb.png", "tn_a.jpg", "a_64x64.jpg")),
        ("a.jpg", "a-150x150@2x.jpg"),
    ],
)
def test_thumbnails(original, small):
    """Reference: names that programs and authors of data sets give; FFHQ's are the first."""
    assert thumbnails([original, small]) == [1]


def test_thumbnails_of_thousands_of_folders(monkeypatch):
    """Reference: by hand. Folders are told by their names once each, not once for each other."""
    asked = []
    monkeypatch.setattr(
        "progan.data.sources.thumbnails.is_made_of", lambda name, *kinds: bool(asked.append(name))
    )
    kinds = [("cats{}", "cats{}_thumbs"), ("{}", "{} preview"), ("img{}", "x{}_thumbs")]
    for k, pair in enumerate(kinds):
        names = [f"{name.format(i)}/a.jpg" for i in range(100) for name in pair]
        assert thumbnails(names) == ([] if k == 2 else [*range(1, 200, 2)])
    assert len(asked) == 200


@pytest.mark.parametrize(
    "names",
    [
        ("fingers/1.jpg", "thumbs/1.jpg"),  # of hands
        ("images/a.jpg", "thumbs/b.jpg"),
        ("images/1/a.jpg", "thumbs/2/a.jpg"),
        ("a.jpg", "a.png", "b@2x.jpg", "b.jpg"),
        ("a.jpg", "a.jpg.png"),  # its mask
        ("@home/2020/a.jpg", "2020/a.jpg"),
        ("street.jpg", "street_tn.jpg", "100.jpg", "100-2.jpg"),
        ("green/a.jpg", "thumb/a.jpg", "a-640x480.jpg"),
        ("IMG_1234-150x150.jpg",),
        ("thumbnails/a.jpg", "posters/a.jpg"),
    ],
)
def test_images_that_are_no_thumbnails(names):
    """Reference: names that people choose. What is left out must be there otherwise."""
    assert thumbnails(names) == []


def test_runs_among_the_images_are_left_out(tmp_path):
    """Reference: what `train --data .` leaves in the folder of the images; a source that is a run's
    own folder is read, and so is one that only looks like it."""
    run = {"config.yaml": b"", "starts.jsonl": b"", "images/reals.png": IMAGE, "a/b/c.png": IMAGE}
    files = {"a.png": IMAGE, "site/config.yaml": b"", "site/checkpoints/b.png": IMAGE}
    path = folder(tmp_path / "in", files | {f"runs/in/{name}": x for name, x in run.items()})
    source = find(str(path))
    assert names(source) == ["a.png", "site/checkpoints/b.png"]
    told = "2 in folders of progan's own runs (runs/in/a/b/c.png), 1 .yaml (site/config.yaml)"
    assert source.left_out == told
    assert names(find(str(path / "runs" / "in"))) == ["a/b/c.png", "images/reals.png"]


def test_photos_that_are_only_in_icloud_are_told_of(tmp_path):
    """Reference: macOS puts `.NAME.icloud` in place of a photo that it has taken off the disk."""
    files = {"a.jpg": IMAGE, ".b.HEIC.icloud": b"x", "cats/.c.jpg.icloud": b"x"}
    source = find(str(folder(tmp_path / "in", files)))
    assert source.left_out == "2 only in iCloud (.b.HEIC.icloud)"


@pytest.mark.parametrize("kind", KEEP)
def test_what_systems_keep_is_left_out_and_counted(tmp_path, kind):
    """Reference: what Synology, QNAP, NetApp, Windows, macOS, Linux, MediaWiki and programs for
    photos leave behind, and names that people choose, which stay."""
    files = dict.fromkeys(SYSTEMS + THUMBNAILS + OWN, IMAGE) | dict.fromkeys(OTHERS, b"x")
    source = find(str(KEEP[kind](tmp_path / kind, files)))
    assert sorted(names(source)) == sorted(OWN)
    counts = map(int, re.findall(r"(\d+) (?:in|hidden|thumb|of)", source.left_out))
    total = sum(counts) if "more kinds" not in source.left_out else None
    assert total in (None, len(SYSTEMS + THUMBNAILS))
    assert "6 hidden (" in source.left_out and "5 thumbnails of others" in source.left_out
    assert "without a suffix" not in source.left_out and ".db" not in source.left_out


def test_shards_leave_out_the_same(tmp_path, caplog):
    """Reference: the lists above; thumbnails are not told apart there, as no names are kept."""
    files = dict.fromkeys(SYSTEMS + OWN, IMAGE) | {"d.jxl": b"x", "d.cls": b"0", "e.jxl": b"x"}
    path = tarred(tmp_path / "x.tar", files)
    source = from_shards(str(path), cache=tmp_path)
    assert names(source) == [f"x.tar: {name}" for name in OWN]
    assert "shards: 2 samples without" in caplog.messages[0]
    assert "6 hidden" in caplog.messages[1] and "2 .jxl (d.jxl)" in caplog.messages[1]


def test_a_source_inside_such_a_folder_is_read(tmp_path):
    """Reference: all of its images; also thumbnails whose originals lie outside of the source."""
    files = ["a.jpg/a.jpg", "a.jpg/big.jpg", "c.jpg/c.jpg"]
    path = folder(tmp_path / "@eaDir", dict.fromkeys(files, IMAGE))
    source = find(str(path))
    assert names(source) == files and source.left_out == ""


def test_a_folder_that_a_system_keeps_need_not_be_readable(tmp_path, monkeypatch):
    """Reference: lost+found of a disk, which only root may list."""
    path = folder(tmp_path / "disk", {"a.jpg": IMAGE, "lost+found/b.jpg": IMAGE})
    real = os.scandir

    def scan(where):
        if "lost+found" in os.fspath(where):
            raise PermissionError(13, "Permission denied", where)
        return real(where)

    monkeypatch.setattr(os, "scandir", scan)
    assert [name for name, _, _ in walk(path, LeftOut())] == ["a.jpg"]


def test_suffixes_are_those_of_the_formats_that_are_read(tmp_path):
    """Reference: pictures that Pillow has written under each of its own suffixes for a format: all
    are found, decoded to their pixels, and in the order of their names."""
    assert {".jfif", ".jpe", ".jp2", ".qoi", ".pnm", ".dib", ".apng"} <= set(formats.SUFFIXES)
    assert not {".eps", ".pdf", ".wmf", ".tga", ".ps"} & set(formats.SUFFIXES)
    files = {}
    for suffix in formats.SUFFIXES:
        name = formats.SUFFIX_OF[suffix]
        if name in Image.SAVE and suffix != ".pfm":
            mode = "1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB"
            exact = {"lossless": True} if name == "WEBP" else {}
            flat = Image.new("RGB", (16, 16), (40, 120, 200)).convert(mode)
            files[f"x{suffix.upper()}"] = encoded(flat, name, **exact)
    assert len(files) > 20 and (".avif" in formats.SUFFIXES) == features.check("avif")
    source = find(str(folder(tmp_path / "in", files)))
    assert names(source) == sorted(files)
    for i, name in enumerate(names(source)):
        image = source.read(i, Square(16, 3))
        expected = [40, 120, 200] if not name.endswith(("PBM", "PGM")) else image[:, 8, 8]
        assert np.abs(image[:, 8, 8] - np.array(expected, float)).max() <= 4, name


@pytest.mark.parametrize("kind", KEEP)
def test_other_files_are_counted_by_suffix(tmp_path, kind):
    """Reference: the files put in. Pictures come first; tables of labels are no left-overs."""
    files = {f"{i}.jxl": b"x" for i in range(3)} | {f"{i}.TXT": b"x" for i in range(5)}
    files |= {"c.tga": b"x", "raw": b"x", "good.png": IMAGE, "labels.csv": "file,class\n"}
    source = find(str(KEEP[kind](tmp_path / kind, files)))
    assert names(source) == ["good.png"]
    assert source.left_out == (
        "3 .jxl (0.jxl), 1 .tga (c.tga), 5 .txt (0.TXT), 1 without a suffix (raw)"
    )


def test_many_kinds_are_summed_up():
    """Reference: counted by hand. HEIC, where it cannot be read, has a remedy."""
    heic = LeftOut()
    heic.add(".heic", "a.HEIC", 2)
    remedy = "HEIC is read after pip install '.[heic]' (in a clone of progan)"
    assert str(heic) == f"2 .heic (a.HEIC); {remedy}"
    left_out = LeftOut()
    for k in range(MOST_REASONS + 3):
        for i in range(20 - k):
            left_out.add_if_unread(f"{i}.x{k:02}")
    assert str(left_out).endswith(f"({0}.x07), and {12 + 11 + 10} files of 3 more kinds")
    for name in ("README", "a.", "b..."):
        left_out.add_if_unread(name)
    left_out.add(".heic", "z.HEIC")  # the one that somebody may want, named though it is alone
    assert str(left_out).startswith("1 .heic (z.HEIC), 20 .x00")
    assert left_out.found["without a suffix"] == (3, "README")


def test_info_prepare_and_train_say_what_is_left_out(tmp_path, caplog):
    """Reference: one line each."""
    path = folder(tmp_path / "in", {f"{i}.png": IMAGE for i in range(4)} | {"a.jxl": b"x"})
    made = CliRunner().invoke(main, ["data", "prepare", str(path), str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    config = load_config(None, {"data.source": path, "data.cache": tmp_path / "cache"})
    small = config.network.model_copy(update={"resolution": 16})
    open_data(config.model_copy(update={"network": small})).close()
    assert caplog.messages == [f"{path}: files left out: 1 .jxl (a.jxl)"] * 2
    info = CliRunner().invoke(main, ["data", "info", str(path)]).output
    assert "\nleft out    1 .jxl (a.jxl)\n" in info


# 64x48 pixels of (120, 120, 200), written by pillow-heif.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAA"
    "AAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAABwAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAAB"
    "AABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADw"
    "NgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAA"
    "AAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcA"
    "AAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWB"
    "AgMFhAAAACRtZGF0AAAAGCgBrwY4iS55beT/X/r1///geTM1MJzjPw=="
)


def test_heic_is_read_if_pi_heif_is_there(tmp_path):
    """Reference: the colour of a flat picture, to what HEIC loses."""
    pytest.importorskip("pi_heif")
    source = find(str(folder(tmp_path / "in", {"IMG_0001.HEIC": HEIC})))
    colour = source.read(0, Square(32))[:, 16, 16]
    assert np.abs(colour - np.array([120.0, 120, 200])).max() <= 6 and source.left_out == ""
    assert set(formats.HEIC) <= set(formats.SUFFIXES)


# --- names in archives ---


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_are_there_twice(tmp_path, make):
    """Reference: the later one is read, as unpacking would leave it; the other is told of."""
    files = {"./a.png": noise((16, 16), seed=1), "b.png": IMAGE, "a.png": IMAGE}
    source = find(str(make(tmp_path / f"x.{make.__name__[:3]}", files)))
    assert sorted(names(source)) == ["a.png", "b.png"]
    assert source.left_out == "1 replaced by others of the same name (a.png)"
    assert (source.read(names(source).index("a.png"), Square(16)) == chw(IMAGE)).all()


def raw_zip(path, entries):
    """Write {name in bytes: (content, extra)} without the flag for UTF-8."""
    with zipfile.ZipFile(path, "w") as file:
        for k, (name, (content, extra)) in enumerate(entries.items()):
            info = zipfile.ZipInfo("ABCDEFGH"[k] * len(name))
            info.extra = extra
            file.writestr(info, content)
    data = path.read_bytes()
    for k, name in enumerate(entries):
        data = data.replace(b"ABCDEFGH"[k : k + 1] * len(name), name)
    path.write_bytes(data)
    return path


def unicode_field(raw, name, version=1):
    body = struct.pack("<BI", version, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(body)) + body


def test_names_in_zips_without_the_flag(tmp_path, caplog):
    """Reference: APPNOTE 4.6.9 and appendix D: UTF-8 as macOS writes it, Info-ZIP's field if it
    belongs to this name, else code page 437; labels in UTF-8 find their images by these names."""
    png, sjis = encoded(IMAGE), "表表.png".encode("shift-jis")
    umlaut, wrong = b"\x84\x94\x81\x99.png", b"\x99\x94\x81\x84.png"
    entries = {
        "éè.png".encode(): (png, b""),
        "é/b.png".encode(): (png, b""),
        sjis: (png, unicode_field(sjis, "表表.png")),
        umlaut: (png, b""),
        wrong: (png, unicode_field(sjis, "other.png")),  # of another name: an editor renamed it
    }
    source = find(str(raw_zip(tmp_path / "x.zip", entries)))
    expected = ["éè.png", "é/b.png", "表表.png", "äöüÖ.png", "Ööüä.png"]
    assert sorted(names(source)) == sorted(expected)
    (said,) = caplog.messages
    assert "the names of 2 files are in an unknown encoding" in said
    good = {name: entries[name] for name in list(entries)[:3]}
    table = "file,class\n" + "".join(f"{name},{k}\n" for k, name in enumerate(expected[:3]))
    path = raw_zip(tmp_path / "y.zip", good | {b"labels.csv": (table.encode(), b"")})
    assert find(str(path), labels=True).labels.names == ("0", "1", "2")
    cat = "猫.png".encode("gbk")  # is "è.png" in UTF-8
    path = raw_zip(tmp_path / "z.zip", {cat: (png, unicode_field(cat, "猫.png"))})
    assert names(find(str(path))) == ["猫.png"]
    assert len(caplog.messages) == 1


def test_backslashes_within_letters_separate_nothing(tmp_path):
    """Reference: 表 in Shift-JIS ends in a backslash's byte; elsewhere that separates folders."""
    entries = {
        "表表.png".encode("shift-jis"): (encoded(IMAGE), b""),
        b"ab\\c.png": (encoded(IMAGE), b""),
    }
    two = {f"{letter}.png".encode("cp932"): (encoded(IMAGE), b"") for letter in "ソダ"}
    assert len(find(str(raw_zip(tmp_path / "y.zip", two)))) == 2  # they differ in that byte only
    (one, other) = sorted(names(find(str(raw_zip(tmp_path / "x.zip", entries)))))
    assert one == "c.png" or other.count("/") + one.count("/") == 1


def test_names_in_tars_that_are_no_text(tmp_path, caplog):
    """Reference: the same files in a folder. Bytes that are not UTF-8 make no folders of their own,
    from which classes would come; one warning says so."""
    path, content = tmp_path / "x.tar", encoded(IMAGE)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as file:
        for name in ("café/1.png", "café/2.png", "the/3.png"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    source = find(str(path), labels=True)
    assert source.labels.names == ("caf\udce9", "the")
    assert (source.read(0, Square(16)) == chw(IMAGE)).all()
    (said,) = caplog.messages
    assert "the names of 2 files" in said and "caf\\udce9/1.png" in said
