"""The stream of reals and the feed of updates: pure functions of seed and images shown."""

import threading
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch

from progan.data.decode import Square
from progan.data.epoch_order import EpochOrder
from progan.data.pyramid.prepare import prepare
from progan.data.sources.find import find
from progan.runtime.distributed import share
from progan.runtime.randomness import make_rng
from progan.training.feed import Batch, Feed, split

SIZE = 24  # images in `photos`


@pytest.fixture(scope="module")
def pyramid(photos, tmp_path_factory):
    source = find(str(photos), labels=True)
    return prepare(source, tmp_path_factory.mktemp("pyramid") / "p", Square(16))


def test_every_image_once_an_epoch(pyramid, stream):
    """Reference: counting. Five epochs read in batches of 7, which do not divide an epoch."""
    order = stream(pyramid).order
    indices = np.concatenate([order.at(n, 7)[0] for n in range(0, 5 * SIZE + 7, 7)])
    epochs = indices[: 5 * SIZE].reshape(5, SIZE)
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5, "every epoch has an order of its own"


def test_half_of_the_images_are_flipped(pyramid, stream):
    """Reference: a binomial's 99.99 % range over 100 epochs, and both ways for each image."""
    reader = stream(pyramid)
    indices, flips = reader.order.at(0, 100 * SIZE)
    assert abs(flips.mean() - 0.5) < 0.04
    seen = Counter(zip(indices.tolist(), flips.tolist(), strict=True))
    assert len(seen) == 2 * SIZE
    assert not stream(pyramid, mirror=False).order.at(0, 100 * SIZE)[1].any()


def test_an_order_is_the_permutations_of_its_epochs():
    """Reference: each epoch's draws, joined. So one seed means the same order in every version."""
    draws = [(make_rng(3, "order", e), make_rng(3, "flips", e)) for e in range(3)]
    indices = np.concatenate([order.permutation(5) for order, _ in draws])
    flips = np.concatenate([flips.random(5) < 0.5 for _, flips in draws])
    found = EpochOrder(5, seed=3, mirror=True).at(4, 9)
    np.testing.assert_array_equal(found, [indices[4:13], flips[4:13]])


@pytest.mark.parametrize("batch_size", [1, 5, 24, 60])
def test_position_decides_not_the_batches_before(pyramid, stream, batch_size):
    """Reference: one long read. Any cut into batches, begun at any nimg, gives the same images."""
    whole = stream(pyramid).order.at(0, 180)
    for nimg in (0, 3, 23, 24, 100):
        part = stream(pyramid).order.at(nimg, batch_size)
        for a, b in zip(whole, part, strict=True):
            np.testing.assert_array_equal(a[nimg : nimg + batch_size], b)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_global_batch(pyramid, stream, processes):
    """Reference: one process's batch, in order: images, labels, latents, mixing factors, draws of
    the augmentation."""

    def feed(rank: int, of: int) -> Feed:
        reader = stream(pyramid, rank=rank, processes=of)
        return Feed(reader, seed=3, z_dim=5, c_dim=2, augmented=True)

    for draw in (lambda f: f.critic_batch(40, 8, 8), lambda f: f.generator_batch(40, 8, 8)):
        whole = draw(feed(0, 1))
        parts = [draw(feed(rank, processes)) for rank in range(processes)]
        for name, value in vars(whole).items():
            mine = [getattr(part, name) for part in parts]
            assert (
                mine == [None] * processes if value is None else torch.equal(torch.cat(mine), value)
            )


def test_reals_are_the_pyramid_in_minus_one_to_one(pyramid, stream):
    """Reference: pixel / 127.5 - 1 by NumPy, turned left to right where the stream says flipped."""
    reader = stream(pyramid)
    indices, flips = reader.order.at(17, 12)
    expected = np.asarray(pyramid.level(8))[indices].astype(np.float32) / 127.5 - 1
    expected[flips] = expected[flips][..., ::-1]
    images, labels = reader.batch(17, 12, 8)
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(labels.numpy(), pyramid.labels.values[indices])


def test_draws_differ_by_seed_stream_and_position():
    """Reference: equality only of equal triples. Latents of the critic's and the generator's update
    must not be the same, nor those of two updates."""
    draws = {
        (seed, name, position): make_rng(seed, name, position).standard_normal(8).tobytes()
        for seed in (0, 1, 2**40)
        for name in ("critic", "generator", "samples")
        for position in (0, 1, 2**33)
    }
    assert len(set(draws.values())) == len(draws)
    again = make_rng(1, "critic", 2**33).standard_normal(8).tobytes()
    assert again == draws[1, "critic", 2**33]


