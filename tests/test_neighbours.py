"""Nearest training images: found, described, drawn."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import launched
from PIL import Image

from progan.analysis import neighbours
from progan.analysis.neighbours import (
    SAME,
    Comparison,
    Nearest,
    TrainingImages,
    by_features,
    by_pixels,
    pixel_resolution,
    verdict,
)
from progan.analysis.neighbours_picture import Block, Layout, draw
from progan.cli import neighbours as cli_neighbours
from progan.cli.main import main
from progan.config.load import load_config
from progan.data.decode import Square, box_levels
from progan.data.labels import Labels
from progan.data.live import OnDemandDataset
from progan.data.opening import open_data
from progan.data.pyramid.format import Pyramid
from progan.data.sources.find import find
from progan.metrics.reference_cache import ReferenceCache
from progan.model.networks import Generator
from progan.model.sampling import generate
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot

SMALL = ["network.resolution=16", "network.channel_base=128", "network.channel_max=8"]
SMALL += ["data.mirror=true"]
COUNT = 30  # training images


def write_images(folder: Path, images: np.ndarray, classes: int = 1) -> Path:
    """uint8 [N, C, r, r] as PNG files, in their order; in folders of classes in turn."""
    for i, image in enumerate(images):
        path = folder / (f"class{i % classes}" if classes > 1 else ".") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(path)
    return folder


def drawn(count: int, channels: int = 3, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), np.uint8)


def pyramid_of(folder: Path, images: np.ndarray) -> Pyramid:
    """The real preparation of real files."""
    c, r = images.shape[1:3]
    write_images(folder / "images", images)
    settings = [f"network.resolution={r}", f"network.channels={c}"]
    settings += [f"data.source={folder / 'images'}", f"data.cache={folder / 'cache'}"]
    return open_data(load_config(None, settings), False, lambda line: None)


class Stub:
    """Stands in for Inception: some linear features, which a flip changes; counts its images."""

    version = "01234567"

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.seen += len(images)
        rows = images.flatten(1).float()
        draw = np.random.default_rng(0).standard_normal((rows.shape[1], 6))
        return rows @ torch.from_numpy(draw).float() / 100 + 50, None


def brute_force(
    queries: list[np.ndarray], reals: list[np.ndarray], flipped: list[np.ndarray] | None
) -> np.ndarray:
    """Euclidean distances [V, Q, N] of V views, a pair at a time in float64."""
    views = [queries] if flipped is None else [queries, flipped]
    return np.array(
        [
            [
                [np.sqrt(np.sum((a.astype(float) - b.astype(float)) ** 2)) for b in reals]
                for a in view
            ]
            for view in views
        ]
    )


def check(found: Comparison, both: np.ndarray, others: np.ndarray, tolerance: float) -> None:
    """both: all distances of samples [V, S, N]; others: of training images [V, N, N]."""
    nearest = both.min(0)
    order = nearest.argsort(1, kind="stable")[:, :5]
    assert (found.samples.indices == order).all()
    expected = np.take_along_axis(nearest, order, 1)
    assert np.abs(found.samples.distances - expected).max() <= tolerance
    turned = np.take_along_axis(both[-1] < both[0], order, 1)
    assert (found.samples.flipped == turned).all()
    others = others.min(0)
    others[np.diag_indices(len(others))] = np.inf
    assert np.abs(np.sort(found.reals) - np.sort(others.min(1))).max() <= tolerance


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [16, 8])
def test_nearest_by_pixels(tmp_path, monkeypatch, mirror, channels, resolution):
    """Reference: a loop over pairs in float64, on images made smaller by a mean over blocks."""
    monkeypatch.setattr(neighbours, "PIXEL_BATCH", 7)  # several batches, the last one short
    data = pyramid_of(tmp_path, drawn(COUNT, channels))
    samples = drawn(6, channels, seed=1)
    found = by_pixels(samples, TrainingImages(data, mirror), resolution)

    zoom = 16 // resolution
    blocks = (-1, channels, resolution, zoom, resolution, zoom)
    a, b = (np.rint(x.reshape(blocks).mean((3, 5))) for x in (samples, drawn(COUNT, channels)))
    scale = np.sqrt(channels * resolution**2)
    both = brute_force(a, b, a[..., ::-1] if mirror else None) / scale
    others = brute_force(b, b, b[..., ::-1] if mirror else None) / scale
    check(found, both, others, 1e-9)
    assert found.samples.flipped.any() == mirror


def test_images_that_are_not_prepared_are_searched_as_well(tmp_path):
    """Reference: a pyramid of the same images."""
    data = pyramid_of(tmp_path, drawn(COUNT))
    live = OnDemandDataset(find(str(tmp_path / "images")), Square(16), workers=0)
    a, b = (by_pixels(drawn(3, seed=1), TrainingImages(some, True), 16) for some in (data, live))
    live.close()
    assert (a.samples.indices == b.samples.indices).all() and (a.reals == b.reals).all()


def test_a_memorizer_is_found_and_told(tmp_path):
    """Reference: a generator whose output is training images, two of them flipped."""
    images = drawn(COUNT)
    data = pyramid_of(tmp_path, images)
    samples = images[[4, 20, 9, 0]]
    samples[2:] = samples[2:, :, :, ::-1]
    found = by_pixels(samples, TrainingImages(data, mirror=True), 16)
    assert found.samples.indices[:, 0].tolist() == [4, 20, 9, 0]
    assert found.samples.flipped[:, 0].tolist() == [False, False, True, True]
    assert (found.samples.distances[:, 0] == 0).all() and found.memorizes
    assert found.near[:, 0].all() and not found.near[:, 1:].any()
    figures, sense = verdict(found, [7, 8, 9, 11], "pixels", " grey levels")
    assert "median 0 grey levels (samples)" in figures and "smallest ratio 0.00 (seed 7)" in figures
    assert "seems to memorize" in sense and sense.endswith("seeds 7, 8, 9, 11")
    unmirrored = by_pixels(samples, TrainingImages(data, mirror=False), 16)
    assert (unmirrored.samples.distances[2:, 0] > 50).all()


def test_a_training_image_is_not_its_own_neighbour(tmp_path):
    """Reference: by construction. A twin elsewhere is a neighbour, one's own mirror image not."""
    images = drawn(4)
    images[2] = images[0]  # twins
    images[1, :, :, 8:] = images[1, :, :, 7::-1]  # symmetric
    found = by_pixels(images, TrainingImages(pyramid_of(tmp_path, images), mirror=True), 16)
    assert sorted(found.reals == 0) == [False, False, True, True]
    # Fewer than five images: all of them, each once; equals in their order.
    assert found.samples.indices[2, :2].tolist() == [0, 2]
    assert all(sorted(row) == [0, 1, 2, 3] for row in found.samples.indices.tolist())
    assert not found.samples.flipped[1, 0]


