"""WebDataset shards on disks and in object stores, and images made during training."""

import http.server
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from progan.config.settings import DataConfig
from progan.data.decode import BadImage, Square, TooSmall, box_levels
from progan.data.live import OnDemandDataset
from progan.data.opening import find_data
from progan.data.sources import readers, shard_list, tars
from progan.data.sources.files import from_path
from progan.data.sources.shard_index import index_shards
from progan.data.sources.shard_list import expand_braces, list_shards
from progan.data.sources.shards import from_shards, is_shards
from progan.data.stream import Stream
from progan.runtime.errors import UserError

SQUARE = Square(16)


@pytest.fixture(autouse=True)
def no_waiting(tmp_path, monkeypatch):
    """Retries without waiting; every test has its own cache."""
    monkeypatch.setattr(shard_list, "WAITS", (0.0, 0.0))
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))


def png(seed, size=(16, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tar(files, format=tarfile.PAX_FORMAT, mode="w"):
    """The bytes of a tar of {name: content}, or of [(name, content)]; a TarInfo is put in as is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as file:
        for name, content in files.items() if isinstance(files, dict) else files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_shards(folder, shards):
    """`shard-000.tar`, … of {name: content}; returns the pattern that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, files in enumerate(shards):
        (folder / f"shard-{k:03}.tar").write_bytes(tar(files))
    return f"{folder}/shard-{{000..{len(shards) - 1:03}}}.tar"


def photos(count, start=0):
    """{name: PNG} of noise, each with a text file next to it."""
    files = {}
    for k in range(start, start + count):
        files |= {f"train/{k:04}.png": png(k), f"train/{k:04}.txt": b"a caption"}
    return files


def labelled(labels, kind="cls"):
    files = {}
    for k, label in enumerate(labels):
        content = str(label).encode() if kind == "cls" else json.dumps({"label": label}).encode()
        files |= {f"{k}.{kind}": content, f"{k}.png": png(k)}
    return files


class Store(http.server.ThreadingHTTPServer):
    """An object store: files of a folder, with ranges, ETags and a list of what was asked."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.asked, self.failures, self.ranges = folder, [], 0, True
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Ignore clients that disconnect early."""

    def reads(self):
        return [path for method, path in self.asked if method == "GET"]


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        if self.server.failures:
            self.server.failures -= 1
            return self.say(503, b"")
        path = self.server.folder / self.path.lstrip("/").partition("?")[0]
        if not path.exists():
            return self.say(404, b"")
        content, wanted = path.read_bytes(), self.headers.get("Range")
        tag = {"ETag": f'"{path.stat().st_mtime_ns}"'}
        if not wanted or not self.server.ranges:
            return self.say(200, content, tag)
        start, end = wanted.removeprefix("bytes=").split("-")
        part = content[int(start) : int(end) + 1]
        span = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
        self.say(206, part, tag | {"Content-Range": span})

    def say(self, status, content, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def store(tmp_path):
    server = Store(tmp_path / "store")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def live():
    """Makes `OnDemandDataset`s and closes them."""
    made = []

    def make(source, square=SQUARE, workers=0, max_bad=100):
        made.append(OnDemandDataset(source, square, max_bad=max_bad, workers=workers))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- which shards -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    ["a.tar", "a-{000..003}.tar", "{8..11}", "{08..11}x", "{3..1}", "{a,b}-{1..2}/{x,,y}.tar"],
)
def test_braces_as_in_bash(pattern):
    """Reference: what bash makes of the same pattern."""
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True
    )
    assert list(expand_braces(pattern)) == words.stdout.split("\n")[:-1]


@pytest.mark.parametrize("pattern", ["{a,b{1,2}}.tar", "{x}.tar", "{1..}.tar", "{1,2.tar", "}.tar"])
def test_braces_that_are_refused(pattern):
    """Reference: the rule, one range or list, closed and not nested; named in the message. Too many
    names are refused before the first is made."""
    with pytest.raises(UserError, match="closed and not nested"):
        list(expand_braces(pattern))
    assert next(expand_braces("{0..9}" * 6 + ".tar")) == "000000.tar"
    with pytest.raises(UserError, match="names more than 1,000,000 shards"):
        expand_braces("{0..9}" * 7 + ".tar")


def test_what_counts_as_shards(tmp_path):
    """Reference: a list. What is there stays what it is; a single tar need not be indexed."""
    (tmp_path / "folder?.tar").mkdir()
    long = "{" + ",".join(100 * ["words"]) + "}.tar"
    yes = [long, "s3://b/x.tar", "https://h/{0..9}.tar", "a/*.TAR", "a-{0..1}.tar", "a?.tar.gz"]
    no = ["photos", "photos.zip", "celeba", "one.tar", str(tmp_path / "folder?.tar"), "./a{1}"]
    assert [data for data in yes + no if is_shards(data)] == yes
    with pytest.raises(UserError, match="1 of 1 shards cannot be read: words.tar"):
        find_data(DataConfig(source=long), known=True)


@pytest.mark.parametrize(
    "data, message",
    [
        ("none-*.tar", "no shard matches"),
        ("none-{0..4}.tar", r"5 of 5 shards cannot be read: none-0.tar \(not found\), .*, …$"),
        ("https://host/images.zip", "names no shards"),
        ("zip://a.tar", "'zip://a.tar' is not read: .* file, .* https, "),
        ("reference://a/*.tar", "reference://a/.* is not read"),
        ("{file,github}://a.tar", "github://a.tar' is not read"),
        ("memory://a.tar", "is not read"),
        ("data:a?.tar", "is not read"),
        ("simplecache::file:///a/*.tar", "is not read: .*without '::'"),
        ("a/{b:,c}:d*.tar", "a/b::d.*is not read"),
        ("filecache::/a/*.tar", "is not read"),
        ("HTTP://127.0.0.1:9/a.tar", "cannot list .*ConnectorError"),
        ("http://[::1]:9/a.tar", "cannot list .*ConnectorError"),
        ("http://[::1::2]:9/a.tar", "cannot list .*ValueError"),
        ("gs://bucket/a.tar", "pip install s3fs.*gcsfs"),
        ("http://127.0.0.1:9/a.tar", "cannot list .*ConnectorError"),
        ("a.tar.gz", "not found"),
        ("pipe-*.tar", r"pipe-0.tar \(a pipe or a device\)"),
    ],
)
def test_no_such_shards(data, message, tmp_path, monkeypatch):
    """Reference: the cause, in one message of one line."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe-0.tar")
    if data.startswith("gs"):
        monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(UserError, match=message) as error:
        from_shards(data)
    assert "\n" not in str(error.value)


# --- what lies in a tar -------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(format):
    """Reference: Python's tarfile, in every format: names, places and sizes of regular files."""
    long = "/".join(["a folder with a long name"] * 5)
    link, folder = tarfile.TarInfo("link.png"), tarfile.TarInfo("folder.png")
    link.type, link.linkname, folder.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.DIRTYPE
    content = [("a.png", b"x" * 700), (f"{long}/ä.png", b"y" * 512), (link, b""), (folder, b"")]
    if format != tarfile.USTAR_FORMAT:
        content += [("z" * 300 + ".png", b"w")]
    content += [("../../etc/x.png", b""), ("b.png", b"z")]
    data = header(b"1750", name=b"link", kind=b"1") + header(b"11", kind=b"x")
    data += b"9 size=3\n".ljust(512, b"\0") + header(b"0") + b"abc".ljust(512, b"\0")
    data += tar(content, format)
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        expected = [(m.name, m.offset_data, m.size) for m in file.getmembers() if m.isreg()]
    assert list(tars.members(io.BytesIO(data), len(data))) == expected


def header(size, name=b"a.png", kind=b"0", **changed):
    """A tar header by hand; `size` is the field as it stands in the file."""
    fields = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0")
    block = (fields + b"00000000000\0" + b" " * 8 + kind).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


PAX_SIZE = b"30 size=9999999999999999999999\n"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is empty"),
        (b"no tar at all" * 100, "is not a tar"),
        (b"short", "is not a tar"),
        (b"\x1f\x8b" + bytes(600), r"is compressed \(gzip\); decompress it"),
        (header(b"77777777777"), "is cut off or damaged: 8589934591 bytes"),
        (header(b"\x80" + b"\xff" * 11), "damaged: 309485009821345068724781055 bytes"),
        (header(b"\xff" + b"\xff" * 11), "is cut off or damaged: -1 bytes"),
        (header(b"rubbish"), "is cut off or damaged: -1 bytes"),
        (header(b"0", kind=b"S"), "sparse"),
        (header(b"10000000", kind=b"L") + bytes(2**21), "a name of 2097152 bytes"),
        (header(b"36", kind=b"x") + PAX_SIZE.ljust(512, b"\0"), "no pax header at byte 512"),
        (header(b"5", kind=b"x") + b"0 a=\n".ljust(512, b"\0"), "no pax header"),
        (header(b"0") + b"garbage" * 100, "no header at byte 512"),
        (tar({"a.png": bytes(3000)})[:2000], "is cut off or damaged: 3000 bytes"),
    ],
)
def test_hostile_and_damaged_tars(data, message, tmp_path, monkeypatch):
    """Reference: the cause and the shard's name, soon; what is said to be there is not read."""
    (tmp_path / "one.tar").write_bytes(data)
    monkeypatch.setattr(shard_list.time, "sleep", None)  # nothing is tried again
    with pytest.raises(UserError, match=f"one.tar .*{message}"):
        from_shards(str(tmp_path / "one.tar"))