# A run's steps: a batch at the start of a phase is asked for twice, as by a trainer; two phases; a
# jump as of a restart, another back.
STEPS = [(0, 8, 8), (0, 8, 8), (8, 8, 8), (16, 8, 8), (24, 4, 16), (28, 4, 16), (100, 4, 16)]
STEPS += [(0, 8, 8), (8, 8, 8)]


def drawn(stream: int, position: int) -> np.random.Generator:
    """Draws of seed 3; `stream` is a number, as a name could get another number."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((3, stream, position))))


def test_what_is_drawn_ahead_is_what_the_seed_means(pyramid, stream):
    """Reference: NumPy's draws in their order, bit for bit, made here without reading ahead; with
    changes of batch size and resolution and with jumps."""
    feed = Feed(stream(pyramid), seed=3, z_dim=5, c_dim=2, augmented=True)
    for nimg, n, r in STEPS:
        critic, generator = feed.critic_batch(nimg, n, r), feed.generator_batch(nimg, n, r)
        draw, augment = drawn(3, nimg), drawn(6, 2 * nimg)
        expected = {"z": draw.standard_normal((n, 5), dtype=np.float32)}
        expected["mix"] = draw.random(n, dtype=np.float32)
        expected["c"] = np.eye(2)[pyramid.labels.values[feed.stream.order.at(nimg, n)[0]]]
        draws = [augment.random((n, size), np.float32) for size in (7, 7, 1, 1)]
        expected["real_draws"] = np.hstack(draws[::2])
        expected["fake_draws"] = np.hstack(draws[1::2])
        assert critic.mix.requires_grad
        for name, values in expected.items():
            np.testing.assert_array_equal(getattr(critic, name).detach().numpy(), values, name)
        draw, augment = drawn(4, nimg), drawn(6, 2 * nimg + 1)
        expected = {"z": draw.standard_normal((n, 5), dtype=np.float32)}
        expected["c"] = np.eye(2)[pyramid.labels.values[draw.integers(SIZE, size=n)]]
        expected["fake_draws"] = augment.random((n, 7), np.float32)
        last = augment.random((n, 1), np.float32)
        expected["fake_draws"] = np.hstack([expected["fake_draws"], last])
        for name, values in expected.items():
            assert getattr(generator, name).dtype == torch.float32
            np.testing.assert_array_equal(getattr(generator, name).numpy(), values, name)


def test_a_relativistic_loss_sees_the_reals_of_its_place(pyramid, stream):
    """Reference: the critic's batch at the same place, bit for bit, and its labels, whether or not
    it was made before; latents are those of other losses, the reals' augmentation is their own."""
    made = partial(Feed, seed=3, z_dim=5, c_dim=2, augmented=True)
    others, feed = made(stream(pyramid)), made(stream(pyramid), relativistic=True)
    for place in ((0, 8, 8), (8, 8, 8), (24, 4, 16)):
        batch = feed.critic_batch(*place) if place[0] < 24 else others.critic_batch(*place)
        latents, plain = feed.generator_batch(*place), others.generator_batch(*place)
        assert torch.equal(latents.reals, batch.reals) and torch.equal(latents.c, batch.c)
        assert torch.equal(latents.z, plain.z)
        # The last draw, of whether an image is changed, comes after the reals' others.
        assert torch.equal(latents.fake_draws[:, :-1], plain.fake_draws[:, :-1])
        assert (
            len(torch.cat([latents.fake_draws, latents.real_draws, batch.real_draws]).unique()) > 80
        )
        assert plain.reals is None and plain.real_draws is None


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def test_only_a_first_batch_is_drawn_while_the_caller_waits(pyramid, stream, monkeypatch):
    """Reference: the threads that draw. A first batch is one that follows none: at a start, at a
    phase's, or after a jump. Only what is needed is drawn, and no more than two batches ahead."""
    waited, ahead = [], []

    def noted(seed, stream, position):
        (waited if in_main_thread() else ahead).append((stream, position))
        return make_rng(seed, stream, position)

    monkeypatch.setattr("progan.training.feed.make_rng", noted)
    feed = Feed(stream(pyramid), seed=3, z_dim=5, c_dim=0)
    for nimg, n, r in [(0, 8, 8), (8, 8, 8), (16, 8, 8), (24, 4, 16), (28, 4, 16), (100, 4, 16)]:
        feed.critic_batch(nimg, n, r)
        feed.generator_batch(nimg, n, r)
    feed.stream.threads.shutdown()
    for name in ("critic", "generator"):
        assert [position for stream, position in waited if stream == name] == [0, 24, 100]
        made = {position for stream, position in ahead if stream == name}
        assert {8, 16, 28, 104, 108} <= made <= {8, 16, 24, 28, 32, 36, 104, 108}


