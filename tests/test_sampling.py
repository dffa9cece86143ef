"""From seeds to images to files; snapshots as files."""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import whole_grids
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from progan.cli.main import main
from progan.cli.options import parse_seeds
from progan.config.load import load_config
from progan.data.labels import Labels
from progan.model.grid import grid
from progan.model.networks import Generator
from progan.model.sampling import generate, grid_layout, latents
from progan.runs.sample_grid import grid_of
from progan.runs.snapshot import Snapshot, label_indices
from progan.runs.snapshot_file import load_snapshot, save_snapshot
from progan.runtime.errors import UserError
from progan.runtime.pictures import GAP, HATCHED, LONGEST_NAME, NOTE, arrange, captions
from progan.runtime.text import for_file_names, joined_for_files

SETTINGS = ["network.resolution=16", "network.channel_base=128", "network.channel_max=16"]


def make_snapshot(folder: Path, classes=(), alpha=None) -> Path:
    torch.manual_seed(0)
    config = load_config(None, SETTINGS)
    G = Generator(**config.network.generator_settings(), c_dim=len(classes))
    path = folder / "run" / "snapshots" / "snapshot-000012.500.safetensors"
    labels = Labels.each_class(tuple(classes)) if classes else None
    save_snapshot(Snapshot(path, G, config, 12500, 16, alpha, labels))
    return path


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, int)


