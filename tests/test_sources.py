"""Images in folders, zips, tars, NumPy files and LSUN's databases: found, listed, read."""

import gzip
import io
import itertools
import multiprocessing
import os
import pickle
import tarfile
import threading
import tracemalloc
import zipfile
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import psutil
import pytest
from pictures import chw, database, encoded, folder, names, noise, tarred, zipped
from PIL import Image

from progan.data.decode import BadImage, Square
from progan.data.sources import arrays, demo, readers
from progan.data.sources.arrays import in_memory
from progan.data.sources.find import find
from progan.runtime.errors import UserError

SIXTEEN = Square(16)
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
SORTED = ["a/deep/one.png", "a/three.png", "b/two.PNG"]
ARCHIVES = {
    ".zip": zipped,
    ".ZIP": lambda path, files: zipped(path, files, zipfile.ZIP_DEFLATED),
    ".tar": tarred,
    ".tgz": lambda path, files: tarred(path, files, "w:gz"),
    ".tar.gz": lambda path, files: tarred(path, files, "w:gz"),
    ".tar.bz2": lambda path, files: tarred(path, files, "w:bz2"),
    ".tar.xz": lambda path, files: tarred(path, files, "w:xz"),
}


# --- folders ---


def test_folder_is_searched_recursively(tmp_path):
    """All images below it in the order of their names; links in a circle end; nothing hidden."""
    path = folder(tmp_path / "in", TREE | NOISE)
    (path / "a" / "circle").symlink_to(path, target_is_directory=True)
    os.mkfifo(path / "pipe.png")
    source = find(str(path))
    assert names(source) == SORTED
    assert "1 as folders entered by another name (a/circle)" in source.left_out
    assert (source.name, source.labels) == ("in", None)
    assert (source.read(2, SIXTEEN) == chw(TREE["b/two.PNG"])).all()


