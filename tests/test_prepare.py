"""From a source to a pyramid on disk: complete, exact and only once, whatever happens."""

import errno
import hashlib
import io
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import Drawn, drawn, pixels
from PIL import Image

from progan.data.array_file import ArrayFile
from progan.data.decode import Square, box_levels
from progan.data.info.report import unfinished_report
from progan.data.labels import Labels
from progan.data.pyramid import plan, prepare, writer
from progan.data.pyramid.format import JOURNAL, DamagedPyramid, Pyramid, is_pyramid
from progan.data.pyramid.plan import make_plan
from progan.data.pyramid.prepare import made_from
from progan.data.pyramid.repeats import Repeats
from progan.data.sources.bit_depth import warn_of_darkness
from progan.data.sources.files import from_path
from progan.data.sources.find import find
from progan.data.sources.shard_index import ROW
from progan.data.sources.source import Source, content_key
from progan.model.layers import downsample2x
from progan.runtime.cache import default_cache
from progan.runtime.errors import UserError
from progan.runtime.progress import progress_bar

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test may touch the user's cache."""
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))


def make(source, dest, resolution=16, channels=3, max_bad=100, **options) -> Pyramid:
    square = Square(resolution, channels)
    return prepare.prepare(source, dest, square, max_bad=max_bad, **options)


def expected(i: int, size: int, resolution: int) -> np.ndarray:
    """Reference: float64 mean over blocks, rounded once, ties to even."""
    k = size // resolution
    x = pixels(i, size).reshape(resolution, k, resolution, k, 3).mean(axis=(1, 3), dtype=float)
    return np.rint(x).transpose(2, 0, 1)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- levels ---


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [4, 8, 128, 1024])
def test_levels_are_box_averages(resolution, channels):
    """Reference: each level the float64 mean over blocks of the image, rounded once, ties to even:
    so to half a grey level the box average of the un-rounded level above."""
    draw = np.random.default_rng(resolution)
    images = draw.integers(0, 256, (3, channels, resolution, resolution), np.uint8)
    images[1] = draw.integers(254, 256, images[1].shape)  # sums near the largest
    for r, level in box_levels(images, 4).items():
        k = resolution // r
        exact = images.reshape(3, channels, r, k, r, k).mean(axis=(3, 5), dtype=float)
        assert level.dtype == np.uint8 and np.abs(level - exact).max() <= 0.5
        np.testing.assert_array_equal(level, np.rint(exact))


def test_levels_are_those_of_the_networks_filter():
    """Reference: `layers.downsample2x`, the one filter of both networks, un-rounded all the way."""
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64), np.uint8)
    x = torch.from_numpy(images).double()
    for r in (32, 16, 8, 4):
        x = downsample2x(x)
        np.testing.assert_array_equal(box_levels(images, 4)[r], x.round().numpy())


def test_every_level_holds_every_image(tmp_path):
    """Reference: the images, averaged in float64."""
    pyramid = make(drawn(70), tmp_path / "out")
    for r in (4, 8, 16):
        level = pyramid.read(np.arange(70), r)
        for i in range(70):
            np.testing.assert_array_equal(level[i], expected(i, 16, r))


# --- storage ---