@pytest.mark.parametrize(
    ("nearest", "reals", "words"),
    [
        ([9, 8, 7], [10, 10], "no sign of memorizing in pixels; that is no proof"),
        ([9, 8, 4], [10, 10], "but some do; less than half as far: seeds 3"),
        ([9, 3, 4], [10, 10], "seems to memorize; less than half as far: seeds 2, 3"),
        ([9, 5, 5], [10, 10], "no sign"),
        ([9, 5, 0], [0, 0], "twin that looks the same"),
        ([90, 50, 60], [1, 2], "twin that looks the same"),
    ],
)
def test_verdicts(nearest, reals, words):
    """Reference: the sentences, with the limit of one half written out."""
    distances = np.array([nearest]).T.astype(float)
    zeros = np.zeros_like(distances, int)
    found = Comparison(Nearest(zeros, zeros > 0, distances), np.array(reals, float))
    assert words in verdict(found, [1, 2, 3], "pixels", " grey levels", SAME)[1]


@pytest.mark.parametrize(
    ("resolution", "alpha", "expected"),
    [(4, None, 4), (8, 0.5, 4), (32, None, 32), (32, 0.1, 16), (64, 0.1, 32), (1024, None, 32)],
)
def test_where_pixels_are_compared(resolution, alpha, expected):
    """Reference: at most 32x32, and while a block fades in the resolution below it."""
    assert pixel_resolution(resolution, alpha) == expected


@pytest.mark.parametrize("mirror", [False, True])
def test_nearest_by_features(tmp_path, monkeypatch, mirror):
    """Reference: a loop over pairs of a stand-in's features; kept, streamed, computed: the same."""
    monkeypatch.setattr(neighbours, "batch_size", lambda resolution: 7)
    data = pyramid_of(tmp_path, drawn(COUNT))
    samples, originals = drawn(6, seed=1), TrainingImages(data, mirror)

    def rows(images: np.ndarray) -> np.ndarray:
        return Stub()(torch.from_numpy(images.copy()))[0].numpy()

    a, b = rows(samples), rows(drawn(COUNT))
    both = brute_force(a, b, rows(samples[..., ::-1]) if mirror else None)
    others = brute_force(b, b, rows(drawn(COUNT)[..., ::-1]) if mirror else None)
    kept = ReferenceCache(tmp_path, data, 16, mirror)
    seen = []
    for most in (0, 2e9, 2e9):  # the yardstick only is kept; so it is again; deleted
        monkeypatch.setattr(neighbours, "MOST_KEPT", most)
        inception = Stub()
        check(by_features(samples, originals, inception, kept), both, others, 1e-3)
        seen.append(inception.seen)
        if most and len(seen) == 2:
            next(kept.folder.iterdir()).unlink()
            check(by_features(samples, originals, Stub(), kept), both, others, 1e-3)
    views = 1 + mirror
    assert seen == [views * (6 + COUNT) + COUNT, views * 6 + COUNT, views * 6]


