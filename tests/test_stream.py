"""The stream of reals: the same images, however they are read ahead, stored or cached."""

import threading

import numpy as np
import psutil
import pytest
import torch
from drawn import drawn

from progan.data.decode import Square
from progan.data.pyramid import plan
from progan.data.pyramid.format import Pyramid
from progan.data.pyramid.prepare import prepare
from progan.data.stream import Stream, to_device
from progan.runtime.errors import UserError

SIZE = 40


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory) -> Pyramid:
    labels, classes = np.arange(SIZE) % 3, ("a", "b", "c")
    source = drawn(SIZE, labels=labels, classes=classes)
    return prepare(source, tmp_path_factory.mktemp("pyramid") / "raw", Square(16))


@pytest.fixture(scope="module")
def png(tmp_path_factory) -> Pyramid:
    """The same pyramid, with its 16x16 images as PNG records, which worker processes decode."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "FIRST_PNG", 16)
        source = drawn(SIZE, labels=np.arange(SIZE) % 3, classes=("a", "b", "c"))
        made = prepare(
            source, tmp_path_factory.mktemp("pyramid") / "png", Square(16), storage="png"
        )
    yield made
    made.close()


def reference(pyramid: Pyramid, plan_of: Stream, nimg: int, n: int, r: int) -> torch.Tensor:
    """The level's images by NumPy: pixel / 127.5 - 1, turned where the stream says so."""
    indices, flips = plan_of.order.at(nimg, n)
    x = np.asarray(pyramid.level(r))[indices].astype(np.float32) / np.float32(127.5) - 1
    x[flips] = x[flips][..., ::-1]
    return torch.from_numpy(x)


# A run's batches: two batch sizes and resolutions, a jump as of a restart, another back.
CALLS = [(0, 8, 8), (8, 8, 8), (16, 8, 8), (24, 4, 16), (28, 4, 16), (100, 4, 16), (0, 8, 8)]


@pytest.mark.parametrize("device_cache", [False, True])
@pytest.mark.parametrize("stored", ["raw", "png"])
def test_what_is_read_ahead_is_what_is_asked_for(pyramid, png, stream, stored, device_cache):
    """Reference: the level indexed by NumPy. Changed sizes, resolutions and jumps included."""
    reader = stream(png if stored == "png" else pyramid, device_cache=device_cache)
    for nimg, n, r in CALLS:
        images, labels = reader.batch(nimg, n, r)
        assert torch.equal(images, reference(pyramid, reader, nimg, n, r)), (nimg, n, r)
        np.testing.assert_array_equal(labels, pyramid.labels.values[reader.order.at(nimg, n)[0]])


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("stored", ["raw", "png"])
def test_the_same_for_any_number_of_processes_and_workers(
    pyramid, png, stream, stored, processes, monkeypatch
):
    """Reference: one process's batches, joined in order of rank; workers from none to three."""
    monkeypatch.setattr("progan.data.workers.cores", lambda: processes - 1 or 3)
    data = Pyramid.open(png.path) if stored == "png" else pyramid
    readers = [stream(data, rank=rank, processes=processes) for rank in range(processes)]
    whole = stream()
    for nimg in range(0, 2 * SIZE, 16):
        parts = [reader.batch(nimg, 16, 16).images for reader in readers]
        assert torch.equal(torch.cat(parts), whole.batch(nimg, 16, 16).images)


@pytest.mark.parametrize("stored", ["raw", "png"])
def test_every_image_once_an_epoch_from_any_start(pyramid, png, stream, stored):
    """Reference: the set of all images; of every window of one epoch, wherever a run restarts."""
    data = png if stored == "png" else pyramid
    level = {image.tobytes(): i for i, image in enumerate(np.asarray(pyramid.level(16)))}
    everything = np.concatenate([stream().order.at(nimg, 8)[0] for nimg in range(0, 3 * SIZE, 8)])
    for start in (0, SIZE, 2 * SIZE):
        assert sorted(everything[start : start + SIZE]) == list(range(SIZE))
    for start in (0, 24, 56):
        reader, seen = stream(data, mirror=False), []
        for nimg in range(start, 3 * SIZE, 8):
            pixels = reader.batch(nimg, 8, 16).images.add(1).mul(127.5).round().byte()
            seen += [level[image.numpy().tobytes()] for image in pixels]
        assert seen == everything[start:].tolist()


