"""Labels with several attributes per image: in updates, grids, snapshots and samples."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import options, whole_grids
from pictures import without_notes
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from progan.cli.main import main
from progan.config.load import load_config
from progan.data.epoch_order import spread
from progan.data.labels import Labels
from progan.data.pyramid.format import Pyramid
from progan.data.pyramid.meta import VERSION, Meta
from progan.data.stream import Stream
from progan.model.grid import grid
from progan.model.networks import Generator
from progan.model.sampling import generate
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import MOST_EXAMPLES, load_snapshot, save_snapshot
from progan.runtime.accelerator import make_accelerator
from progan.runtime.stopping import StopRequest
from progan.training.feed import Feed
from progan.training.trainer import Trainer

NAMES = ("Bald", "Eyeglasses", "Male", "Smiling", "Young")
COMBINATIONS = np.array(
    [[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]], np.uint8
)


def hand_made(path: Path, count: int = 24) -> Pyramid:
    """A pyramid written to disk by hand: random pixels, rows of COMBINATIONS."""
    draw = np.random.default_rng(7)
    for r in (4, 8):
        np.save(path / f"{r:04d}.npy", draw.integers(0, 256, (count, 3, r, r), np.uint8))
    np.save(path / "labels.npy", COMBINATIONS[draw.integers(5, size=count)])
    shape = {"count": count, "channels": 3, "resolution": 8, "png": (), "bad": 0}
    meta = Meta(source="hand-made", made_from="", classes=NAMES, **shape)
    (path / "meta.json").write_text(json.dumps({"version": VERSION} | asdict(meta)))
    return Pyramid.open(path)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory) -> Pyramid:
    return hand_made(tmp_path_factory.mktemp("pyramid"))


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, int).transpose(2, 0, 1)


def sample(*arguments: object) -> None:
    result = CliRunner().invoke(main, ["sample", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


# What the updates consume -----------------------------------------------------------------------


def test_reals_come_with_their_own_rows(pyramid):
    """Reference: the data's rows at the indices of the stream, as float32; fakes share them."""
    stream = Stream(pyramid, seed=3)
    batch = Feed(stream, seed=3, z_dim=2, c_dim=5).critic_batch(17, 12, 4)
    assert batch.c.dtype == torch.float32
    np.testing.assert_array_equal(
        batch.c.numpy(), pyramid.labels.values[stream.order.at(17, 12)[0]]
    )


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_rows(pyramid, processes):
    """Reference: one process's batch, in order."""

    def feed(rank: int, of: int) -> Feed:
        return Feed(Stream(pyramid, seed=3, rank=rank, processes=of), seed=3, z_dim=2, c_dim=5)

    for draw in (lambda f: f.critic_batch(40, 8, 8), lambda f: f.generator_batch(40, 8, 8)):
        parts = [draw(feed(rank, processes)).c for rank in range(processes)]
        assert torch.equal(torch.cat(parts), draw(feed(0, 1)).c)


def test_generator_draws_whole_rows_with_the_shares_of_the_data(pyramid):
    """Reference: counts of combinations in the data, within five standard errors over 3,000 draws.
    If each attribute were drawn by itself, there would be combinations that no image has."""
    c = Feed(Stream(pyramid, seed=0), seed=0, z_dim=2, c_dim=5).generator_batch(0, 3000, 8).c
    drawn = Counter(map(tuple, c.int().tolist()))
    data = Counter(map(tuple, pyramid.labels.values.tolist()))
    assert drawn.keys() == data.keys()
    for row, images in data.items():
        p = images / pyramid.count
        assert abs(drawn[row] / 3000 - p) < 5 * (p * (1 - p) / 3000) ** 0.5


# A run ------------------------------------------------------------------------------------------


def train(run_dir: Path, pyramid: Pyramid) -> None:
    """A run through the trainer itself, on the hand-made images."""
    config = load_config(None, ["data.labels=true", *options()[1::2]])
    with StopRequest() as stop:
        accelerator = make_accelerator(run_dir, None)
        assert Trainer(config, pyramid, run_dir, accelerator, stop).run()