@pytest.fixture
def small_png(monkeypatch):
    """PNG records from 8x8 up, so that tests need no large images."""
    monkeypatch.setattr(plan, "FIRST_PNG", 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_records_equal_arrays(tmp_path, small_png, channels):
    """Reference: the same source kept as arrays. Order and repeats are the caller's."""
    source = drawn(40, bad=(3, 39))
    raw = make(source, tmp_path / "raw", channels=channels, storage="raw")
    png = make(source, tmp_path / "png", channels=channels, storage="png")
    assert png.meta.png == (8, 16) and raw.meta.png == ()
    assert png.identity == raw.identity and png.level(16) is None
    some = np.array([37, 0, 3, 3, 12])
    for r in (4, 8, 16):
        np.testing.assert_array_equal(png.read(some, r), raw.read(some, r))
    png.close()


def test_large_levels_are_png_by_name_or_when_disk_is_short():
    """Reference: the rule of docs/data.md: all arrays if they take a quarter of what is free."""
    source, square = drawn(3, size=512), Square(512)
    whole = 3 * 3 * sum(4**k for k in range(2, 10))
    assert make_plan(source, square, "raw", 10).png == ()
    assert make_plan(source, square, "png", 10**9).png == (256, 512)
    assert make_plan(source, square, "auto", 4 * whole).png == ()
    assert make_plan(source, square, "auto", 4 * whole - 1).png == (256, 512)
    assert make_plan(drawn(3), Square(16), "png", 0).png == ()


@pytest.mark.parametrize("storage", ["raw", "png"])
def test_plan_says_what_it_will_take(tmp_path, small_png, storage):
    """Reference: the files, of which PNG records are only estimated, from eight images."""
    source = drawn(50)
    levels = make_plan(source, Square(16), storage, 10**9).levels
    pyramid = make(source, tmp_path / "out", storage=storage)
    for r, size in levels.items():
        suffix, header = ("records", 0) if r in pyramid.meta.png else ("npy", 128)
        real = (pyramid.path / f"{r:04d}.{suffix}").stat().st_size - header
        assert real == size if header else 0.8 * real < size < 1.3 * real


def test_what_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    """Said with each level's size, what is free and what would fit; nothing is written."""
    usage = type("Usage", (), {"free": 40_000})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: usage)
    said = []
    message = r"16x16 38 kB, together 50 kB of the 40 kB that are free.*a resolution of 8 would fit"
    with pytest.raises(UserError, match=message):
        make(drawn(50), tmp_path / "out", say=said.append)
    assert (
        "4x4 2.4 kB, 8x8 9.6 kB, 16x16 38 kB, together 50 kB of the 40 kB that are free" in said[0]
    )
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    """A write that fails ends in a message with the remedy; later it goes on."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer.Layout, "write", full)
        with pytest.raises(UserError, match=r"No space left.*\$PROGAN_CACHE"):
            make(drawn(5), tmp_path / "out")
    assert make(drawn(5), tmp_path / "out").count == 5


# --- workers, interruptions, gaps ---


def test_any_number_of_workers_makes_the_same(tmp_path, small_png):
    """Reference: this process alone; byte for byte, in every file."""
    source = drawn(300, bad=(7, 64, 299), labels=np.arange(300) % 3, classes=("a", "b", "c"))
    alone = make(source, tmp_path / "alone", workers=0, storage="png")
    many = make(source, tmp_path / "many", workers=3, storage="png")
    assert contents(alone.path) == contents(many.path)


BITS = (np.arange(50)[:, None] >> np.arange(6) & 1).astype(np.uint8)  # of each image's number
BAD = [(), (0,), (49,), (3, 4, 5), (40, 47, 48, 49), tuple(range(0, 50, 2)), tuple(range(1, 50))]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("storage", ["raw", "png"])
def test_gaps_are_closed_and_labels_stay_with_their_images(tmp_path, small_png, bad, storage):
    """Reference: every good image once, each with its own label; only gaps are refilled."""
    source = drawn(50, bad=bad, labels=BITS, classes=tuple("abcdef"))
    pyramid = make(source, tmp_path / "out", storage=storage)
    good = [i for i in range(50) if i not in bad]
    images = pyramid.labels.values @ 2 ** np.arange(6)  # which image each place says it holds
    assert pyramid.count == len(good) and sorted(images) == good
    for r in (4, 16):
        for place, image in enumerate(pyramid.read(np.arange(len(good)), r)):
            np.testing.assert_array_equal(image, expected(images[place], 16, r))
    kept = [i for i in good if i < len(good)]
    assert [images[i] for i in kept] == kept
    pyramid.close()
    lines = [f"{i}.png: not an image, or of a kind that is not supported" for i in bad]
    file = pyramid.path / "bad-files.txt"
    assert (file.read_text().splitlines() if bad else not file.exists()) == (lines or True)


def test_attributes_are_kept(tmp_path):
    """Reference: rows of 0 and 1 given with the source."""
    rows = np.random.default_rng(0).integers(0, 2, (20, 4), np.uint8)
    source = drawn(20, bad=(2,), labels=rows, classes=("a", "b", "c", "d"))
    pyramid = make(source, tmp_path / "out")
    assert pyramid.labels.values.dtype == np.uint8 and pyramid.labels.names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(pyramid.labels.values, rows[[0, 1, 19, *range(3, 19)]])
    bare = Pyramid.open(pyramid.path, labels=False)
    assert bare.labels is None and bare.identity != pyramid.identity


def swapped(i: int) -> np.ndarray:
    """An image whose smaller levels are those of `pixels(i)`: two neighbours change places."""
    x = pixels(i)
    x[0, [0, 1]] = x[0, [1, 0]]
    return x


def test_identity_covers_every_level(tmp_path):
    """Reference: images that are the same at 4x4 and 8x8. With and without checksums; and what
    progan 0.1 recorded, a hash of the 4x4 level, is recognized in both."""
    ours = make(drawn(20), tmp_path / "ours")
    other = make(Source("drawn", "20", range(20), swapped, str), tmp_path / "other")
    recorded = hashlib.sha256(np.load(ours.path / "0004.npy").tobytes()).hexdigest()
    identities = []
    for _ in range(2):
        np.testing.assert_array_equal(ours.read(np.arange(20), 8), other.read(np.arange(20), 8))
        assert not other.is_identified_by(ours.identity)
        assert ours.is_identified_by(recorded) and other.is_identified_by(recorded)
        identities.append(ours.identity)
        change(ours.path, checksums=[])
        change(other.path, checksums=[])
        ours, other = Pyramid.open(ours.path), Pyramid.open(other.path)
    assert make(drawn(20), tmp_path / "again").is_identified_by(identities[1])


def test_identity_is_read_not_computed(tmp_path, monkeypatch):
    """Reference: images that may no longer be read. Every checkpoint asks for the identity."""
    pyramid = make(drawn(20), tmp_path / "out")
    monkeypatch.setattr(Pyramid, "read", None)
    assert pyramid.identity == pyramid.identity


SCRIPT = """
import sys
from pathlib import Path
from progan.data.pyramid import plan, prepare, writer
from progan.data.decode import Square
from drawn import drawn
if __name__ == "__main__":
    plan.FIRST_PNG, writer.SYNC_SECONDS = 8, 0
    source = drawn(1500, bad=(1, 700, 1400), log=sys.argv[2], delay=0.001)
    prepare.prepare(source, Path(sys.argv[1]), Square(16), storage="png", max_bad=5, workers=2)