def test_compressed_shards_are_refused(tmp_path):
    """Reference: the remedy. A .tar.gz cannot be read in its middle."""
    (tmp_path / "one.tar.gz").write_bytes(tar(photos(2), mode="w:gz"))
    with pytest.raises(UserError, match=r"one.tar.gz is compressed \(gzip\); decompress it"):
        from_shards(str(tmp_path / "one.tar.gz"))


def test_samples_as_webdataset_has_them(tmp_path, caplog):
    """Reference: WebDataset's rule for names, by hand: up to the first dot, next to each other.
    Images that are left out by it are told of."""
    files = [
        ("./v1.0/a.JPG", png(0)),  # a dot in the folder's name does not count
        ("./v1.0/a.png", png(1)),  # a second image of the same sample
        ("./v1.0/b.seg.png", png(2)),  # is of kind seg.png, so sample b has no image
        ("c.txt", b"no image"),
        ("._d.png", png(3)),  # macOS's
        ("e.png", png(4)),
        ("e.png", png(8)),  # the same name twice: the first one counts
        ("f.png", png(5)),
        ("e.png", png(6)),  # not next to the other e: a sample of its own
        ("g", png(7)),
    ]
    (tmp_path / "one.tar").write_bytes(tar(files))
    source = from_shards(str(tmp_path / "one.tar"))
    assert [source.content(i) for i in range(len(source))] == [png(0), png(4), png(5), png(6)]
    assert "shards: 2 samples without an image are left out" in caplog.messages
    for told in (
        "1 after another image of their sample (./v1.0/a.png)",
        "1 with a dot in their names, which ends a sample's name (./v1.0/b.seg.png)",
        "1 after others of the same name (e.png)",
    ):
        assert told in caplog.messages[-1]