@pytest.fixture(scope="module", params=[24, 100], ids=["few", "many"])
def run(request, tmp_path_factory) -> Iterator[tuple[Path, Pyramid]]:
    """Runs of twelve updates, on fewer images than a grid has cells and on more."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    pyramid = hand_made(tmp_path_factory.mktemp("pyramid"), request.param)
    with whole_grids():
        train(run_dir, pyramid)
        yield run_dir, pyramid


def test_training_minimizes_the_attribute_loss(run):
    """Reference: 2 log 2, the cost of logits of 0 over reals and fakes; after twelve updates five
    attributes are only a little below. A softmax over rows with several ones would cost more."""
    run_dir, _ = run
    first = json.loads((run_dir / "stats.jsonl").read_text().splitlines()[0])
    assert abs(first["Loss/labels/D"] - 2 * np.log(2)) < 0.5
    assert abs(first["Loss/labels/G"] - np.log(2)) < 0.25


def test_fakes_have_the_attributes_of_the_reals_in_their_places(run):
    """Reference: images and rows of the data in the order of `spread`, eight per row of the grid;
    with fewer than 64 images they repeat."""
    run_dir, pyramid = run
    chosen = spread(pyramid.count, 64)
    shown = pyramid.read(chosen, 8)
    assert (read(run_dir / "images" / "reals-0008.png") == grid(shown, 8)).all()
    snapshot = load_snapshot(sorted((run_dir / "snapshots").iterdir())[-1])
    rows = np.stack([pyramid.labels.values[chosen[k % len(shown)]] for k in range(64)])
    fakes = grid(generate(snapshot.G, list(range(64)), rows, 8, None), 8)
    assert (read(sorted((run_dir / "images").glob("fakes-*"))[-1]) == fakes).all()


def test_samples_are_the_grid_that_training_showed(run, tmp_path):
    """Reference: the PNG of training's last tick, but for the seeds below the images; and single
    images, sampled in other batches, against its cells: a seed always has the same attributes."""
    run_dir, _ = run
    shown = sorted((run_dir / "images").glob("fakes-*"))[-1]
    sample(run_dir, "--grid", "--out", tmp_path)
    made = read(tmp_path / shown.name.replace("fakes", "grid"))
    assert (without_notes(made, axis=1) == read(shown)).all()
    sample(run_dir, "--seeds", "63,9", "--out", tmp_path / "single")
    for seed in (9, 63):
        y, x = 4 + 68 * (seed // 8), 4 + 68 * (seed % 8)
        cell = read(shown)[:, y : y + 64 : 8, x : x + 64 : 8]
        assert (read(tmp_path / "single" / f"seed{seed:04d}.png") == cell).all()


def test_snapshots_carry_names_and_rows(run):
    """Reference: the data's own, of the 64 images that stand for all."""
    run_dir, pyramid = run
    snapshot = load_snapshot(sorted((run_dir / "snapshots").iterdir())[-1])
    assert snapshot.labels.names == NAMES
    shown = snapshot.labels.values
    assert shown.dtype == np.uint8
    chosen = spread(pyramid.count, MOST_EXAMPLES)
    np.testing.assert_array_equal(shown, pyramid.labels.values[chosen])


# Snapshots --------------------------------------------------------------------------------------


def make_snapshot(folder: Path) -> Path:
    torch.manual_seed(0)
    config = load_config(None, options()[1::2])
    G = Generator(**config.network.generator_settings(), c_dim=5)
    path = folder / "snapshot-000012.500.safetensors"
    save_snapshot(Snapshot(path, G, config, 12500, 8, None, Labels(NAMES, COMBINATIONS)))
    return path


def test_rows_are_compact_in_the_file(tmp_path):
    """Reference: the metadata as safetensors reads it."""
    with safe_open(make_snapshot(tmp_path), framework="pt") as file:
        rows = json.loads(file.metadata()["examples"])
    assert rows == ["10100", "00000", "01111", "00011", "11111"]