def test_the_caller_pins_nothing(pyramid, stream, monkeypatch):
    """Reference: the threads that pin memory for a GPU, which costs them time. Uploads and pinning
    are left out, so that no GPU is needed. All that a GPU copies from is pinned."""
    pinned, in_main, uploaded = [], [], []

    def pin(values):
        pinned.append(values)
        in_main.append(in_main_thread())
        return values

    def upload(values, device):
        assert any(values is each for each in pinned)
        uploaded.append(values)
        return values

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr("progan.data.stream.upload", upload)
    monkeypatch.setattr("progan.training.feed.upload", upload)
    reader = stream(pyramid, device="cuda", device_cache=False)
    feed = Feed(reader, seed=3, z_dim=5, c_dim=2, augmented=True)
    for nimg in (0, 8, 16, 24):
        feed.critic_batch(nimg, 8, 8)
        feed.generator_batch(nimg, 8, 8)
        if not nimg:
            of_first = sum(in_main)
    reader.threads.shutdown(cancel_futures=True)  # before the real pinning is back
    assert len(uploaded) == 4 * (4 + 3 + 3), "z, mix, draws; pixels, flips, labels; z, c, draws"
    assert of_first and sum(in_main) == of_first, "pinned while the caller waits"


def test_a_failure_while_drawing_ahead_reaches_the_caller(pyramid, stream, monkeypatch):
    """Reference: the error comes with its batch, the third; the others are fine."""

    def broken(seed, stream, position):
        if position == 16:
            raise MemoryError("no memory for latents")
        return make_rng(seed, stream, position)

    monkeypatch.setattr("progan.training.feed.make_rng", broken)
    feed = Feed(stream(pyramid), seed=3, z_dim=5, c_dim=0)
    for update in (
        lambda nimg: feed.critic_batch(nimg, 8, 8),
        lambda nimg: feed.generator_batch(nimg, 8, 8),
    ):
        update(0)
        update(8)
        with pytest.raises(MemoryError, match="no memory for latents"):
            update(16)
        update(24)


def test_closing_the_stream_ends_what_is_drawn_ahead(pyramid, stream, monkeypatch):
    """Reference: the threads that live, before and after; draws that wait are never made."""
    started, go_on, drawn = threading.Event(), threading.Event(), []
    before = set(threading.enumerate())
    feed = Feed(stream(pyramid), seed=3, z_dim=5, c_dim=0)

    def slow(seed, stream, position):
        if not in_main_thread():
            started.set()
            assert go_on.wait(10)
        drawn.append((stream, position))
        return make_rng(seed, stream, position)

    monkeypatch.setattr("progan.training.feed.make_rng", slow)
    feed.generator_batch(0, 8, 8)
    feed.critic_batch(0, 8, 8)
    assert started.wait(10)
    threading.Timer(0.5, go_on.set).start()
    feed.stream.close()
    assert set(drawn) == {("generator", nimg) for nimg in (0, 8, 16)} | {("critic", 0)}
    assert not [t for t in threading.enumerate() if t not in before and "ahead" in t.name]


def test_latents_are_standard_normal(pyramid, stream):
    """Reference: mean 0 and deviation 1 within five standard errors over 100,000 draws."""
    z = Feed(stream(pyramid), seed=0, z_dim=100, c_dim=0).generator_batch(0, 1000, 8).z
    assert z.dtype == torch.float32
    assert abs(z.mean().item()) < 5 / 100_000**0.5
    assert abs(z.std().item() - 1) < 5 / 200_000**0.5


def test_generator_labels_have_the_shares_of_the_data(pyramid, stream):
    """Reference: 8 of 24 photos are dogs; five standard errors over 3,000 draws."""
    c = Feed(stream(pyramid), seed=0, z_dim=2, c_dim=2).generator_batch(0, 3000, 8).c
    share_of_dogs = c[:, pyramid.labels.names.index("dogs")].mean().item()
    assert abs(share_of_dogs - 8 / 24) < 5 * (2 / 9 / 3000) ** 0.5


def test_split_keeps_order_and_everything():
    """Reference: torch.cat of the parts."""
    batch = Batch(
        torch.randn(8, 2), None, torch.randn(8, 3, 4, 4), torch.rand(8), None, torch.rand(8, 7)
    )
    parts = split(batch, 2)
    assert len(parts) == 4 and all(part.c is None for part in parts)
    assert torch.equal(torch.cat([part.reals for part in parts]), batch.reals)
    assert torch.equal(torch.cat([part.mix for part in parts]), batch.mix)
    assert all(part.real_draws is None for part in parts)
    assert torch.equal(torch.cat([part.fake_draws for part in parts]), batch.fake_draws)


def test_shares_are_contiguous_and_complete():
    """Reference: the list itself; whole stddev groups stay on one process only if contiguous."""
    items = list(range(24))
    assert sum((items[share(24, rank, 3)] for rank in range(3)), []) == items