"""


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_interrupted_at_any_moment_it_goes_on(tmp_path, monkeypatch, small_png, how):
    """Reference: the files of an undisturbed preparation. What was done is not decoded again, but
    for what the workers had under way; the unfinished folder is never taken for a pyramid; no
    worker outlives its main process."""
    log, dest = tmp_path / "log", tmp_path / "out"
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = [sys.executable, tmp_path / "script.py", dest, log]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    decoded = 0
    for portion in (20, 300, 400):  # the plan has looked at eight; much is left at each kill
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        while not (log.exists() and len(log.read_text().splitlines()) >= decoded + portion):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        process.wait(20)
        time.sleep(0.3)
        decoded = len(log.read_text().splitlines())
        with pytest.raises(UserError, match="not finished.*run it again"):
            Pyramid.open(dest)
    time.sleep(0.3)
    assert len(log.read_text().splitlines()) == decoded, "a worker goes on by itself"
    subprocess.run(arguments, check=True)
    whole = make(drawn(1500, bad=(1, 700, 1400)), tmp_path / "whole", storage="png")
    assert contents(dest) == contents(whole.path)
    again = len(log.read_text().splitlines()) - 1500 - 4 * 8
    assert 0 <= again < 3 * 10 * 64, "work was done again that had been finished"


class Killed(Drawn):
    """A worker that the system kills at image 100."""

    def __call__(self, i):
        if i == 100 and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(i)


def test_a_killed_worker_is_told_and_nothing_is_lost(tmp_path):
    """Reference: the message, in time, and the files of an undisturbed preparation afterwards."""
    source = Source("drawn", "200", range(200), Killed(), str)
    with pytest.raises(UserError, match="worker process was killed.*the same command goes on"):
        make(source, tmp_path / "out", workers=2)
    assert contents(make(source, tmp_path / "out", workers=0).path) == contents(
        make(source, tmp_path / "whole", workers=0).path
    )


class Away(Drawn):
    """Ten images are on a disk that is away until `back` exists."""

    def __init__(self, back):
        super().__init__()
        self.back = back

    def __call__(self, i):
        if 100 <= i < 110 and not self.back.exists():
            raise OSError(errno.ESTALE, "Stale file handle", f"/mnt/{i}.png")
        return super().__call__(i)


def test_a_disk_that_is_away_makes_no_image_bad(tmp_path):
    """Reference: the preparation with the disk there. What failed is not counted as bad."""
    source = Source("drawn", "200", range(200), Away(tmp_path / "back"), str)
    with pytest.raises(UserError, match="/mnt/100.png .Stale.*goes on"):
        make(source, tmp_path / "out", workers=0)
    (tmp_path / "back").touch()
    said = []
    pyramid = make(source, tmp_path / "out", workers=0, say=said.append)
    assert pyramid.count == 200 and "going on after 64 images" in said[1]


def test_short_memory_makes_no_image_bad(tmp_path):
    """Reference: the error itself, which says nothing about the image."""

    def short(item: int) -> np.ndarray:
        raise MemoryError

    with pytest.raises(MemoryError):
        make(Source("drawn", "200", range(200), short, str), tmp_path / "out", workers=0)


def test_a_line_that_stands_twice_in_the_journal_counts_once(tmp_path, small_png):
    """Reference: an undisturbed preparation. An interrupt right after the write causes this."""
    dest, options = tmp_path / "out", {"workers": 0, "storage": "png"}
    source = Source("drawn", "200", range(200), Away(tmp_path / "back"), str)
    with pytest.raises(UserError, match="Stale"):
        make(source, dest, **options)
    lines = (dest / JOURNAL).read_text().splitlines(keepends=True)
    (dest / JOURNAL).write_text("".join([*lines, *lines[1:], '{"start": 64, "st']))
    (tmp_path / "back").touch()
    whole = contents(make(source, tmp_path / "whole", **options).path)
    assert contents(make(source, dest, **options).path) == whole


def test_it_goes_on_with_the_storage_it_began_with(tmp_path, small_png, monkeypatch):
    """Reference: a preparation that asks for PNG. `auto` chose PNG while the disk was short; it
    must not start again because there is more room now, or because the unfinished files take
    space."""
    usage = type("Usage", (), {"free": 300_000})
    source = Source("drawn", "200", range(200), Away(tmp_path / "back"), str)
    with monkeypatch.context() as patch:
        patch.setattr(plan.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(UserError, match="Stale"):
            make(source, tmp_path / "out", workers=0)
    (tmp_path / "back").touch()
    said = []
    pyramid = make(source, tmp_path / "out", workers=0, say=said.append)
    assert pyramid.meta.png == (8, 16) and "going on after 64 images" in said[1]
    whole = make(source, tmp_path / "whole", workers=0, storage="png")
    assert contents(pyramid.path) == contents(whole.path)


LOST = [  # what becomes of an unfinished preparation
    lambda p: (p / "0008.npy").unlink(),
    lambda p: os.truncate(p / "0008.npy", 200),
    lambda p: (p / JOURNAL).write_text("[" * 10**5 + "\n"),
    lambda p: (p / JOURNAL).write_text('{"total": "many"}\n{"start": 0}\n'),
    lambda p: (p / JOURNAL).write_text(
        (p / JOURNAL).read_text().replace('"bad": []', '"bad": [1]')
    ),
]


@pytest.mark.parametrize("lost", LOST)
def test_a_lost_file_of_an_unfinished_pyramid_begins_it_anew(tmp_path, lost):
    """Reference: an undisturbed preparation. The report is none that cannot be."""
    source = Source("drawn", "200", range(200), Away(tmp_path / "back"), str)
    with pytest.raises(UserError, match="Stale"):
        make(source, tmp_path / "out", workers=0)
    lost(tmp_path / "out")
    assert "not finished" in next(unfinished_report(tmp_path / "out"))
    (tmp_path / "back").touch()
    whole = contents(make(source, tmp_path / "whole", workers=0).path)
    assert contents(make(source, tmp_path / "out", workers=0).path) == whole


def test_files_that_are_there_count_as_free(tmp_path, monkeypatch):
    """Reference: the blocks of a file, as the system counts them, added to what is free."""
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with open(tmp_path / "a", "wb", buffering=0) as file:
        file.write(os.urandom(50_000))
        os.fdatasync(file.fileno())  # some systems count blocks when they are written
    assert plan.free_space(tmp_path) == 1000 + 512 * (tmp_path / "a").stat().st_blocks > 51_000


def test_files_that_only_look_like_ours_are_left_alone(tmp_path):
    """A user's own `.partial` file, or images with a meta.json of another program."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "download.partial").write_text("mine")
    with pytest.raises(UserError, match="holds other files .download.partial."):
        make(drawn(5), tmp_path / "out")
    assert contents(tmp_path / "out") == {"download.partial": b"mine"}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "meta.json").write_text("{}")
    assert not is_pyramid(tmp_path / "photos") and is_pyramid(make(drawn(3), tmp_path / "p").path)