def test_reading_goes_on_while_the_caller_computes(pyramid, stream, monkeypatch):
    """Reference: the order of events. The next batches are read before they are asked for."""
    read, third = [], threading.Event()
    real = Pyramid.read

    def noted(self, indices, resolution):
        read.append(indices.tolist())
        if len(read) == 3:
            third.set()
        return real(self, indices, resolution)

    monkeypatch.setattr(Pyramid, "read", noted)
    reader = stream()
    reader.batch(0, 4, 8)
    assert third.wait(5), "nothing was read ahead"
    assert sorted(read) == sorted(reader.order.at(4 * k, 4)[0].tolist() for k in range(3))


def test_what_follows_a_batch_asked_for_again_is_read_once(stream, monkeypatch):
    """Reference: counting reads. A trainer requests a phase's first batch before training on it;
    only that batch is read again."""
    read = []
    real = Pyramid.read

    def noted(self, indices, resolution):
        read.append(indices.tolist())
        return real(self, indices, resolution)

    monkeypatch.setattr(Pyramid, "read", noted)
    reader = stream()
    for nimg in (0, 0, 4):
        reader.batch(nimg, 4, 8)
    reader.threads.shutdown()
    expected = [reader.order.at(nimg, 4)[0].tolist() for nimg in (0, 0, 4, 8, 12)]
    assert sorted(read) == sorted(expected)


def workers() -> int:
    """Worker processes, as listed by the system."""
    children = psutil.Process().children()
    return sum("spawn_main" in " ".join(child.cmdline()) for child in children)


def test_a_small_class_repeats_its_images(tmp_path, stream):
    """Reference: a class of two images, of which five are asked for: each more than once."""
    labels = np.array([0, 1, 0, 1, 1, 1])
    made = prepare(drawn(6, labels=labels, classes=("a", "b")), tmp_path / "p", Square(16))
    images = stream(made).examples(5, np.zeros(5, int), 16)
    level = np.asarray(made.level(16))
    shown = [next(k for k in (0, 2) if np.array_equal(image, level[k])) for image in images]
    assert shown in ([0, 2, 0, 2, 0], [2, 0, 2, 0, 2])