def test_names_are_never_paths(tmp_path):
    """Reference: the folder before and after. Names that climb or link are names only."""
    link = tarfile.TarInfo("b.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    files = [
        ("../../x.png", png(0)),
        ("/etc/y.png", png(1)),
        (link, b""),
        ("a\n\x1b[1m.png", png(2)),
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.tar").write_bytes(tar(files))
    source = from_shards(str(tmp_path / "data" / "one.tar"))
    names = [source.item_name(i) for i in range(len(source))]
    assert names == ["one.tar: ../../x.png", "one.tar: /etc/y.png", "one.tar: a??[1m.png"]
    assert sorted(os.listdir(tmp_path)) == ["cache", "data"]


def test_sizes_that_no_image_has(tmp_path):
    """Reference: bad images, not read. A tar with a hole of 600 MB takes no space on the disk."""
    (tmp_path / "one.tar").write_bytes(header(b"%o" % (600 * 2**20)))
    with open(tmp_path / "one.tar", "r+b") as file:
        file.truncate(512 + 600 * 2**20)
        file.seek(0, 2)
        file.write(tar({"b.png": png(0), "c.png": b""}))
    source = from_shards(str(tmp_path / "one.tar"))
    big, good, empty = source.read_batch([0, 1, 2], SQUARE)
    assert "too many for an image" in str(big) and str(empty) == "empty file"
    assert good.shape == (3, 16, 16)
    with pytest.raises(BadImage, match="629145600 bytes"):
        source.read(0, SQUARE)


def test_a_large_file_that_begins_as_no_image_is_not_fetched(tmp_path):
    """Reference: the memory that reading it takes, and an image that is as large."""
    image = png(0) + bytes(2 * readers.LARGE)
    (tmp_path / "one.tar").write_bytes(tar({"a.png": image[:3:-1], "b.png": image}))
    source = from_shards(str(tmp_path / "one.tar"))
    tracemalloc.start()
    with pytest.raises(BadImage, match="not an image"):
        source.read(0, SQUARE)
    assert tracemalloc.get_traced_memory()[1] < readers.LARGE
    tracemalloc.stop()
    assert source.read(1, SQUARE).shape == (3, 16, 16)


# --- images and labels --------------------------------------------------------------------------


def test_same_as_a_folder(tmp_path):
    """Reference: the same files read from a folder, byte for byte; and each exactly once."""
    files = photos(23)
    pattern = write_shards(
        tmp_path / "shards", [dict(list(files.items())[k : k + 12]) for k in range(0, 46, 12)]
    )
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    folder, shards = from_path(tmp_path / "folder", False), from_shards(pattern)
    assert len(shards) == len(folder) == 23
    everything = list(range(23))
    for a, b in zip(
        folder.read_batch(everything, SQUARE), shards.read_batch(everything, SQUARE), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert shards.item_name(22) == "shard-003.tar: train/0022.png"
    np.testing.assert_array_equal(shards.read(5, SQUARE), folder.read(5, SQUARE))
    with pytest.raises(TooSmall):
        shards.read(5, Square(32))


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_labels(tmp_path, kind):
    """Reference: the numbers written. Classes are in the order of numbers, not of digits."""
    pattern = write_shards(tmp_path, [labelled([10, 2], kind), labelled([2, -1, 10], kind)])
    source = from_shards(pattern, labels=True)
    assert source.labels.names == ("-1", "2", "10")
    assert (
        source.labels.values.tolist() == [2, 1, 1, 0, 2] and source.labels.values.dtype == np.int64
    )
    assert from_shards(pattern).labels is None
    assert from_shards(pattern).key != source.key
    again = write_shards(tmp_path, [labelled(["10.0", "2 "], kind), labelled([2, -1.0, 10], kind)])
    assert from_shards(again, labels=True).labels.names == source.labels.names


@pytest.mark.parametrize(
    ("beside", "has"),
    [
        ({}, ""),
        ({"1.cls": b"cat"}, " has 'cat'"),
        ({"1.cls": b"9" * 30}, " has '9{12}...9{13}'"),
        ({"1.json": b"{"}, ""),
        ({"1.json": b"[" * 10**5}, ""),
        ({"1.json": b'{"label": true}'}, " has True"),
        ({"1.json": b'{"label": 1.5}'}, " has 1.5"),
        ({"1.json": b'{"other": 1}'}, ""),
        ({"1.json": b"[1]"}, ""),
    ],
)
def test_missing_labels(tmp_path, beside, has):
    """Reference: counts and names. Nothing is kept of an index that was refused."""
    pattern = write_shards(tmp_path / "shards", [labelled([0]), {"1.png": png(1)} | beside])
    for _ in range(2):
        with pytest.raises(UserError, match=rf"1 of 2 .* number \(shard-001.tar: 1.png{has}\)"):
            from_shards(pattern, labels=True)
    assert len(from_shards(pattern)) == 2


def test_no_images(tmp_path):
    """Reference: what counts as an image."""
    with pytest.raises(UserError, match=r"no images in these shards: .*\.jpg"):
        from_shards(write_shards(tmp_path, [{"a.txt": b"x"}, {}]))
    (tmp_path / "dots.tar").write_bytes(tar([("2020.01.31.png", png(0)), ("a.b.png", png(1))]))
    with pytest.raises(UserError, match="left out: 2 with a dot in their names, which ends a samp"):
        from_shards(str(tmp_path / "dots.tar"))


# --- the index ----------------------------------------------------------------------------------


def test_index_is_made_once(tmp_path, store):
    """Reference: what the server was asked. The second start looks at the shards, reads nothing.

    The signature in their addresses is another one, as it is on another day.
    """
    write_shards(store.folder, [photos(6), photos(6, start=6)])
    pattern = f"{store.url}/shard-{{000..001}}.tar?X-Amz-Signature="
    lines = []
    first = from_shards(f"{pattern}monday", say=lines.append)
    asked = [f"/shard-00{k}.tar?X-Amz-Signature=monday" for k in (0, 1)]
    assert set(store.reads()) == set(asked)
    assert "monday" not in first.name + str(first.content.index)
    assert lines[0] == "indexing 2 shards, once" and lines[-1] == "indexed 12 images"
    store.asked.clear()
    fsspec.filesystem("http").invalidate_cache()
    second = from_shards(f"{pattern}tuesday", say=lines.append)
    assert store.reads() == [] and len(lines) == 3
    again = [("HEAD", path.replace("monday", "tuesday")) for path in asked]
    assert sorted(store.asked) == again
    assert first.key == second.key
    np.testing.assert_array_equal(first.read(7, SQUARE), second.read(7, SQUARE))


def test_changed_shards_are_indexed_again(tmp_path):
    """Reference: the images that are there now. The key changes with content, not with place."""
    pattern = write_shards(tmp_path / "a", [photos(3), photos(3, start=3)])
    before = from_shards(pattern)
    copied = from_shards(write_shards(tmp_path / "b", [photos(3), photos(3, start=3)]))
    assert copied.key == before.key
    other = photos(3) | {"train/0001.png": png(99)}  # noise, hence of the same size
    assert len(tar(other)) == len(tar(photos(3)))
    write_shards(tmp_path / "a", [other, photos(3, start=3)])
    after = from_shards(pattern)
    assert after.key != before.key and after.content(1) == png(99)
    turned = from_shards(f"{tmp_path}/b/shard-{{001..000}}.tar")
    assert turned.key != copied.key and turned.content(0) == png(3)


def test_processes_that_start_together_index_once(tmp_path):
    """Reference: the output while four threads, each with its own lock, start."""
    pattern, lines = write_shards(tmp_path / "shards", [photos(40)] * 3), []
    with ThreadPoolExecutor(4) as pool:
        starts = [pool.submit(from_shards, pattern, say=lines.append) for _ in range(4)]
    assert len({start.result().key for start in starts}) == 1
    assert [line.split()[0] for line in lines] == ["indexing", "indexing:", "indexed"]


def test_a_damaged_index_is_made_again(tmp_path):
    """Reference: the same key, from an index that was cut, emptied, replaced by another array, or
    cut while it is read."""
    pattern = write_shards(tmp_path / "shards", [photos(3)])
    key = from_shards(pattern).key
    (index,) = (tmp_path / "cache" / "shards").glob("*.npy")
    array = io.BytesIO()
    np.save(array, np.arange(9))
    for damage in (index.read_bytes()[:-8], b"", b"rubbish" * 9, array.getvalue()):
        index.unlink()
        index.write_bytes(damage)
        assert from_shards(pattern).key == key
    source = from_shards(pattern)
    source.read(0, SQUARE)
    os.truncate(index, 150)
    with pytest.raises(UserError, match="index of the shards .* shorter.* makes it again"):
        source.read(2, SQUARE)
    assert from_shards(pattern).key == key


def test_cache_that_cannot_be_written(tmp_path):
    """Reference: the remedy in the message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="set data.cache"):
        from_shards(write_shards(tmp_path, [photos(1)]), cache=tmp_path / "file")


# --- object stores ------------------------------------------------------------------------------


def test_memory_store_and_globs(monkeypatch):
    """Reference: the files put there, in the order of their names."""
    monkeypatch.setattr(shard_list, "PROTOCOLS", ("memory",))
    fs = fsspec.filesystem("memory")
    for k in (1, 0):
        fs.pipe(f"/bucket/s-{k}.tar", tar(photos(2, start=2 * k)))
    source = from_shards("memory://bucket/s-?.tar")
    assert [source.content(i) for i in range(4)] == [png(k) for k in range(4)]
    with pytest.raises(UserError, match="no shard matches"):
        from_shards("memory://bucket/t-*.tar")


def test_a_store_that_stumbles(store):
    """Reference: the images. Listing, indexing and reading each survive two failures."""
    write_shards(store.folder, [photos(4)])
    url = f"{store.url}/shard-000.tar"
    store.failures = 4  # of HEAD and GET, which fsspec tries in turn
    fs, shards = list_shards(url)
    store.failures = 2
    rows = index_shards(fs, shards, labels=False, say=None)
    assert len(rows) == 4
    source = from_shards(url)
    store.failures = 2
    assert source.content.read_many([2]) == [png(2)]


def test_a_store_that_goes_away(store, live):
    """Reference: a UserError that names the shard; it is no bad image, so nothing replaces it."""
    write_shards(store.folder, [photos(4)])
    source = from_shards(f"{store.url}/shard-000.tar?key=secret")
    images = live(source)
    store.failures = 10**6
    with pytest.raises(UserError, match="cannot read shard-000.tar any more") as error:
        images.read(np.array([1]), 16)
    assert "secret" not in str(error.value)
    assert source.item_name(1).startswith("shard-000.tar: the image at byte")
    store.failures = 0
    assert images.read(np.array([1]), 16).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("big", [False, True])
def test_a_store_without_ranges(store, big):
    """Reference: refused with the cause and the remedy before a shard is indexed."""
    write_shards(store.folder, [photos(4) | {"z.bin": bytes(2**23 if big else 1)}])
    store.ranges = False
    with pytest.raises(UserError, match="does not serve byte ranges.*use another server"):
        from_shards(f"{store.url}/shard-000.tar")
    assert len(store.reads()) == 1


def test_a_shard_cut_between_members(tmp_path, caplog):
    """Reference: a tar of three images that ends after the second; it is read, with a warning."""
    pattern = write_shards(tmp_path, [photos(3), photos(3, start=3)])
    path = tmp_path / "shard-001.tar"
    with tarfile.open(path) as file:
        third = file.getmembers()[4]
    os.truncate(path, third.offset)
    assert len(from_shards(pattern)) == 5
    (said,) = caplog.messages
    assert "1 may be cut off" in said and "(shard-001.tar)" in said


def test_a_shard_changed_under_us(tmp_path):
    """Reference: refused. Other bytes where an image was indexed are never trained on."""
    pattern = write_shards(tmp_path, [photos(4)])
    source = from_shards(pattern)
    source.read(2, SQUARE)
    write_shards(tmp_path, [photos(4, start=50)])
    with pytest.raises(UserError, match="shard-000.tar.*changed since it was indexed"):
        source.read(2, SQUARE)


# --- images made while training -----------------------------------------------------------------


def smooth(size, seed=0):
    """A picture, rather than noise: a few waves of colour."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    waves = [
        sum(np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in draw.uniform(0, 4, (6, 3)))
        for _ in range(3)
    ]
    return Image.fromarray((127.5 + 21 * np.stack(waves, 2)).round().astype(np.uint8))


def test_live_levels_are_those_of_a_pyramid(tmp_path, live):
    """Reference: box averages of the largest level, equal where the side is resolution * 2^k.

    Of other sizes the filter differs: within a few grey levels for a picture.
    """
    powers = [png(k, (32 * 2**k, 32 * 2**k)) for k in range(3)]
    others = [encoded(smooth(size, k)) for k, size in enumerate([(45, 70), (100, 33), (50, 50)])]
    files = {f"{k}.png": content for k, content in enumerate(powers + others)}
    source = from_shards(write_shards(tmp_path, [files]))
    images = live(source, Square(32))
    pyramid = box_levels(np.stack([source.read(i, Square(32)) for i in range(6)]), 4)
    for resolution, level in pyramid.items():
        found = images.read(np.arange(6), resolution)
        assert found.dtype == np.uint8 and found.shape == level.shape
        if resolution == 32:
            np.testing.assert_array_equal(found, level)
        np.testing.assert_array_equal(found[:1], level[:1])
        worst = np.abs(found.astype(int) - level)
        assert worst[1:3].max() <= 1  # rounded at 32 first, then averaged: half a level
        assert worst[3:].max() <= 40 and worst[3:].mean() < 6


def with_bad(tmp_path, name="bad"):
    """Twelve images with labels 0, 1, 0, 1, …; 3, 4, 5 and 11 cannot be used."""
    files = labelled([k % 2 for k in range(12)])
    files |= {"3.png": b"no image", "4.png": png(4)[:-40], "5.png": png(5, (15, 16))}
    items = list((files | {"11.png": b""}).items())
    return write_shards(tmp_path / name, [dict(items[:14]), dict(items[14:])])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_bad_images_are_replaced(tmp_path, live, caplog, workers):
    """Reference: the next usable image, of the same label if there are labels, by hand.

    However many processes decode, whatever order, batch and resolution they are asked in.
    """
    pattern = with_bad(tmp_path)
    good = {k: from_shards(pattern).read(k, SQUARE) for k in (0, 1, 2, 6, 7, 8, 9, 10)}
    plain = {3: 6, 4: 6, 5: 6, 11: 0}
    by_label = {3: 7, 4: 6, 5: 7, 11: 1}
    for labels, instead in ((False, plain), (True, by_label)):
        images = live(from_shards(pattern, labels=labels), workers=workers)
        caplog.clear()
        for batch in ([5], [11, 3, 0, 3], list(range(12)), [4, 4]):
            expected = np.stack([good[instead.get(k, k)] for k in batch])
            for resolution, level in box_levels(expected, 4).items():
                np.testing.assert_array_equal(images.read(np.array(batch), resolution), level)
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 4 and all("another takes its place" in line for line in told)
        assert sum("shard-000.tar: 5.png" in line and "15x16" in line for line in told) == 1


def test_too_many_bad_images(tmp_path, live):
    """Reference: `max_bad`, the distinct ones counted."""
    images = live(from_shards(with_bad(tmp_path)), max_bad=3)
    for _ in range(3):
        images.read(np.array([3, 4, 5]), 4)
    with pytest.raises(UserError, match="4 images cannot be used, and data.max_bad is 3.*11.png"):
        images.read(np.array([11]), 4)


def test_no_image_of_a_class(tmp_path, live):
    """Reference: refused. An image of another class must not take the place."""
    files = labelled([0, 0, 1, 0, 0]) | {"2.png": b"no image"}
    images = live(from_shards(write_shards(tmp_path, [files]), labels=True))
    with pytest.raises(UserError, match="none of 1 images can take the place of .*2.png"):
        images.read(np.array([2]), 4)


def test_wrong_resolution_is_told_at_once(tmp_path, live):
    """Reference: the sizes found, before any image is asked for."""
    files = {f"{k}.png": png(k, (20 + k % 2, 24)) for k in range(40)}
    source = from_shards(write_shards(tmp_path, [files]))
    with pytest.raises(UserError, match=r"16 of 16 .* resolution 32; sizes found: 20x24, 21x24"):
        live(source, Square(32))
    assert live(source, Square(32, upscale=True)).read(np.arange(3), 8).shape == (3, 3, 8, 8)
    assert live(source, Square(16, channels=1)).read(np.arange(3), 8).shape == (3, 1, 8, 8)


def test_live_is_what_a_stream_takes(tmp_path, live):
    """Reference: batches of the same images held as one array; each image once per epoch."""
    files = photos(11)
    source = from_shards(write_shards(tmp_path, [files]))
    images = live(source, workers=1)
    assert images.level(16) is None
    level = np.stack([source.read(i, SQUARE) for i in range(11)])

    def batches(rank, processes):
        stream = Stream(images, seed=5, mirror=True, rank=rank, processes=processes)
        return stream, [stream.batch(nimg, 6, 16).images.numpy() for nimg in range(0, 66, 6)]

    stream, whole = batches(0, 1)
    indices, flips = stream.order.at(0, 66)
    assert all(sorted(indices[k : k + 11]) == list(range(11)) for k in range(0, 66, 11))
    expected = level[indices].astype(np.float32) / 127.5 - 1
    expected[flips] = expected[flips, ..., ::-1]
    np.testing.assert_allclose(np.concatenate(whole), expected, atol=1e-6)
    for a, b, c in zip(whole, batches(0, 2)[1], batches(1, 2)[1], strict=True):
        np.testing.assert_array_equal(a, np.concatenate([b, c]))


def test_identity(tmp_path, live):
    """Reference: what a resumed run must find unchanged: images, labels, their fit and size."""
    pattern = write_shards(tmp_path / "a", [labelled([0, 1, 1])])
    source = from_shards(pattern)
    same = [live(source), live(from_shards(pattern)), live(pickle.loads(pickle.dumps(source)))]
    others = [
        live(from_shards(pattern, labels=True)),
        live(source, Square(8)),
        live(source, Square(16, fit="pad")),
        live(from_shards(write_shards(tmp_path / "b", [labelled([0, 1, 1, 0])]))),
    ]
    assert len({images.identity for images in same}) == 1
    assert len({images.identity for images in same + others}) == 5


def test_remote_images_in_worker_processes(store, live):
    """Reference: the same read here. Each process makes connections of its own."""
    write_shards(store.folder, [photos(9)])
    source = from_shards(f"{store.url}/shard-000.tar")
    expected = np.stack([source.read(i, SQUARE) for i in range(9)])
    images = live(source, workers=2)
    np.testing.assert_array_equal(images.read(np.arange(9), 16), expected)
    assert source.item_name(8) == "shard-000.tar: train/0008.png"


def test_a_killed_worker(tmp_path, live):
    """Reference: one message; the system kills like this when memory is short."""
    images = live(from_shards(write_shards(tmp_path, [photos(4)])), workers=1)
    images.read(np.arange(2), 8)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(UserError, match="was killed.*data.workers"):
        images.read(np.arange(2), 8)


def test_workers_do_not_load_torch():
    """Reference: a new interpreter's modules; with torch, a process takes seconds to begin."""
    code = (
        "import sys, progan.data.live, progan.data.sources.shards; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