def sample(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["sample", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["sample", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-3", [0, 1, 2, 3]), ("5", [5]), ("9,1-2, 7", [9, 1, 2, 7])]
)
def test_seeds(text, seeds):
    """Reference: the lists written out."""
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-4", "1..4"])
def test_bad_seeds_are_explained(text):
    """Reference: the message shows the value and examples."""
    with pytest.raises(UserError, match="ranges like 0-63"):
        parse_seeds(text)


def test_a_seed_is_one_image_in_any_company(tmp_path):
    """Reference: seed 17 alone; in other batches, at other places: equal pixels on a CPU."""
    snapshot = load_snapshot(make_snapshot(tmp_path, alpha=0.25))

    def image(seeds):
        return generate(snapshot.G, seeds, None, 16, 0.25)[seeds.index(17)].astype(int)

    alone = image([17])
    for company in ([3, 17], list(range(40)), [*range(100, 131), 17]):
        assert (image(company) == alone).all()
    assert torch.equal(latents([17], 8)[0], latents([1, 17, 2], 8)[1])


def test_images_by_seed(tmp_path):
    """Reference: `generate` itself. One PNG a seed, named by it."""
    path = make_snapshot(tmp_path)
    output = sample(path, "--seeds", "0-2,40", "--out", tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["seed0000.png", "seed0001.png", "seed0002.png", "seed0040.png"]
    assert "4 images of 16x16" in output
    expected = generate(load_snapshot(path).G, [40], None, 16, None)[0].transpose(1, 2, 0)
    assert np.abs(read(tmp_path / "out" / "seed0040.png") - expected).max() <= 1


def test_run_takes_the_newest_snapshot(tmp_path):
    """Reference: the snapshot file given by name."""
    path = make_snapshot(tmp_path)
    path.with_name("snapshot-000002.000.safetensors").write_bytes(b"older, and not even read")
    sample(tmp_path / "run", "--seeds", 5, "--out", tmp_path / "a")
    sample(path, "--seeds", 5, "--out", tmp_path / "b")
    assert (read(tmp_path / "a" / "seed0005.png") == read(tmp_path / "b" / "seed0005.png")).all()


def test_classes_by_name_and_number(tmp_path):
    """Reference: equal files for the name and the number; other pixels for another class."""
    path = make_snapshot(tmp_path, classes=("cats", "dogs", "owls"))
    sample(path, "--seeds", 1, "--class", "dogs", "--out", tmp_path / "name")
    sample(path, "--seeds", 1, "--class", 1, "--out", tmp_path / "number")
    sample(path, "--seeds", 1, "--class", 2, "--out", tmp_path / "owl")
    name, number, owl = (next((tmp_path / d).iterdir()) for d in ("name", "number", "owl"))
    assert name.name == "seed0001-class-dogs.png"
    assert (read(name) == read(number)).all() and (read(name) != read(owl)).any()


@pytest.mark.parametrize(
    ("names", "choice", "index"),
    [
        (("1", "2", "3"), "1", 0),
        (("1", "2", "3"), 3, 2),
        (("0", "1", "7"), np.int64(7), 2),
        (("1", "01"), "01", 1),
        (("1", "01"), "1", 0),
        (("00", "01"), 1, 1),
        (("1.0", "2.0", "10"), "2", 1),
        (("1", "2", "cat"), "1", 0),
        (("1", "2", "cat"), "0", r"class '0' is unknown.*; classes: 1, 2, cat$"),
        (("1", "2", "cat"), "2.0", 1),
        (("cat", "dog"), 1, 1),
        (("cafe\u0301", "tea"), "caf\u00e9", 0),
        (("cafe\u0301", "caf\u00e9"), "caf\u00e9", 1),
        (("e\u0323\u0301", "\u1eb9\u0301"), "e\u0301\u0323", "is unknown"),  # which of both?
        (("Cat", "dog"), "cat", "class 'cat' is unknown .did you mean 'Cat'"),
        (("1", "2", "3"), 0, r"class '0' is unknown.*; classes: 1, 2, 3$"),
        (("7", "12"), "1", "classes: 7, 12$"),
        (("1", "01"), "001", "class '001' is unknown"),
        (("cat", "dog"), 2, "class '2' is unknown; classes: 0 cat, 1 dog$"),
        (("cat", "dog"), "-1", "is unknown"),
        (("cat", "dog"), "9" * 5000, "is unknown"),
        (("9" * 5000, "8"), "8.0", 1),
        (tuple(map(str, range(1000))), "x", "98, 99, …$"),
    ],
)
def test_names_win_over_numbers(names, choice, index):
    """Reference: by hand. A number is an index only where no name is a number."""
    labels = Labels.each_class(names)
    if isinstance(index, int):
        assert label_indices(choice, labels) == [index]
    else:
        with pytest.raises(UserError, match=index):
            label_indices(choice, labels)


def test_an_attribute_with_a_comma():
    """Reference: the whole text is a name before its parts are."""
    labels = Labels(("a, b", "b", "c"), np.eye(3, dtype=np.uint8))
    assert [label_indices(text, labels) for text in ("a, b", "b, c")] == [[0], [1, 2]]


HOSTILE = [
    "a/b",
    "a:b",
    "A b",
    "a\\b",
    "..",
    "../x",
    "\x1b[31m",
    "é",
    "e\u0301",
    "\udcff",
    "~",
    "a+b",
]
HOSTILE += ["x" * 300, "x" * 299 + "y", "絵" * 200, "cat", "Cat", "con", "x~9", "", "hair_ü.1-2"]


def test_files_carry_the_names_of_classes(tmp_path):
    """Reference: plain names as they are; of all others a file each, also where capitals are not
    told apart, with names that every system takes."""
    parts = for_file_names(HOSTILE)
    assert len({unicodedata.normalize("NFC", part).casefold() for part in parts}) == len(HOSTILE)
    assert all(re.fullmatch(r"[\w.~-]*", part) for part in parts) and parts[-1] == "hair_ü.1-2"
    assert max(len(part.encode()) for part in parts) < 100
    chosen = [joined_for_files(parts[:k]) for k in range(1, 20)]
    assert len(set(chosen)) == 19 and max(len(part.encode()) for part in chosen) <= 160
    path = make_snapshot(tmp_path, classes=("1", "2", "2/3"))
    sample(path, "--seeds", 1, "--out", tmp_path / "out")
    sample(path, "--seeds", 1, "--class", "2", "--out", tmp_path / "out")
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert files == [f"seed0001-class-{name}.png" for name in ("1", "2", "2_3")]


def test_grid_has_a_row_a_class(tmp_path):
    """Reference: cells cut out of the grid, against single images, each class in its own row."""
    path = make_snapshot(tmp_path, classes=("cats", "dogs"))
    sample(path, "--grid", "--seeds", "4-6", "--out", tmp_path)
    picture = read(tmp_path / "grid-000012.500.png")
    left = picture.shape[1] - (3 * 68 + 4)  # the names stand there, printable
    assert picture.shape[0] == 2 * (68 + NOTE) + 4 and 10 < left < 64
    names = picture[:, :left]
    assert (names[4:68] < 100).any() and (names[72 + NOTE : 136 + NOTE] < 100).any()
    for row in range(2):
        for column, seed in enumerate((4, 5, 6)):
            y, x = 4 + (68 + NOTE) * row, left + 4 + 68 * column
            assert (picture[y + 64 : y + 64 + NOTE, x : x + 64] < 100).any(), "the seed"
            cell = picture[y : y + 64 : 4, x : x + 64 : 4]
            image = generate(load_snapshot(path).G, [seed], [row], 16, None)[0].transpose(1, 2, 0)
            assert np.abs(cell - image).max() <= 1
    sample(path, "--grid", "--seeds", "4-5", "--class", "dogs", "--out", tmp_path)
    own = read(tmp_path / "grid-000012.500-class-dogs.png")
    assert own.shape[:2] == (68 + NOTE + 4, left + 2 * 68 + 4)
    assert (own == picture[-len(own) :, : own.shape[1]]).all(), "the row of dogs, with its name"


def test_grid_places_and_zooms():
    """Reference: a loop over pixels; three images in two columns leave a place, which is hatched:
    no image of one colour looks like it. Gaps are white."""
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), np.uint8)
    picture = grid(images, 2)
    assert picture.shape == (1, 140, 140)
    assert all((picture[0, k : k + 4] == 255).all() for k in (0, 68, 136))
    for i in range(3):
        y, x = 4 + 68 * (i // 2), 4 + 68 * (i % 2)
        assert (picture[:, y : y + 64 : 2, x : x + 64 : 2] == images[i]).all()
        assert (picture[:, y + 1 : y + 64 : 2, x + 1 : x + 64 : 2] == images[i]).all()
    assert set(picture[0, 72:136, 72:136].flat) == set(HATCHED)


def test_a_grid_of_many_seeds_begins_a_row_for_each_class():
    """Reference: counted by hand: three images of each of two classes in rows of two."""
    images = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(64, 2).repeat(64, 3)
    picture = grid_of(images, 3, 2, ["a", "b" * 99], 64)[0]
    left = picture.shape[1] - (2 * 68 + 4)
    centres = picture[36::68, left + 36 :: 68].tolist()
    assert [row[0] for row in centres] == [0, 2, 3, 5] and [centres[0][1], centres[2][1]] == [1, 4]
    assert {centres[1][1], centres[3][1]} <= set(HATCHED)
    assert left <= 2.5 * 64 + 8, "a long name is shortened"
    assert [(picture[4 + 68 * k : 68 + 68 * k, :left] < 100).any() for k in range(4)] == [
        1,
        0,
        1,
        0,
    ]


def test_a_name_of_a_million_letters():
    """Reference: the picture's margin for long names, and the limit of letters in a line."""
    names = ("x" * 10**6, "y")
    picture = arrange([[np.zeros((1, 8, 8), np.uint8)]] * 2, 1, 64, captions(names))
    assert picture.shape[2] < 64 + 3 * GAP + LONGEST_NAME * 64
    assert Labels.each_class(names).shown == ["x" * 199 + "…", "y"]


def test_captions_can_be_drawn():
    """Reference: by hand. DejaVu has Latin, Greek and Cyrillic letters, and no Chinese ones."""
    assert captions(["ünï", "кот", "猫", "a\n"]) == ["ünï", "кот", "class 2", "a\\n"]


@pytest.mark.parametrize("name", ["x.png", "x.JPG", "x.webp", "x.tiff"])
def test_out_may_be_one_picture(tmp_path, name):
    """Reference: a picture of the grid's size. What it replaces, it says; several pictures are
    refused, with what to do, and so is a suffix that is not written."""
    path, out = make_snapshot(tmp_path, classes=("cats", "dogs")), tmp_path / name
    arguments = [path, "--seeds", "4-6", "--out", out]
    assert "add --grid to have all in one, or give a folder" in refused(*arguments)
    assert not out.exists()
    assert sample(*arguments, "--grid") == f"6 images of 16x16 in {out}\n"
    assert read(out).shape[0] == 2 * (68 + NOTE) + 4
    assert sample(*arguments, "--grid") == f"6 images of 16x16 in {out} (replaced)\n"
    sample(path, "--seeds", 4, "--class", "cats", "--out", out)
    assert read(out).shape == (16, 16, 3)
    assert "must end in one of .png" in refused(path, "--grid", "--out", tmp_path / "x.svg")


def test_samples_say_what_they_replace(tmp_path):
    """Reference: by hand. Of four seeds two are there, the same or enlarged; a grid of one class is
    another file."""
    path = make_snapshot(tmp_path, classes=("cats", "dogs"))
    one = [path, "--out", tmp_path / "out", "--class", 1]
    assert "replaced" not in sample(*one, "--seeds", "0-3")
    assert sample(*one, "--seeds", "2-5").endswith(" (2 of them there already)\n")
    assert sample(*one, "--seeds", "4-5,5").endswith("out (there already)\n")
    assert sample(*one, "--seeds", "4-6", "--scale", 2).endswith(" (2 files replaced)\n")
    assert " there already, 1 file replaced" in sample(*one, "--seeds", "3-4", "--scale", 2)
    assert "replaced" not in sample(*one, "--grid")
    assert "replaced" not in sample(path, "--out", tmp_path / "out", "--grid")


@pytest.mark.parametrize(("resolution", "count"), [(4, 64), (256, 64), (512, 16), (1024, 4)])
def test_training_grids_stay_readable(resolution, count):
    """Reference: at most 2048 pixels per side."""
    with whole_grids():
        seeds, labels, columns = grid_layout(resolution, None)
    assert len(seeds) == count == columns**2 and labels is None


def test_snapshot_round_trip(tmp_path):
    """Reference: what was saved, tensors bit for bit."""
    path = make_snapshot(tmp_path, classes=("a", "b"), alpha=0.5)
    loaded = load_snapshot(path)
    torch.manual_seed(0)
    G = Generator(**load_config(None, SETTINGS).network.generator_settings(), c_dim=2)
    assert all(torch.equal(t, G.state_dict()[name]) for name, t in loaded.G.state_dict().items())
    assert (loaded.nimg, loaded.resolution, loaded.alpha) == (12500, 16, 0.5)
    assert (loaded.labels.names, loaded.labels.kind) == (("a", "b"), "classes")
    assert loaded.config == load_config(None, SETTINGS)


def test_snapshots_of_the_same_run_have_the_same_bytes(tmp_path):
    """Reference: the same snapshot written by eight writers; safetensors itself orders metadata by
    random hashes."""
    files = [make_snapshot(tmp_path / str(i), classes=("a", "ü")) for i in range(8)]
    assert len({file.read_bytes() for file in files}) == 1


def test_snapshots_of_before_can_be_read(tmp_path):
    """Reference: a file as safetensors writes it, with metadata in any order."""
    path = make_snapshot(tmp_path, classes=("a", "b"), alpha=0.5)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    old = tmp_path / "old.safetensors"
    save_file(load_snapshot(path).G.state_dict(), old, metadata)
    assert load_snapshot(old).alpha == 0.5


def damage(path: Path, kind: str) -> None:
    tensors = {"weight": torch.zeros(2)}
    whole = path.read_bytes()
    if kind == "cut short":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "a pickle":
        torch.save(tensors, path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "of another program":
        save_file(tensors, path)
    elif kind == "with another config":
        config = load_config(None, [*SETTINGS, "network.channel_max=8"]).to_yaml()
        metadata = {"config": config, "progress": "[1, 16, null]", "classes": "[]"}
        save_file(load_snapshot(path).G.state_dict(), path, metadata)
    elif kind == "with broken metadata":
        save_file(tensors, path, {"config": "[", "progress": json.dumps(3), "classes": "{}"})
    elif kind == "a text":
        path.write_text("hello")


@pytest.mark.parametrize(
    "kind",
    [
        "cut short",
        "a pickle",
        "empty",
        "of another program",
        "with another config",
        "with broken metadata",
        "a text",
    ],
)
def test_what_is_no_snapshot_is_refused(tmp_path, kind):
    """Reference: exit code 2 and one message that names the file; no traceback."""
    path = make_snapshot(tmp_path)
    damage(path, kind)
    result = CliRunner().invoke(main, ["sample", str(path)], catch_exceptions=False)
    assert result.exit_code == 2
    assert path.name in result.output and "is not a snapshot" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such run or snapshot: nowhere"),
        (["."], "no snapshots in ."),
        (["{plain}", "--class", "1"], "trained without labels"),
        (["{classes}", "--class", "doggs"], "did you mean 'dogs'"),
        (["{classes}", "--class", "2"], "classes: 0 cats, 1 dogs"),
        (["{plain}", "--seeds", "x"], "ranges like 0-63"),
    ],
)
def test_sample_errors(tmp_path, monkeypatch, arguments, message):
    """Reference: the sentence that says what to do, and exit code 2."""
    files = {
        "plain": make_snapshot(tmp_path / "plain"),
        "classes": make_snapshot(tmp_path / "classes", classes=("cats", "dogs")),
    }
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(**files) for argument in arguments]
    result = CliRunner().invoke(main, ["sample", *filled], catch_exceptions=False)
    assert result.exit_code == 2
    assert message in result.output