def test_bad_files_of_a_folder(tmp_path, monkeypatch):
    """Each is listed and says why it cannot be read: links that lead nowhere or to themselves, a
    file that may not be read, one that is huge, and a pipe that has taken a file's place."""
    path = folder(tmp_path / "in", {"good.png": noise((16, 16)), "secret.png": b"", "was.png": b""})
    (path / "loop.png").symlink_to("loop.png")
    (path / "nowhere.png").symlink_to("away.png")
    with open(path / "vast.png", "wb") as file:
        file.truncate(readers.FILE_BYTES + 1)
    source = find(str(path))
    (path / "was.png").unlink()
    os.mkfifo(path / "was.png")
    real = os.open

    def open_but(path, *rest, **options):
        if str(path).endswith("secret.png"):  # root, as in a container, may read everything
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", open_but)
    found = dict(zip(names(source), source.read_batch(range(len(source)), SIXTEEN), strict=True))
    assert isinstance(found.pop("good.png"), np.ndarray)
    assert {name: str(error) for name, error in found.items()} == {
        "loop.png": "Too many levels of symbolic links",
        "nowhere.png": "No such file or directory",
        "secret.png": "Permission denied",
        "vast.png": f"{2**29 + 1} bytes are too many for an image: the limit is {2**29}",
        "was.png": "not a regular file",
    }


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_the_first_frame_is_used(tmp_path, kind):
    """Reference: docs/data.md, and the first of two plain frames."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    source = find(str(folder(tmp_path / "in", {f"a.{kind.lower()}": content})))
    assert len(source) == 1 and source.read(0, SIXTEEN)[:, 3, 3].tolist() == [255, 0, 0]


def test_too_many_pixels_are_a_bad_image(tmp_path):
    """Reference: the limit that docs/data.md states."""
    content = encoded(Image.new("1", (89_478_486 // 2, 2)))
    source = find(str(folder(tmp_path / "in", {"a.png": content})))
    with pytest.raises(BadImage, match="decompression bomb"):
        source.read(0, SIXTEEN)


def test_names_in_any_alphabet(tmp_path):
    """Names that are no text at all are read, too, and printable."""
    path = folder(
        tmp_path / "Фото 写真", {"смех 笑.png": noise((16, 16)), "a\n.png": noise((16, 16))}
    )
    with open(os.fsencode(path) + b"/\xff.png", "wb") as file:
        file.write(encoded(noise((16, 16))))
    source = find(str(path), labels=False)
    assert (
        names(source) == ["a\\n.png", "смех 笑.png", "\\udcff.png"] and source.name == "Фото-写真"
    )
    assert all(isinstance(x, np.ndarray) for x in source.read_batch(range(3), SIXTEEN))


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


# --- archives ---


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("prefix", ["", "data/set/", "./"])
def test_archive_equals_folder(tmp_path, kind, prefix):
    """The same files, below a common folder or not: the same names, labels and pixels.

    A tar's are in its own order, so here they are put in by name.
    """
    one = find(str(folder(tmp_path / "in", TREE | NOISE)), labels=True)
    files = {prefix + name: content for name, content in sorted((TREE | NOISE).items())}
    two = find(str(ARCHIVES[kind](tmp_path / f"in{kind}", files)), labels=True)
    assert names(one) == names(two) == SORTED
    assert one.labels.names == two.labels.names == ("a", "b") and two.name == "in"
    assert one.labels.values.tolist() == two.labels.values.tolist() == [0, 0, 1]
    for i in (0, 1, 2, 0):  # backward, too
        assert (one.read(i, SIXTEEN) == two.read(i, SIXTEEN)).all()


@pytest.mark.parametrize("make", [zipped, tarred])
def test_entries_outside_are_ignored(tmp_path, caplog, make):
    """Absolute entries, drives and `..` are no images; nothing is extracted."""
    outside = dict.fromkeys(["/x.png", "../x.png", "a/../../x.png", "C:\\x.png"], noise((16, 16)))
    path = make(
        tmp_path / "in" / f"x.{make.__name__[:3]}", outside | {"a\\good.png": noise((16, 16))}
    )
    source = find(str(path))
    assert names(source) == ["good.png"]
    source.read(0, SIXTEEN)
    assert os.listdir(tmp_path / "in") == [path.name]
    said = "4 with an absolute path or '..' (../x.png)"
    assert source.left_out == said and not caplog.messages
    path = make(tmp_path / "in" / f"y.{make.__name__[:3]}", outside)
    with pytest.raises(UserError, match="no images in .*; left out: 4 with an absolute path"):
        find(str(path))


def test_links_and_devices_in_archives_are_ignored(tmp_path):
    """Reference: archives with one image, and entries of other kinds that have an image's name.
    Links are counted."""
    good = encoded(noise((16, 16)))
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for k, kind in enumerate(kinds):
            member = tarfile.TarInfo(f"{k}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
        member = tarfile.TarInfo("good.png")
        member.size = len(good)
        file.addfile(member, io.BytesIO(good))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("folder.png/", b"")
        file.writestr("good.png", good)
    for path, links in (
        ("x.tar", "2 as links (0.png)"),
        ("x.zip", "1 as links (link.png)"),
    ):
        source = find(str(tmp_path / path))
        assert names(source) == ["good.png"] and source.left_out == links
        assert (source.read(0, SIXTEEN) == chw(noise((16, 16)))).all()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar(tmp_path, form):
    """Reference: the names given to Python's tarfile, long ones and such in other alphabets; of two
    members with one name the later, in its place."""
    long = "/".join(["folder" * 8] * (4 if form == tarfile.USTAR_FORMAT else 9)) + "/смех.png"
    path = tarred(tmp_path / "x.tar", {"a.png": b"old", long: noise((16, 16))}, format=form)
    with tarfile.open(path, "a", format=form) as file:
        member, data = tarfile.TarInfo("a.png"), encoded(noise((16, 16), seed=5))
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
    source = find(str(path))
    assert names(source) == [long, "a.png"]
    assert (source.read(1, SIXTEEN) == chw(noise((16, 16), seed=5))).all()


def rewrite(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def test_damaged_zip_entries_are_bad_images(tmp_path):
    """Flipped bytes, a lost header, an unknown method, a size that lies: only that image is bad."""
    files = {f"{i}.png": noise((16, 16), seed=i) for i in range(6)}
    path = zipped(tmp_path / "x.zip", files, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as file:
        places = {info.filename: info.header_offset for info in file.infolist()}
    directory = path.read_bytes().index(b"PK\1\2")

    def entry(data, name):
        """Position of its entry in the central directory."""
        return data.index(name.encode(), directory) - 46

    def damage(data):
        data[places["1.png"] + 200] ^= 4
        data[places["2.png"]] = 0
        data[entry(data, "3.png") + 10] = 14  # LZMA, unbounded while it decompresses
        data[entry(data, "4.png") + 24 : entry(data, "4.png") + 28] = (2**30).to_bytes(4, "little")
        data[entry(data, "5.png") + 24] ^= 1

    rewrite(path, damage)
    source = find(str(path))
    found = dict(zip(names(source), source.read_batch(range(6), SIXTEEN), strict=True))
    assert (found.pop("0.png") == chw(files["0.png"])).all()
    assert {name: str(error).split(":")[0] for name, error in found.items()} == {
        "1.png": "the zip is damaged here",
        "2.png": "the zip is damaged here",
        "3.png": "compressed by method 14",
        "4.png": f"{2**30} bytes are too many for an image",
        "5.png": "the zip is damaged here",
    }


def test_a_zip_bomb_is_not_inflated(tmp_path):
    """Reference: an entry that inflates to more than it claims; no more than that is made of it.
    A large one that begins as no image does is not inflated at all."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(10**8))
        file.writestr("b.png", bytes(2 * readers.LARGE))
        file.writestr("c.png", encoded(noise((16, 16))) + bytes(2 * readers.LARGE))

    def lie(data):
        where = data.index(b"PK\1\2") + 24
        data[where : where + 4] = (1000).to_bytes(4, "little")

    rewrite(path, lie)
    source = find(str(path))
    tracemalloc.start()
    with pytest.raises(BadImage, match="wrong length or checksum"):
        source.read(0, SIXTEEN)
    with pytest.raises(BadImage, match="not an image"):
        source.read(1, SIXTEEN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6
    assert (source.read(2, SIXTEEN) == chw(noise((16, 16)))).all()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_large_files_in_tars(tmp_path, mode):
    """Reference: as in a zip: one that begins as no image does is not read to its end."""
    files = {"b.png": bytes(2 * readers.LARGE)}
    files["c.png"] = encoded(noise((16, 16))) + files["b.png"]
    source = find(str(tarred(tmp_path / "x.tar", files, mode)))
    tracemalloc.start()
    with pytest.raises(BadImage, match="not an image"):
        source.read(0, SIXTEEN)
    assert tracemalloc.get_traced_memory()[1] < readers.LARGE
    tracemalloc.stop()
    assert (source.read(1, SIXTEEN) == chw(noise((16, 16)))).all()


def test_a_bomb_in_a_compressed_tar_is_not_unpacked(tmp_path):
    """Reference: a header that says 5 GB, of a name with an escape. Whoever wants what follows
    must unpack it."""
    member = tarfile.TarInfo("big\x1b.bin")
    member.size = 5 * 10**9
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf() + bytes(2**20)))
    with pytest.raises(UserError, match=r"holds big\\x1b.bin of 5.0 GB, which each process would"):
        find(str(path))