def test_killed_while_the_journal_is_begun(tmp_path):
    """The temporary file and the lock that are left do not block the next start."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{JOURNAL}.partial").write_text("{")
    (tmp_path / "out" / ".lock").touch()
    assert make(drawn(5), tmp_path / "out").count == 5


def test_when_it_has_failed_no_worker_writes_any_more(tmp_path):
    """Reference: the images decoded when the error arrives, and half a second later."""
    log = tmp_path / "log"
    source = drawn(2000, bad=range(500, 600), log=log, delay=0.002)
    with pytest.raises(UserError, match="cannot be used"):
        make(source, tmp_path / "out", max_bad=5, workers=2)
    decoded = len(log.read_text().splitlines())
    time.sleep(0.5)
    assert decoded < 2000 and len(log.read_text().splitlines()) == decoded


def test_an_interrupted_finish_is_done_again(tmp_path, monkeypatch):
    """Reference: an undisturbed preparation. The end may be interrupted before and after each of
    its steps: moving images into gaps, cutting files, writing headers, labels, meta.json."""
    source = drawn(50, bad=(3, 20, 48), labels=BITS, classes=tuple("abcdef"))
    whole = contents(make(source, tmp_path / "whole").path)
    steps = 0
    while True:
        steps += 1
        left = [steps]

        def counted(real, left=left):
            def call(*args, **options):
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                return real(*args, **options)

            return call

        dest = tmp_path / f"out{steps}"
        with monkeypatch.context() as patch:
            patch.setattr(writer.PyramidWriter, "_move", counted(writer.PyramidWriter._move))
            for name in ("write_header", "write_lines", "write_atomically", "write_json"):
                patch.setattr(writer, name, counted(getattr(writer, name)))
            patch.setattr(writer.os, "truncate", counted(os.truncate))
            try:
                make(source, dest)
                break
            except KeyboardInterrupt:
                assert not (dest / "meta.json").exists()
        assert contents(make(source, dest).path) == whole
    assert steps > 10


def test_another_source_does_not_go_on(tmp_path):
    """Work begun with other images or options is kept and refused; once deleted, it restarts."""
    dest = tmp_path / "out"

    class Stop(Drawn):
        def __call__(self, i):
            if i == 100:
                raise KeyboardInterrupt
            return super().__call__(i)

    with pytest.raises(KeyboardInterrupt):
        make(Source("drawn", "200", range(200), Stop(), str), dest)
    assert writer.read_journal(dest)[1]
    begun = contents(dest)
    message = "unfinished preparation of other images.* 64 images.*delete"
    with pytest.raises(UserError, match=message):
        make(drawn(90), dest)
    assert contents(dest) == begun


def test_nothing_outside_the_destination_is_written(tmp_path):
    """Reference: every other file below the parent, before and after."""
    (tmp_path / "beside").write_text("x")
    make(drawn(10, bad=(2,)), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["beside", "out"]
    names = {"0004.npy", "0008.npy", "0016.npy", "bad-files.txt", "digests.npy", "meta.json"}
    assert set(os.listdir(tmp_path / "out")) == names


def test_a_folder_of_the_users_is_left_alone(tmp_path):
    """A destination with other files, or with another pyramid, is refused and not changed."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files .a.txt."):
        make(drawn(3), tmp_path / "photos")
    assert contents(tmp_path / "photos") == {"a.txt": b"mine"}
    make(drawn(3), tmp_path / "out")
    with pytest.raises(UserError, match="holds a pyramid of other images.*3 images at 16x16"):
        make(drawn(4), tmp_path / "out")
    with pytest.raises(UserError, match="cannot write.*Not a directory|File exists"):
        make(drawn(3), tmp_path / "photos" / "a.txt")


# --- bad images ---