def test_features_that_cannot_be_kept_are_used_all_the_same(tmp_path, caplog):
    """Reference: the warning, and the result with a cache."""
    data = pyramid_of(tmp_path, drawn(COUNT))
    blocked = ReferenceCache(tmp_path, data, 16, False)
    blocked.folder.parent.mkdir()
    blocked.folder.write_text("a file where the folder should be")
    a = by_features(drawn(2), TrainingImages(data, False), Stub(), blocked)
    b = by_features(
        drawn(2),
        TrainingImages(data, False),
        Stub(),
        ReferenceCache(tmp_path / "b", data, 16, False),
    )
    assert (a.samples.indices == b.samples.indices).all()
    assert "computed again next time" in caplog.text


@pytest.mark.parametrize(("channels", "size"), [(3, 16), (1, 16), (3, 64), (3, 512)])
def test_picture(tmp_path, channels, size):
    """Reference: cells cut out, against the images, flipped where they are, enlarged or shrunk."""
    images = drawn(4, channels, size)
    data = pyramid_of(tmp_path, images)
    samples = images[[2, 1]][..., ::-1].copy()
    found = by_pixels(samples, TrainingImages(data, mirror=True), min(size, 32))
    blocks = [Block("nearest by pixels", "grey levels", found), Block("again", "", found)]
    picture = draw("a run", [3, 12345], samples, blocks, data)
    layout = Layout("a run", size, [3, 12345], blocks)
    assert picture.shape == (3, *layout.size[::-1]) and picture.dtype == np.uint8
    cell = {16: 64, 64: 64, 512: 256}[size]
    assert layout.cell == cell

    def assert_shows(x: int, row: int, image: np.ndarray) -> None:
        y = layout.top(row)
        shown = picture[:, y : y + cell, x : x + cell]
        smaller = box_levels(image[None], min(size, cell))[min(size, cell)][0]
        zoom = max(1, cell // size)
        assert (shown == smaller.repeat(zoom, 1).repeat(zoom, 2)).all()

    for row, index in enumerate((2, 1)):
        assert_shows(layout.left, row, samples[row])
        for x in layout.lefts:
            assert_shows(x, row, images[index][..., ::-1])
            places = [x + k * layout.step for k in range(4)]
            views = zip(found.samples.indices[row], found.samples.flipped[row], strict=True)
            for at, (i, flipped) in zip(places, views, strict=True):
                assert_shows(at, row, images[i][..., ::-1] if flipped else images[i])
    red = (picture[0] > 190) & (picture[1] == 0) & (picture[2] == 0)
    assert red[layout.top(0) + cell : layout.top(1), layout.lefts[0] : layout.lefts[0] + cell].any()


def make_run(folder: Path, data: Path, classes=()) -> Path:
    torch.manual_seed(0)
    labels = Labels.each_class(tuple(classes)) if classes else None
    labelled = str(bool(classes)).lower()
    config = load_config(None, [*SMALL, f"data.source={data}", f"data.labels={labelled}"])
    G = Generator(**config.network.generator_settings(), c_dim=len(classes))
    path = folder / "run" / "snapshots" / "snapshot-000012.500.safetensors"
    save_snapshot(Snapshot(path, G, config, 12500, 16, None, labels))
    (folder / "run" / "config.yaml").write_text(config.to_yaml())
    return path


@pytest.fixture
def nothing_downloaded(tmp_path, monkeypatch):
    """No weights in torch's cache, whatever this machine has there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)


def command(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["neighbours", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def shown(path: Path) -> np.ndarray:
    """uint8 [3, H, W]."""
    with Image.open(path) as image:
        return np.asarray(image).transpose(2, 0, 1)


def test_the_command(tmp_path, nothing_downloaded):
    """Reference: `generate`'s image in the picture's first cell; the words; nothing fetched."""
    data = write_images(tmp_path / "images", drawn(COUNT))
    path = make_run(tmp_path, data)
    output = command(path.parent.parent, "--seeds", "5,9")
    assert "12.5 kimg, 16x16" in output and f"{COUNT} images of {data}, also flipped" in output
    assert "nearest training image by pixels at 16x16: median" in output
    assert "Inception features were not compared" in output
    assert "2 samples next to their nearest training images in neighbours-of-run.png" in output
    assert not (tmp_path / "torch").exists()
    picture = shown(tmp_path / "neighbours-of-run.png")
    expected = generate(load_snapshot(path).G, [5], None, 16, None)[0].repeat(4, 1).repeat(4, 2)
    windows = np.lib.stride_tricks.sliding_window_view(picture[0], (64, 64))
    starts = np.argwhere(windows[:, :, 0, 0] == expected[0, 0, 0])
    assert any((windows[y, x] == expected[0]).all() for y, x in starts)


def test_the_command_with_features(tmp_path, nothing_downloaded, monkeypatch):
    """Reference: a picture wider by a block, and another verdict."""
    monkeypatch.setattr(cli_neighbours, "load_inception", lambda file, device: Stub())
    path = make_run(tmp_path, write_images(tmp_path / "images", drawn(COUNT)))
    output = command(path, "--out", "a.png")
    assert "nearest training image by Inception features: median" in output
    monkeypatch.setattr(cli_neighbours, "load_inception", lambda file, device: None)
    command(path, "--out", "b.png")
    a, b = shown(tmp_path / "a.png"), shown(tmp_path / "b.png")
    assert a.shape[2] > b.shape[2] + 150 and a.shape[1] > 16 * 64


def test_other_data(tmp_path, nothing_downloaded):
    """Reference: a sample of the run among the data given, of another size: it is memorized."""
    path = make_run(tmp_path, write_images(tmp_path / "images", drawn(COUNT)))
    fakes = generate(load_snapshot(path).G, list(range(16)), None, 16, None)
    others = np.concatenate([drawn(5, seed=2), fakes]).repeat(2, 2).repeat(2, 3)
    output = command(path, "--data", write_images(tmp_path / "others", others))
    assert "seems to memorize" in output and "smallest ratio 0.00 (seed 0)" in output


def test_seeds_have_classes_in_turn(tmp_path, nothing_downloaded):
    """Reference: the command runs with classes; which seed has which is tested of samples."""
    data = write_images(tmp_path / "images", drawn(COUNT), classes=2)
    command(make_run(tmp_path, data, classes=("class0", "class1")), "--seeds", "0-2")
    assert (tmp_path / "neighbours-of-snapshot-000012.500.png").is_file()


def test_other_processes_do_nothing(tmp_path, nothing_downloaded, monkeypatch):
    """Reference: no output and no picture."""
    launched(monkeypatch, rank=1)
    path = make_run(tmp_path, write_images(tmp_path / "images", drawn(COUNT)))
    assert command(path, "--out", "a.png") == "" and not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such run or snapshot: nowhere"),
        (["text.txt"], "text.txt is not a snapshot of progan"),
        (["{run}", "--seeds", "x"], "ranges like 0-63"),
        (["{run}", "--seeds", "0-64"], "--seeds 0-64 are 65; give at most 64"),
        (["{run}", "--out", "a.jpg"], "must end in .png"),
        (["{run}", "--out", "no/a.png"], "there is no folder no"),
        (["{run}", "--out", "dir.png"], "is a folder"),
        (["{run}", "--data", "one"], "has 1 image; neighbours need two"),
        (["{run}", "--data", "gone"], "gone"),
        (["{run}", "--inception", "text.txt"], ""),
    ],
)
def test_errors(tmp_path, nothing_downloaded, arguments, message):
    """Reference: the sentence that says what to do, exit code 2, and no picture."""
    run = make_run(tmp_path, write_images(tmp_path / "images", drawn(3)))
    write_images(tmp_path / "one", drawn(1))
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "dir.png").mkdir()
    filled = [argument.format(run=run) for argument in arguments]
    result = CliRunner().invoke(main, ["neighbours", *filled], catch_exceptions=False)
    assert result.exit_code == 2 and message in result.output
    assert not [path for path in tmp_path.glob("*.png") if path.is_file()]


def test_weights_without_the_library(tmp_path, nothing_downloaded, monkeypatch):
    """Reference: how to install it, before anything else is done."""
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.version", raising=False)
    arguments = ["neighbours", "nowhere", "--inception", "weights.pth"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 2 and "pip install '.[metrics]'" in result.output


@pytest.mark.slow
@pytest.mark.skipif("PROGAN_INCEPTION" not in os.environ, reason="no Inception weights given")
def test_real_features(tmp_path, nothing_downloaded):
    """Reference: a training image as a sample is its own nearest neighbour, next to nothing away.

    PROGAN_INCEPTION names a file of weights.
    """
    from progan.metrics.inception import Inception

    images = drawn(6, size=32)
    data = pyramid_of(tmp_path, images)
    inception = Inception(Path(os.environ["PROGAN_INCEPTION"]), "cpu")
    kept = ReferenceCache(tmp_path, data, 32, False)
    found = by_features(images[[3, 1]], TrainingImages(data, False), inception, kept)
    assert found.samples.indices[:, 0].tolist() == [3, 1]
    assert found.memorizes and found.samples.distances[:, 0].max() < 0.01