def test_an_encrypted_zip_is_refused_at_once(tmp_path):
    """Reference: the flag that the format sets for an encrypted entry, in both of its headers."""
    path = zipped(tmp_path / "secret.zip", {"a.png": noise((8, 8))})

    def encrypt(data):
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(signature) + offset] |= 1

    rewrite(path, encrypt)
    with pytest.raises(UserError, match="is encrypted; unpack it"):
        find(str(path))


def huge(data):
    """A tar header that claims a TB, with a checksum that fits."""
    data[124:136] = b"\x80" + (10**12).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])


DAMAGED = {
    "x.zip": (zipped, lambda d: d.__delitem__(slice(len(d) // 2, None)), "cannot be read as a zip"),
    "y.zip": (zipped, lambda d: d.clear(), "cannot be read as a zip"),
    "a.tar": (tarred, lambda d: d.__delitem__(slice(1300, None)), "a.tar is cut off or damaged"),
    "b.tar": (tarred, lambda d: d.__setitem__(1536 + 3, 255), "b.tar is cut off or damaged"),
    "c.tar": (tarred, huge, "c.tar is cut off or damaged: 10+ bytes"),
    "d.tar": (tarred, lambda d: d.clear(), "d.tar is empty"),
    "e.tar": (zipped, lambda d: None, "e.tar is not a tar"),
    "f.tgz": (ARCHIVES[".tgz"], lambda d: d.__delitem__(slice(300, None)), "cut off or damaged"),
    "g.tar": (tarred, lambda d: d.__setitem__(slice(0, 4), b"\x28\xb5\x2f\xfd"), "zstd"),
    "h.txz": (ARCHIVES[".tar.xz"], lambda d: d.__setitem__(200, d[200] ^ 255), "damaged|Corrupt"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archives_are_refused(tmp_path, name):
    """What cannot be listed whole is an error: nobody knows how many images it lacks."""
    make, change, message = DAMAGED[name]
    images = {f"{i}.png": noise((16, 16), seed=i) for i in range(4)}
    rewrite(make(tmp_path / name, images), change)
    with pytest.raises(UserError, match=message + "(.|\n)*unpack it and give the folder"):
        find(str(tmp_path / name))


def test_key_of_archives_follows_the_content(tmp_path):
    """A new zip of the same files has the same key, of other files another; a new tar's is new."""
    files = {"a.png": noise((8, 8)), "b.png": noise((8, 8))}
    keys = [find(str(zipped(tmp_path / f"{k}" / "x.zip", files))).key for k in range(2)]
    files["b.png"] = noise((8, 8), seed=1)
    keys.append(find(str(zipped(tmp_path / "2" / "x.zip", files))).key)
    assert keys[0] == keys[1] != keys[2]
    path = tarred(tmp_path / "x.tar", files)
    first = find(str(path)).key
    assert find(str(path)).key == first
    os.utime(path, (1, 1))
    assert find(str(path)).key != first


def test_a_compressed_tar_is_decompressed_once(tmp_path, monkeypatch):
    """Reference: how often it starts at its beginning, for reads in order, from several threads."""
    images = {f"{i:03}.png": noise((16, 16), seed=i) for i in range(50)}
    source = find(str(tarred(tmp_path / "x.tgz", images, "w:gz")))
    rewinds, real = [], gzip._GzipReader._rewind
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda s: (rewinds.append(1), real(s)))
    found = {}

    def read(part):
        for i in range(part, 50, 2):
            found[i] = source.load(i)

    for i in range(50):
        source.load(i)
    assert rewinds == []
    threads = [threading.Thread(target=read, args=(k,)) for k in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(found[i] == encoded(image) for i, image in enumerate(images.values()))


# --- NumPy files ---

COLOUR = np.random.default_rng(0).integers(0, 256, (5, 16, 20, 3), np.uint8)
ARRAYS = {
    "[N, H, W, 3]": COLOUR,
    "[N, H, W]": COLOUR[..., 0],
    "[N, H, W, 1]": COLOUR[..., :1],
    "[N, 3, H, W]": COLOUR.transpose(0, 3, 1, 2),
    "[N, 1, H, W]": COLOUR.transpose(0, 3, 1, 2)[:, :1],
    "uint16": COLOUR.astype(np.uint16) * 257,
    "big-endian": (COLOUR.astype(np.uint16) * 257).astype(">u2"),
    "Fortran": np.asfortranarray(COLOUR),
    "opaque": np.concatenate([COLOUR, np.full_like(COLOUR[..., :1], 255)], axis=3),
}


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(tmp_path, kind, name):
    """Reference: the array itself, its centre squares; grey is the same three times."""
    array = ARRAYS[name]
    path = tmp_path / ("x.npy" if kind == "npy" else "x.npz")
    if kind == "npy":
        np.save(path, array)
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(path, images=array, labels=np.array([3, 1, 3, 1, 3]))
    source = find(str(path), labels=kind != "npy")
    grey = "1" in name.split()[-1] or name in ("[N, H, W]", "[N, 1, H, W]")
    expected = COLOUR[..., [0, 0, 0]] if grey and name[0] == "[" else COLOUR
    assert len(source) == 5 and source.name == "x"
    for i in (4, 0):
        assert (source.read(i, SIXTEEN) == chw(expected[i][:, 2:18])).all()
    if kind != "npy":
        assert source.labels.names == ("1", "3") and source.labels.values.tolist() == [
            1,
            0,
            1,
            0,
            1,
        ]


def test_arrays_of_which_both_axes_could_be_channels(tmp_path):
    """[N, 3, H, 3] is N images of H x 3: the other reading has 3 rows, fewer than 4x4 takes."""
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 4), np.uint8))
    assert find(str(tmp_path / "x.npy")).read(0, Square(4)).shape == (3, 4, 4)


def test_medmnist(tmp_path):
    """Reference: its layout, labels [N, 1], or [N, K] where several may hold."""
    arrays = {"train_images": COLOUR, "val_images": COLOUR[:1], "test_images": COLOUR[:1]}
    labels = np.array([[0], [1], [0], [1], [2]], np.uint8)
    np.savez(tmp_path / "blood.npz", train_labels=labels, **arrays)
    source = find(str(tmp_path / "blood.npz"), labels=True)
    assert len(source) == 5 and source.labels.values.tolist() == [0, 1, 0, 1, 2]
    labels = np.array([[0, 0], [1, 1], [0, 1], [1, 1], [1, 0]], np.uint8)
    np.savez(tmp_path / "chest.npz", train_labels=labels, **arrays)
    source = find(str(tmp_path / "chest.npz"), labels=True)
    assert source.labels.values.dtype == np.uint8 and (source.labels.values == labels).all()


class Trap:
    """Creates the file `sprung` if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


BAD_ARRAYS = {
    r"the shape \[16, 16\]; it must be \[N, H, W\]": np.zeros((16, 16), np.uint8),
    r"x.np.* holds no images: its shape is \[0, 8, 8\]": np.zeros((0, 8, 8), np.uint8),
    r"the shape \[2, 8, 8, 5\]": np.zeros((2, 8, 8, 5), np.uint8),
    r"float32; it must be uint8 or uint16: save .*\(\(x - x.min\(\)\)": np.zeros((2, 8, 8), "f"),
    r"int64; .*save .*x.max.*\.astype\('uint16'\)": np.zeros((2, 8, 8), np.int64),
    r"bool; .*save x.astype\('uint8'\) \* 255": np.zeros((2, 8, 8), bool),
}


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_bad_arrays(tmp_path, kind, message):
    """Each says what the array is and what it must be."""
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, BAD_ARRAYS[message])
    else:
        np.savez(path, images=BAD_ARRAYS[message])
    with pytest.raises(UserError, match=message):
        find(str(path))


def test_nothing_is_unpickled(tmp_path):
    """Reference: files that would write `sprung` if they were; as images, labels, or the whole."""
    trap = np.array([Trap(str(tmp_path / "sprung"))] * 5, object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=trap, allow_pickle=True)
    np.savez(tmp_path / "c.npz", images=COLOUR, labels=trap, allow_pickle=True)
    (tmp_path / "d.npy").write_bytes(pickle.dumps(trap))
    (tmp_path / "e.npz").write_bytes(pickle.dumps(trap))
    for name in ("a.npy", "b.npz", "c.npz", "d.npy", "e.npz"):
        with pytest.raises(UserError, match=f"{name}.*Python objects: to load those may"):
            find(str(tmp_path / name), labels=True)
    assert not (tmp_path / "sprung").exists()


def test_an_array_that_becomes_shorter_while_it_is_read(tmp_path):
    """Reference: the message. A mapped file would kill the process. One in Fortran's order is read
    whole."""
    x = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    for name, array in (("c", x), ("fortran", np.asfortranarray(x))):
        np.save(tmp_path / f"{name}.npy", array)
        source = find(str(tmp_path / f"{name}.npy"))
        np.testing.assert_array_equal(source.read(9, Square(16)), x[9].transpose(2, 0, 1))
        os.truncate(tmp_path / f"{name}.npy", 1000)
        if name == "c":
            with pytest.raises(UserError, match="c.npy was changed while it was read .*shorter"):
                source.read(9, Square(16))
        else:
            np.testing.assert_array_equal(source.read(10, Square(16)), x[10].transpose(2, 0, 1))


def test_damaged_arrays_are_refused(tmp_path, monkeypatch):
    """Cut off, with false headers, too large for memory, without images, with too few labels."""
    np.save(tmp_path / "cut.npy", COLOUR)
    os.truncate(tmp_path / "cut.npy", 1000)
    np.savez(tmp_path / "cut.npz", images=COLOUR)
    os.truncate(tmp_path / "cut.npz", 1000)
    header = io.BytesIO()
    claims = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64)}
    np.lib.format.write_array_header_1_0(header, claims)
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as file:
        file.writestr("images.npy", header.getvalue() + bytes(100))
    np.lib.format.write_array_header_1_0(header, claims | {"shape": (10**30, 4, 4)})
    (tmp_path / "open.npy").write_bytes(header.getvalue().replace(b")", b" "))
    (tmp_path / "vast.npy").write_bytes(header.getvalue()[len(header.getvalue()) // 2 :])
    for name in ("cut.npy", "cut.npz", "lies.npz", "open.npy", "vast.npy"):
        with pytest.raises(UserError, match=f"{name} cannot be read .*numpy.save"):
            find(str(tmp_path / name))
    np.savez(tmp_path / "x.npz", a=COLOUR, b=COLOUR)
    with pytest.raises(UserError, match="x.npz has the arrays a, b; expected images or train_im"):
        find(str(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", images=COLOUR)
    with pytest.raises(UserError, match="x.npz has no labels"):
        find(str(tmp_path / "x.npz"), labels=True)
    np.savez(tmp_path / "x.npz", images=COLOUR, labels=np.arange(4))
    with pytest.raises(UserError, match=r"has 5 images, and labels of the shape \[4\]"):
        find(str(tmp_path / "x.npz"), labels=True)
    np.savez_compressed(tmp_path / "x.npz", images=COLOUR, labels=np.zeros((5, 2**17), np.uint8))
    monkeypatch.setattr(arrays, "read_member", None)  # nothing is unpacked
    with pytest.raises(UserError, match=r"5 images, and labels of the shape \[5, 131072\]"):
        find(str(tmp_path / "x.npz"), labels=True)
    memory = type("Memory", (), {"total": 4000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(UserError, match="would take 4.8 kB of memory in each .*numpy.save"):
        find(str(tmp_path / "x.npz"))


def test_a_damaged_array_is_read_once(tmp_path, monkeypatch):
    """Reference: calls of numpy's reader; every image is refused by one and the same error."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=COLOUR)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    source, calls = find(str(path)), []
    read = np.lib.format.read_array
    monkeypatch.setattr(
        "progan.data.sources.arrays.format.read_array",
        lambda *a, **k: calls.append(1) or read(*a, **k),
    )
    for i in range(3):
        with pytest.raises(
            UserError, match=r"x.npz is damaged \(.+\); get it again, or make it again"
        ):
            source.read(i, SIXTEEN)
    assert calls == [1]


def test_a_large_array_is_mapped(tmp_path):
    """Reference: memory. A .npy of 1 GB, all holes, opens and reads without being read whole."""
    path = tmp_path / "x.npy"
    claims = {"descr": "|u1", "fortran_order": False, "shape": (2**14, 256, 256)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, claims)
        file.truncate(file.tell() + 2**30)
    before = psutil.Process().memory_info().rss
    source = find(str(path))
    assert source.read(2**14 - 1, SIXTEEN).max() == 0
    assert psutil.Process().memory_info().rss - before < 10**8
    assert len(pickle.dumps(source.content)) < 1000


# --- LSUN's databases ---


def test_lmdb(tmp_path):
    """Reference: what was put in, in the order of the keys; any order of reads; WebP as LSUN's."""
    images = {f"{k:02x}": noise((16, 16), seed=k) for k in (7, 3, 200, 41)}
    images["03"] = encoded(images["03"], "WEBP", lossless=True)
    images["ff"] = b"junk"
    path = database(tmp_path / "bedroom_train_lmdb", images)
    source = find(str(path))
    assert names(source) == ["03", "07", "29", "c8", "ff"] and source.name == "bedroom_train_lmdb"
    for i in (0, 3, 1, 1, 2):
        k = int(source.item_name(i), 16)
        assert (source.read(i, SIXTEEN) == chw(noise((16, 16), seed=k))).all()
    with pytest.raises(BadImage, match="not an image"):
        source.read(4, SIXTEEN)
    two = find(str(path), limit=2)
    assert names(two) == ["03", "07"] and two.key != source.key
    assert len(pickle.dumps(source)) < 2000
    with pytest.raises(UserError, match="is one category, and the categories are the classes"):
        find(str(path), labels=True)


def test_damaged_lmdb(tmp_path, monkeypatch):
    """One that is cut off would crash the process where it is read; an empty one; junk."""
    images = {str(k): noise((64, 64), seed=k) for k in range(20)}
    path = database(tmp_path / "cut", images)
    read = find(str(database(tmp_path / "read", images)))
    assert read.read(0, SIXTEEN).any()
    for file in (path / "data.mdb", tmp_path / "read" / "data.mdb"):
        os.truncate(file, file.stat().st_size - 20000)
    for look in (lambda: find(str(path)), lambda: read.read(1, SIXTEEN)):
        with pytest.raises(UserError, match=r"data.mdb has \d+ of \d+ bytes; get it again"):
            look()
    with pytest.raises(UserError, match="has no entries"):
        find(str(database(tmp_path / "empty", {})))
    (path / "data.mdb").write_bytes(b"junk" * 5000)
    with pytest.raises(UserError, match="cannot be read"):
        find(str(path))
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(UserError, match=r"pip install '\.\[lsun\]'"):
        find(str(path))


# --- any source ---


def test_what_cannot_be_found(tmp_path, monkeypatch):
    """Unknown names, empty or unreadable folders and other files: what is wrong, what would do."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"'celebaa'.*no such path.*did you mean 'celeba'"):
        find("celebaa")
    (tmp_path / "empty").mkdir()
    for make, path in ((zipped, "empty.zip"), (tarred, "empty.tar")):
        make(tmp_path / path, {"readme.txt": b"nothing"})
    for data in ("empty", "empty.zip", "empty.tar"):
        with pytest.raises(UserError, match=r"no images in empty.*\.jpeg \.jpg .*\.png"):
            find(data)
    for data in ("./celeba", "celeba.zip"):
        with pytest.raises(UserError, match=f"no such path: '{data}'; .*shards") as told:
            find(data)
        assert "did you mean" not in str(told.value)
    tarred(tmp_path / "sh" / "0.tar", {"a.png": b""})
    with pytest.raises(UserError, match=r"no images in sh: .*may be shards: give 'sh/\*.tar'"):
        find("sh")
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "data.mdb").write_bytes(b"")
    with pytest.raises(UserError, match="data.mdb is part of an LMDB: give the folder, lm"):
        find("lm/data.mdb")
    (tmp_path / "data.bin").write_bytes(b"bin" * 1000)
    with pytest.raises(UserError, match=r"data.bin is of no kind that .*\.tar\.gz.*\.npz.*LMDB"):
        find("data.bin")

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


def kinds(tmp_path):
    """A path of every kind, each with three images."""
    images = {f"{name}.png": noise((16, 16), seed=k) for k, name in enumerate("abc")}
    yield folder(tmp_path / "in", images)
    for kind, make in ARCHIVES.items():
        yield make(tmp_path / f"in{kind}", images)
    array = np.stack([np.asarray(image) for image in images.values()])
    np.save(tmp_path / "in.npy", array)
    np.savez_compressed(tmp_path / "in.npz", images=array)
    yield from (tmp_path / "in.npy", tmp_path / "in.npz")
    yield database(tmp_path / "lmdb", images)


def test_every_source_is_read_in_another_process(tmp_path):
    """Reference: the images written. The process is a new one, and it loads no torch."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        for path in itertools.chain(kinds(tmp_path), ["demo"]):
            source = find(str(path))
            (x,) = pool.submit(source.read_batch, [1], SIXTEEN).result()
            assert (x == source.read(1, SIXTEEN)).all()
            if path != "demo":
                assert (x == chw(noise((16, 16), seed=1))).all(), path
        assert not pool.submit(eval, "'torch' in __import__('sys').modules").result()


def test_processes_are_sent_no_lists(tmp_path):
    """Reference: sizes. What every process gets is as small for 300 images as for 3."""
    array = np.zeros((300, 4, 4, 3), np.uint8)
    for make in (folder, zipped, tarred, database):
        sizes = []
        for count in (3, 300):
            files = {f"{k:03}.png": b"x" for k in range(count)}
            source = find(str(make(tmp_path / f"{count:03}.{make.__name__[:3]}", files)))
            assert len(source) == count
            sizes.append(len(pickle.dumps(source.without_lists())))
        assert abs(sizes[0] - sizes[1]) < 8 and sizes[1] < 1000
    source = in_memory("drawn", array)
    assert len(pickle.dumps(source.without_lists())) < 1000 < len(pickle.dumps(source))


def test_limit_takes_the_first(tmp_path):
    """Reference: the first names, labels and images of all; a key of its own unless that is all."""
    for path in [*kinds(tmp_path), "demo"]:
        whole, two = find(str(path)), find(str(path), limit=2)
        assert names(two) == [whole.item_name(i) for i in range(2)] and two.key != whole.key
        assert (two.read(1, SIXTEEN) == whole.read(1, SIXTEEN)).all()
        assert find(str(path), limit=len(whole)).key == whole.key
    labelled = find("demo", labels=True, limit=100)
    assert (labelled.labels.values == demo.labels(0, range(100))).all()
    files = {f"{name}/{i}.png": noise((16, 16)) for i in range(3) for name in "ab"}
    path = str(folder(tmp_path / "classes", files))
    assert find(path, labels=True, limit=4).labels.values.tolist() == [0, 0, 0, 1]
    with pytest.raises(UserError, match="data.max_images: the first 3 images of classes have none"):
        find(path, labels=True, limit=3)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.npy", "a.npz", "a.tar.gz", "a"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    """Reference: the cause, at once; nothing ever writes into the pipe."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="is a pipe or a device; give the path of a folder"):
        find(str(tmp_path / name))