def test_bad_images_are_left_out_and_named(tmp_path, caplog):
    """Reference: the list in `bad-files.txt`, one line each, and one warning."""
    with caplog.at_level(logging.WARNING, "progan"):
        pyramid = make(drawn(20, bad=(1, 5), small=(7,)), tmp_path / "out", max_bad=3)
    assert (pyramid.count, pyramid.meta.bad) == (17, 3)
    lines = (pyramid.path / "bad-files.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["1.png", "5.png", "7.png"]
    assert lines[2] == "7.png: 3x3 is too small for resolution 16"
    assert len(caplog.records) == 1 and "left out 3 bad images" in caplog.text


def test_too_many_bad_images(tmp_path):
    """How many, the first of them with reasons, and the key; all are named in a file, which is all
    that is left. Another try may have other options."""
    source = drawn(20, bad=(1, 5), small=(7,))
    message = r"3 of the 20 images.*max_bad is 2.*1 too small: 3x3 \(1 image\).*2 unreadable: 1.png"
    with pytest.raises(UserError, match=message + ".*data.max_bad, --max-bad"):
        make(source, tmp_path / "out", max_bad=2)
    assert len((tmp_path / "out" / "bad-files.txt").read_text().splitlines()) == 3
    assert os.listdir(tmp_path / "out") == ["bad-files.txt"]
    assert make(source, tmp_path / "out", max_bad=3, resolution=8).count == 17


def test_a_collection_that_is_too_small_is_an_error(tmp_path):
    """Names the sizes found and what would do, even where `max_bad` is not reached; enlarging them
    is another way. Reference: PIL's Lanczos."""
    files = tmp_path / "in"
    files.mkdir()
    for i, size in enumerate([(64, 64)] * 12 + [(100, 80)]):
        Image.new("RGB", size, (i, 0, 0)).save(files / f"{i}.png")
    source = from_path(files, False)
    sizes = r"13 of the 13.*13 too small: 64x64 \(12 images\), 100x80 \(1\)"
    for max_bad in (5, 100):
        with pytest.raises(UserError, match=sizes + ".*resolution 64.*allow_upscale"):
            make(source, tmp_path / "out", 128, max_bad=max_bad)
    assert make(source, tmp_path / "at64", 64, max_bad=0).count == 13
    large = prepare.prepare(source, tmp_path / "large", Square(128, upscale=True))
    assert large.count == 13
    with pytest.raises(UserError, match="10 of the 20.*10 too small: 3x3"):
        make(drawn(20, small=range(10)), tmp_path / "half")


def test_the_resolution_that_would_do_counts_all_images_seen(tmp_path):
    """Reference: by hand. One of 100 has less than 16x16; it does not count, the 40 of 16x16 do."""
    sides = [32] * 59 + [16] * 40 + [8]
    for i, side in enumerate(sides):
        Image.new("RGB", (side, side), (i, 0, 0)).save(tmp_path / f"{i:03d}.png")
    with pytest.raises(UserError, match="41 too small.*resolution 16, the largest that nearly all"):
        make(from_path(tmp_path, False), tmp_path / "out", 32, max_bad=20)


def test_no_image_is_left(tmp_path):
    """Zero good images are an error, whatever `max_bad` is."""
    with pytest.raises(UserError, match="5 of the 5 images cannot be used"):
        make(drawn(5, bad=range(5)), tmp_path / "out")


def test_a_class_without_a_usable_image(tmp_path):
    """Named, since a model could never make it."""
    source = drawn(6, bad=(0, 1), labels=np.array([0, 0, 1, 1, 1, 1]), classes=("cats", "dogs"))
    with pytest.raises(UserError, match="no image of class cats can be used"):
        make(source, tmp_path / "out")


# --- copies and blank images ---

SHOWN = [0, 1, 2, 1, 1, "white", "black", 0, "junk"]  # `pixels` of a number, one colour, a bad file
OF_CLASS = np.array([0, 0, 1, 0, 1, 0, 1, 0, 0])


def showing(i: int) -> np.ndarray | bytes:
    what = SHOWN[i]
    if isinstance(what, int):
        return pixels(what)
    return b"junk" if what == "junk" else np.full((16, 16, 3), 255 * (what == "white"), np.uint8)


def album(labels: np.ndarray | None = None) -> Source:
    given = None if labels is None else Labels(("a", "b"), labels)
    return Source("album", "1", range(len(SHOWN)), showing, "{}.png".format, given)


def test_copies_and_blank_images_are_counted(tmp_path):
    """Reference: by hand. Said at every start, also from another folder, without reading pixels."""
    said = []
    pyramid = make(album(OF_CLASS), tmp_path / "out", say=said.append)
    assert pyramid.meta.repeats == Repeats(3, "1.png", 3, 1, 0, 2, ("5.png", "6.png"))
    lines = pyramid.meta.repeats.lines(pyramid.count)
    assert lines == said[-3:] and "3 of 8 images are exact copies" in lines[0]
    assert "1.png is there 3 times" in lines[0] and "1 of the copies has another" in lines[1]
    assert lines[2].startswith(
        "2 images are blank, all of one colour: 5.png, 6.png; if they are tr"
    )
    again = []
    make(album(OF_CLASS), tmp_path / "out", say=again.append)
    assert again == lines
    plain = make(drawn(9), tmp_path / "plain").meta.repeats
    assert replace(plain, brightest=255) == Repeats()


@pytest.mark.parametrize("storage", ["raw", "png"])
@pytest.mark.parametrize("labels", [None, OF_CLASS])
def test_copies_are_dropped(tmp_path, small_png, storage, labels):
    """Reference: by hand. A copy with another label stays, so that no class loses its images, and
    copies are no bad images."""
    pyramid = make(album(labels), tmp_path / "a", storage=storage, drop_copies=True, max_bad=1)
    left = [0, 1, 2, 1, "white", "black"] if labels is not None else [0, 1, 2, "white", "black"]
    shown = [showing(SHOWN.index(what)).transpose(2, 0, 1).tobytes() for what in left]
    images = pyramid.read(np.arange(pyramid.count), 16)
    assert sorted(image.tobytes() for image in images) == sorted(shown)
    dropped = len(SHOWN) - 1 - len(left)
    assert (pyramid.meta.bad, pyramid.meta.repeats.dropped) == (1, dropped)
    assert pyramid.meta.repeats.contradictory == (labels is not None)
    lines = (pyramid.path / "bad-files.txt").read_text().splitlines()
    said = " ".join(pyramid.meta.repeats.lines(pyramid.count))
    assert "leaves out all but" not in said and ("1 of 6" in said) == (labels is not None)
    assert len(lines) == dropped + 1 and "7.png: an exact copy of 0.png" in lines
    assert made_from(album(), Square(16), True) != made_from(album(), Square(16))
    pyramid.close()


# --- opening ---

DAMAGES = {
    "no data pyramid": lambda p: (p / "meta.json").unlink(),
    "not finished": lambda p: (p / "meta.json").rename(p / JOURNAL),
    "format version 99": lambda p: change(p, version=99),
    "0016.npy.*delete the folder": lambda p: (p / "0016.npy").unlink(),
    "wrong length": lambda p: os.truncate(p / "0008.npy", 200),
    "meta.json says": lambda p: change(p, count=19),
    "0016.records is shorter": lambda p: os.truncate(p / "0016.records", 50),
    "labels outside of 0..1": lambda p: np.save(p / "labels.npy", np.full(20, 2)),
    "labels.npy holds": lambda p: np.save(p / "labels.npy", np.zeros(3, np.int64)),
    "says resolution 17, no power of two": lambda p: change(p, resolution=17),
    "0016.npy is shorter than it says": lambda p: os.truncate(p / "0016.npy", 200),
    "meta.json is no JSON": lambda p: (p / "meta.json").write_text("{"),
    "no map of names": lambda p: (p / "meta.json").write_text("[]"),
    "nested too deeply": lambda p: (p / "meta.json").write_text("[" * 10**5),
    "larger than 4,194,304": lambda p: (p / "meta.json").write_bytes(bytes(2**22 + 1)),
    "does not say bad": lambda p: (p / "meta.json").write_text(
        (p / "meta.json").read_text().replace('"bad"', '"worse"')
    ),
    r"format version \[2\]": lambda p: change(p, version=[2]),
    "count '20', which must be a whole number": lambda p: change(p, count="20"),
    "count True, which": lambda p: change(p, count=True),
    "bad -1, which": lambda p: change(p, bad=-1),
    "says 0 images": lambda p: change(p, count=0),
    "says 1000+ images": lambda p: change(p, count=10**300),
    "7 channels": lambda p: change(p, channels=7),
    r"says \[4\] for png": lambda p: change(p, png=[4]),
    r"resolution \[16\], which must be": lambda p: change(p, resolution=[16]),
    r"classes {'a': 1}, which must be a list": lambda p: change(p, classes={"a": 1}),
    r"classes \['a', 3\], which must": lambda p: change(p, classes=["a", 3]),
    r"source \['.x1b\[2J'\], which": lambda p: change(p, source=["\x1b[2J"]),
    "2 checksums, and not one a level": lambda p: change(p, checksums=["a", "b"]),
    "digests.npy is not the one": lambda p: np.save(
        p / "digests.npy", np.zeros((20, 3), np.uint64)
    ),
    "digests.npy'.*delete": lambda p: (p / "digests.npy").unlink(),
    "0008.* holds other images": lambda p: np.save(
        p / "0008.npy", np.load(p / "0008.npy")[::-1].copy()
    ),
    "labels.npy holds other labels": lambda p: np.save(p / "labels.npy", np.arange(20) // 10),
    "labels.npy is shorter": lambda p: os.truncate(p / "labels.npy", 200),
    r"0004.npy is no array\)": lambda p: (p / "0004.npy").write_text("hello"),
    "0008.npy is no file": lambda p: pipe(p / "0008.npy"),
    "meta.json is no file": lambda p: pipe(p / "meta.json"),
    "0004.npy is no array: .*multi-line": lambda p: (p / "0004.npy").write_bytes(
        b"\x93NUMPY\1\0v\0" + b"(" * 118
    ),
    "is no array: .*Python objects": lambda p: np.save(
        p / "labels.npy", np.array([{}] * 20), allow_pickle=True
    ),
}


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def change(path, **values):
    meta = json.loads((path / "meta.json").read_text()) | values
    (path / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_pyramids_are_refused(tmp_path, monkeypatch, message):
    """One message for each kind of damage, with what to do."""
    if "records" in message:
        monkeypatch.setattr(plan, "FIRST_PNG", 16)
    source = drawn(20, labels=np.arange(20) % 2, classes=("a", "b"))
    path = make(source, tmp_path / "out", storage="png").path
    if "wrong length" in message:
        with open(path / "0008.npy", "ab") as file:
            file.write(b"more")
    else:
        DAMAGES[message](path)
    with pytest.raises(UserError, match=message):
        Pyramid.open(path)


WHILE_IN_USE = {  # what becomes of a file, and the error
    "0016.npy has become shorter": lambda p: os.truncate(p / "0016.npy", 200),
    "0008.records: the record at byte": lambda p: os.truncate(p / "0008.records", 200),
    "0008.records.*once it can": lambda p: (p / "0008.records").unlink(),
}


@pytest.mark.parametrize("message", WHILE_IN_USE)
def test_files_that_change_while_they_are_read(tmp_path, monkeypatch, message):
    """Reference: the message. A mapped file that becomes shorter would kill the process."""
    storage = "png" if "records" in message else "raw"
    monkeypatch.setattr(plan, "FIRST_PNG", 8)
    pyramid = make(drawn(20), tmp_path / "out", storage=storage, workers=0)
    pyramid.read(np.arange(20), 16)
    WHILE_IN_USE[message](pyramid.path)
    with pytest.raises(UserError, match=message), closing(pyramid):
        pyramid.read(np.arange(20), 8 if storage == "png" else 16)


def test_png_records_of_another_kind_are_refused(tmp_path, monkeypatch):
    """A record that is no PNG of this size is an error, not a picture."""
    monkeypatch.setattr(plan, "FIRST_PNG", 16)
    pyramid = make(drawn(4), tmp_path / "out", storage="png")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    places = np.array([[0, len(file.getvalue())]] * 4)
    change(pyramid.path, checksums=[])  # or it would be refused when it is opened
    (pyramid.path / "0016.records").write_bytes(file.getvalue())
    np.save(pyramid.path / "0016.index.npy", places)
    pyramid = Pyramid.open(pyramid.path)
    for damaged in (r"a record is RGB \(8, 8\)", "byte 0 is no image of 16x16.*prepared again"):
        with pytest.raises(UserError, match=damaged):
            pyramid.read(np.array([0]), 16)
        (pyramid.path / "0016.records").write_bytes(bytes(len(file.getvalue())))
    pyramid.close()


def test_pyramids_are_read_only(tmp_path):
    """Nobody can change the data by accident; an absent level is named."""
    pyramid = make(drawn(4), tmp_path / "out")
    with pytest.raises(TypeError, match="does not support item assignment"):
        pyramid.level(4)[0] = 0
    with pytest.raises(ValueError, match="has no level 32, only 4, 8, 16"):
        pyramid.read(np.array([0]), 32)


# --- the cache ---


def cached(source, resolution=16, **options):
    return prepare.cached(source, Square(resolution), **options)


def test_the_cache_is_used_again(tmp_path):
    """The second call decodes nothing; other options or a changed source are prepared again."""
    log = tmp_path / "log"
    first = cached(drawn(10, log=log))
    assert first.path.parent == tmp_path / "cache" / "pyramids"
    assert cached(drawn(10, log=log)).path == first.path
    assert len(log.read_text().splitlines()) == 10
    others = [
        cached(drawn(10), resolution=8),
        cached(drawn(11)),
        cached(drawn(10), storage="raw"),
        prepare.cached(drawn(10), Square(16, channels=1)),
        prepare.cached(drawn(10), Square(8, fit=(2, 2, 8))),
    ]
    assert len({pyramid.path for pyramid in [first, *others]}) == 6


BREAK_CACHE = {
    "becomes shorter": lambda p: os.truncate(p / "0008.npy", 200),
    "other images": lambda p: np.save(p / "0016.npy", np.load(p / "0016.npy")[::-1].copy()),
    "is lost": lambda p: (p / "0004.npy").unlink(),
    "nested": lambda p: (p / "meta.json").write_text("[" * 10**5),
    "labels": lambda p: os.truncate(p / "labels.npy", 130),
    "digests": lambda p: (p / "digests.npy").unlink(),
}


@pytest.mark.parametrize("damage", BREAK_CACHE)
def test_a_damaged_cache_is_prepared_again(damage):
    """Reference: the files of before. A folder of the user's own is not touched, but refused."""
    source = drawn(20, labels=np.arange(20) % 2, classes=("a", "b"))
    path = cached(source).path
    before = contents(path)
    BREAK_CACHE[damage](path)
    with pytest.raises(DamagedPyramid, match="delete the folder"):
        Pyramid.open(path)
    said = []
    cached(source, say=said.append)
    assert contents(path) == before
    assert "is damaged" in said[0] and said[0].endswith("; it is prepared again")


def test_damage_that_opening_does_not_see_is_mended_at_the_next_start(small_png, monkeypatch):
    """Reference: the files of before. A PNG is broken that is not among those looked at."""
    monkeypatch.setattr("progan.data.pyramid.format.CHECKED_BYTES", 0)
    pyramid = cached(drawn(20), storage="png", workers=0)
    before = contents(pyramid.path)
    with open(pyramid.path / "0016.records", "r+b") as file:
        file.seek(np.load(pyramid.path / "0016.index.npy")[3, 0])
        file.write(bytes(50))
    with pytest.raises(DamagedPyramid, match="it is prepared again at the next start"):
        pyramid.read(np.array([3]), 16)
    assert contents(cached(drawn(20), storage="png").path) == before


def test_names_in_the_cache_never_change():
    """Reference: the names of version 0.1.0. With others every cache would be made again, and a run
    on shards would take its data for another's."""
    keys = {
        Square(8): "53d3c0d6b19d6c48e9069f3cc811ca29e83e2bcc0022bbeb7afc8eb5138676dc",
        Square(1024, 1, "pad", True): (
            "49efc3bff6d93c5ebbcc121cac045078e49b9f358d50b543124baebb83effad1"
        ),
        Square(64, 3, (1, 2, 30)): (
            "43bad09a27a472e692e7ca8ffea8a87748e6338ca92c09b6cfad1be69eaf7b45"
        ),
    }
    for square, key in keys.items():
        assert content_key("a", square.key) == key
    assert made_from(drawn(3), Square(8)) == (
        "70cd32314636758866a8bbc01b1c565627a5946543ba2d400001aa0a0f406305"
    )
    demo, labelled = find("demo"), find("demo", labels=True)
    assert demo.key == "75d9d676887a7561a4348326ae14628083b709c576818515902436100ae71eec"
    assert labelled.key == "b25097fee00d41a75825c5ca755022ccc57ebcaa3d5f01239b7fd013300e3c95"
    assert content_key(ROW, True, ["1", "2"]) == (
        "b7f2968ce212d0861e3f76ecf856f1c32787d426ffe78d12186bf50a3773c821"
    )


def test_the_cache_does_not_hide_bad_images():
    """A stricter data.max_bad counts for a pyramid that was made under a laxer one."""
    source = drawn(20, bad=(1, 2, 3))
    assert cached(source, max_bad=3).count == 17
    with pytest.raises(UserError, match="3 images are bad, and data.max_bad is 2.*bad-files.txt"):
        cached(source, max_bad=2)


def test_places_of_the_cache(tmp_path, monkeypatch):
    """The argument, $PROGAN_CACHE, $XDG_CACHE_HOME/progan, ~/.cache/progan, in this order."""
    made = cached(drawn(3), cache=tmp_path / "mine")
    assert made.path.parent == tmp_path / "mine" / "pyramids"
    monkeypatch.delenv("PROGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "progan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "progan"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*data.cache and \$PROGAN_CACHE"):
        cached(drawn(3), cache=tmp_path / "file")


def test_those_who_start_together_make_it_once(tmp_path):
    """Reference: each image is decoded once, however many ask at the same time."""
    for k in range(20):
        source, log = drawn(20 + k, log=tmp_path / f"log{k}"), tmp_path / f"log{k}"
        with ThreadPoolExecutor(4) as pool:
            paths = {job.result().path for job in [pool.submit(cached, source) for _ in range(4)]}
        assert len(paths) == 1 and len(log.read_text().splitlines()) == 20 + k


@pytest.mark.parametrize("kind", ["array", "png"])
def test_images_of_12_bits_are_told_to_be_dark(tmp_path, caplog, kind):
    """Reference: their range. Those that use 16 bits, and 8-bit ones, are not spoken of."""
    for top, name in ((4095, "dark"), (60_000, "bright")):
        folder = tmp_path / name
        folder.mkdir()
        images = np.random.default_rng(0).integers(0, top + 1, (3, 16, 16)).astype(np.uint16)
        images[:, 0, 0] = top
        if kind == "array":
            np.save(folder / "x.npy", images)
        for i, image in enumerate(images if kind == "png" else []):
            Image.fromarray(image).save(folder / f"{i}.png")
        source = find(str(folder / "x.npy" if kind == "array" else folder))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "progan"):
            warn_of_darkness(source)
        told = "4,095 of 65,535" in caplog.text and "x * (65535 // 4095)" in caplog.text
        assert told if name == "dark" else not caplog.records
    warn_of_darkness(drawn(3, bad=(1,)))
    assert not caplog.records


def test_lines_on_the_way(monkeypatch):
    """Reference: a clock of our own: a line every 15 s at most, with rate and time left."""
    now, lines = [100.0], []
    monkeypatch.setattr("progan.runtime.progress.time.monotonic", lambda: now[0])
    with progress_bar("x", 1000, 200, lines.append) as advance:
        for _ in range(8):
            now[0] += 10
            advance(100)
    assert lines == [
        "x: 400 of 1,000 images, 10 images/s, 1m 00s left",
        "x: 600 of 1,000 images, 10 images/s, 40s left",
        "x: 800 of 1,000 images, 10 images/s, 20s left",
        "x: 1,000 of 1,000 images, 10 images/s, 0s left",
        "x: done in 80.0 s, 10 images/s",
    ]


def test_lines_without_a_terminal(tmp_path, capsys):
    """What is to be taken and what is free, then the rate; silence if nobody listens."""
    lines = []
    make(drawn(6), tmp_path / "out", say=lines.append)
    assert (
        len(lines) == 2
        and "6 images; disk: 4x4 288 B, 8x8 1.2 kB, 16x16 4.6 kB, together" in lines[0]
    )
    assert "done in" in lines[1] and "images/s" in lines[1]
    make(drawn(6), tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")


def test_array_files_are_read_as_arrays(tmp_path):
    """Reference: NumPy."""
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", x)
    array = ArrayFile(tmp_path / "x.npy", np.uint8, x.shape)
    every, some, none = slice(None), np.array([4, 4, 1]), np.array([], int)
    for key in (3, -1, slice(2, 9, 3), every, some, none, (every, 0), (3, 1), (some, 2, every, 0)):
        np.testing.assert_array_equal(array[key], x[key])
    np.testing.assert_array_equal(np.asarray(array), x)