def test_examples_are_spread_over_the_data(pyramid, stream):
    """Reference: the second half of the images, from which a quarter of them must come, as from
    each class. Other streams show the same, and fewer are the first of more."""
    level = {image.tobytes(): i for i, image in enumerate(np.asarray(pyramid.level(16)))}
    reader = stream()
    shown = [level[x.tobytes()] for x in reader.examples(SIZE // 2, None, 16)]
    assert len(set(shown)) == SIZE // 2 and sum(k >= SIZE // 2 for k in shown) >= SIZE // 8
    assert [level[x.tobytes()] for x in stream(seed=9).examples(4, None, 16)] == shown[:4]
    rows = np.arange(3).repeat(6)
    of_class = [level[x.tobytes()] for x in reader.examples(18, rows, 16)]
    assert [pyramid.labels.values[k] for k in of_class] == rows.tolist()
    assert len(set(of_class)) == 18 and min(max(of_class[k : k + 6]) for k in (0, 6, 12)) > 20


def test_phases_over_png_levels_share_their_workers(tmp_path, stream, monkeypatch):
    """Reference: the same levels kept as arrays; and the processes that the system knows of. What
    is still read ahead of one phase must not end or double the workers of the next."""
    monkeypatch.setattr(plan, "FIRST_PNG", 8)
    source = drawn(24, size=32)
    raw = prepare(source, tmp_path / "raw", Square(32), storage="raw")
    made = prepare(source, tmp_path / "png", Square(32), storage="png", workers=0)
    data = Pyramid.open(made.path, workers=1)
    for seed in range(5):
        reader = stream(data, seed=seed)
        for nimg, r in enumerate([8, 8, 16, 16, 32, 32]):
            images = reader.batch(8 * nimg, 8, r).images
            assert torch.equal(images, reference(raw, reader, 8 * nimg, 8, r))
    assert workers() == 1
    reader.close()
    assert workers() == 0


def test_a_failure_while_reading_ahead_reaches_the_caller(stream, monkeypatch):
    """Reference: the error comes with its batch, not later."""

    def broken(self, indices, resolution):
        raise OSError(5, "Input/output error")

    reader = stream()
    reader.batch(0, 4, 8)
    monkeypatch.setattr(Pyramid, "read", broken)
    with pytest.raises(OSError, match="Input/output error"):
        for nimg in range(4, 40, 4):
            reader.batch(nimg, 4, 8)


def test_device_copies_are_whole(pyramid, monkeypatch):
    """Reference: the level; in pieces of three images, too."""
    monkeypatch.setattr("progan.data.stream.COPY_BYTES", 3 * 3 * 8 * 8)
    level = pyramid.level(8)
    np.testing.assert_array_equal(to_device(level, torch.device("cpu")), level)


def test_a_level_let_go_is_read(pyramid, stream):
    """Reference: the level itself; for what had been read ahead of it, too."""
    reader = stream(device_cache=True)
    for nimg in range(0, 40, 4):
        if nimg == 12:
            assert reader.let_go() and not reader.let_go()
        images = reader.batch(nimg, 4, 8).images
        assert torch.equal(images, reference(pyramid, reader, nimg, 4, 8))


def test_a_level_that_does_not_fit_is_read(pyramid, stream, monkeypatch):
    """Reference: the level itself; of what a GPU says then."""

    def full(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    reader = stream(device_cache=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", full)
        reader._hold(8)
    assert torch.equal(reader.batch(0, 4, 8).images, reference(pyramid, reader, 0, 4, 8))
    assert not reader.let_go()


def test_what_is_kept_on_the_device(stream, monkeypatch):
    """Reference: the rule: on a GPU levels up to a quarter of its free memory; elsewhere the
    setting. Free is also what torch has taken from the GPU and no tensor has: 900 bytes here."""
    assert not stream()._wants_on_device(1)
    assert stream(device_cache=True)._wants_on_device(10**15)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3100, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 600)
    reader = stream(device=torch.device("cuda"))
    assert reader._wants_on_device(1000) and not reader._wants_on_device(1001)
    assert not stream(device=torch.device("cuda"), device_cache=False)._wants_on_device(1)


def test_time_spent_waiting_is_counted(stream, monkeypatch):
    """Reference: a read that takes 0.2 s, which the first batch must wait for."""
    real = Pyramid.read

    def slow(self, indices, resolution):
        threading.Event().wait(0.2)
        return real(self, indices, resolution)

    monkeypatch.setattr(Pyramid, "read", slow)
    reader = stream()
    reader.batch(0, 4, 8)
    assert 0.2 <= reader.waited < 5


def test_other_data_are_refused(pyramid, tmp_path, stream):
    """Reference: the same images prepared elsewhere are the same data; others are not."""
    state = stream().state_dict()
    again = prepare(
        drawn(SIZE, labels=np.arange(SIZE) % 3, classes=("a", "b", "c")), tmp_path / "a", Square(16)
    )
    stream(again).load_state_dict(state)
    for other in (drawn(SIZE), drawn(SIZE - 1)):
        made = prepare(other, tmp_path / other.key, Square(16))
        with pytest.raises(UserError, match="are not those that this run has been trained on"):
            stream(made).load_state_dict(state)
    labels = np.arange(SIZE) % 2
    split = prepare(drawn(SIZE, labels=labels, classes=("a", "b")), tmp_path / "b", Square(16))
    with pytest.raises(UserError, match=r"only their classes differ, set data.label_level=1$"):
        stream(split).load_state_dict(state)