@pytest.mark.parametrize(
    ("examples", "classes", "complaint"),
    [
        ("[", None, "Expecting value"),
        ('"01101"', None, "1 to 64 rows"),
        ("{}", None, "1 to 64 rows"),
        ("[]", None, "1 to 64 rows"),
        (json.dumps(["01101"] * 65), None, "1 to 64 rows"),
        ('["0110"]', None, "not of 5 attributes"),
        ('["01101", "011011"]', None, "not of 5 attributes"),
        ('["01102"]', None, "else than 0 and 1"),
        ('["0110\\n"]', None, "else than 0 and 1"),
        ('["0110١"]', None, "else than 0 and 1"),
        ("[[0, 1, 1, 0, 1]]", None, "else than 0 and 1"),
        ("[1101]", None, "else than 0 and 1"),
        ("[null]", None, "else than 0 and 1"),
        ('[""]', "[]", "1 to 64 rows"),
        ('["01101"]', '["a", "b", "c", "d", 5]', "no list of names"),
        ('["01101"]', '"names"', "no list of names"),
        ('["011"]', '["a", "b", "c"]', "not those of the network"),
    ],
)
def test_hostile_rows_are_refused(tmp_path, examples, classes, complaint):
    """Reference: exit code 2 and one message that names the file and what is wrong with it."""
    path = make_snapshot(tmp_path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {"examples": examples}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if classes is not None:
        metadata["classes"] = classes
    save_file(tensors, path, metadata)
    result = CliRunner().invoke(main, ["sample", str(path)], catch_exceptions=False)
    assert result.exit_code == 2
    assert f"{path} is not a snapshot" in result.output
    assert complaint in result.output


# Samples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("class_name", "row", "ending"),
    [
        ("Smiling,Male", [0, 0, 1, 1, 0], "-class-Male+Smiling"),
        ("Male, Smiling, Male", [0, 0, 1, 1, 0], "-class-Male+Smiling"),
        ("3,Male", [0, 0, 1, 1, 0], "-class-Male+Smiling"),
        ("Bald", [1, 0, 0, 0, 0], "-class-Bald"),
        (None, COMBINATIONS[7 % 5], ""),
    ],
)
def test_attributes_by_name_and_number(tmp_path, class_name, row, ending):
    """Reference: `generate` with the row written out: the named ones are on, all others off;
    without a name the row of the data that the seed draws."""
    path = make_snapshot(tmp_path)
    chosen = [] if class_name is None else ["--class", class_name]
    sample(path, "--seeds", "7,12", *chosen, "--out", tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"seed0007{ending}.png", f"seed0012{ending}.png"]
    expected = generate(load_snapshot(path).G, [7, 12], np.array([row, row], np.uint8), 8, None)
    assert (read(tmp_path / "out" / names[0]) == expected[0]).all()
    assert (read(tmp_path / "out" / names[1]) == expected[1]).all()


def test_attributes_change_the_image(tmp_path):
    """Reference: inequality: the same seed with and without one attribute."""
    G = load_snapshot(make_snapshot(tmp_path)).G
    a, b = generate(G, [1, 1], np.array([[0] * 5, [0, 1, 0, 0, 0]], np.uint8), 8, None)
    assert (a != b).any()


def test_a_grid_of_chosen_attributes(tmp_path):
    """Reference: the default grid's shape, eight seeds a row, every cell with the row asked for."""
    path = make_snapshot(tmp_path)
    sample(path, "--grid", "--class", "Young", "--out", tmp_path)
    rows = np.tile(np.array([0, 0, 0, 0, 1], np.uint8), (64, 1))
    expected = grid(generate(load_snapshot(path).G, range(64), rows, 8, None), 8)
    made = read(tmp_path / "grid-000012.500-class-Young.png")
    assert (without_notes(made, axis=1) == expected).all()


@pytest.mark.parametrize(
    ("class_name", "message"),
    [
        ("Smilling", "'Smilling' is unknown (did you mean 'Smiling'?); attributes: 0 Bald, 1 Eye"),
        ("Male,Smilling", "'Smilling' is unknown (did you mean 'Smiling'?)"),
        ("Male,5", "'5' is unknown; attributes: 0 Bald"),
        ("Male,", "'' is unknown"),
        ("", "'' is unknown"),
    ],
)
def test_unknown_attributes_are_explained(tmp_path, class_name, message):
    """Reference: the sentence with the nearest name and all of them, and exit code 2."""
    arguments = ["sample", str(make_snapshot(tmp_path)), "--class", class_name]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    assert message in result.output
