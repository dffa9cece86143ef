"""`progan balance`: the classifier, the estimated shares of labels, the command."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import options
from PIL import Image

from progan.analysis import balance
from progan.analysis.balance import (
    FEWEST_EACH,
    MOST_SENTENCES,
    MOST_SHOWN,
    chart,
    compare_shares,
    figures,
    rows_for,
    sentences,
)
from progan.analysis.classifier import FEWEST, Classifier, Trial, make_network, train
from progan.analysis.shares import class_intervals, class_shares, corrected, interval
from progan.cli.main import main
from progan.config.load import load_config
from progan.data.labels import Labels
from progan.data.pyramid.format import Pyramid
from progan.model.networks import Generator
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import save_snapshot
from progan.runtime.errors import UserError

NAMES = ("Smiling", "Hat", "Noise")
SHARES = (0.67, 0.2, 0.5)


class Painted:
    """Images in memory: each label dimly lights its own place; the last one lights none."""

    title, identity, resolution = "painted", "painted", 8

    def __init__(
        self, labels: np.ndarray, names: tuple[str, ...], channels: int = 3, seed: int = 0
    ):
        self.labels, self.channels = Labels(names, labels), channels
        self.count = len(labels)
        self.images = paint(labels, channels, seed)

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        assert resolution == self.resolution
        return self.images[indices]

    def level(self, resolution: int) -> np.ndarray:
        return self.images

    def close(self) -> None:
        pass


def paint(labels: np.ndarray, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 [n, C, 8, 8] of noise, lit for attributes [n, 3] or classes [n]."""
    images = np.random.default_rng(seed).normal(100, 30, (len(labels), channels, 8, 8))
    lit = labels if labels.ndim == 2 else labels[:, None] == np.arange(3)
    images[:, :, 1:3, 1:6] += 60 * lit[:, 0, None, None, None]
    images[:, :, 5:7, 3:7] += 60 * lit[:, 1, None, None, None]
    return images.clip(0, 255).astype(np.uint8)


def attributes(count: int, shares=SHARES, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, 3)) < shares).astype(np.uint8)


@pytest.fixture(scope="module")
def faces() -> Painted:
    return Painted(attributes(2000), NAMES)


@pytest.fixture(scope="module")
def classifier(faces) -> Classifier:
    return train(faces, 8, shown=6000)


def by_name(rows):
    return {row.name: row for row in rows}


# The classifier ---------------------------------------------------------------------------------


def test_it_learns_what_can_be_seen(classifier, faces):
    """Reference: what was painted: two attributes are visible, the third is not. Shares are of all
    the data; a fifth of it was held out."""
    trial = classifier.trial
    rates = (trial.found / trial.having + trial.spared / trial.lacking) / 2
    assert (rates[:2] > 0.95).all()
    assert abs(rates[2] - 0.5) < 0.08
    np.testing.assert_array_equal(classifier.labels.shares, faces.labels.values.mean(0))
    np.testing.assert_array_equal(trial.having + trial.lacking, [400] * 3)


def test_training_is_the_same_again_and_leaves_global_chance_alone(faces):
    """Reference: another training, bit for bit; and the states of torch's and NumPy's generators
    from before. Another seed gives other weights."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    a, b, c = (train(faces, 8, shown=640, mirror=True, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    weights = [list(t.network.parameters()) for t in (a, b, c)]
    assert all(torch.equal(x, y) for x, y in zip(*weights[:2], strict=True))
    assert not torch.equal(weights[0][0], weights[2][0])
    np.testing.assert_array_equal(a.trial.found, b.trial.found)


def test_mirrored_images_are_learned_only_if_asked_for():
    """Reference: the label is the side that is lit, which nobody can know if half are mirrored."""
    labels = attributes(800)[:, :1]
    images = np.full((800, 1, 8, 8), 60, np.uint8)
    images[labels[:, 0] == 1, :, :, :4] = 200
    images[labels[:, 0] == 0, :, :, 4:] = 200
    data = Painted(attributes(800), NAMES, 1)
    data.images, data.labels = images, Labels(("Left",), labels)
    rates = []
    for mirror in (False, True):
        trial = train(data, 8, shown=2000, mirror=mirror).trial
        rates.append((trial.found / trial.having + trial.spared / trial.lacking)[0] / 2)
    assert rates[0] == 1
    assert rates[1] < 0.9


@pytest.mark.parametrize("resolution", [4, 8, 16, 32, 64])
def test_networks_of_all_resolutions(resolution):
    """Reference: the shape that a dense layer expects, and logits of order one at the start."""
    network = make_network(1, resolution, 5, seed=0)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 1, resolution, resolution)))
    logits = network(images.float())
    assert logits.shape == (8, 5)
    assert 0.1 < logits.std() < 3


def test_finer_images_are_box_averaged(classifier, faces):
    """Reference: the result for the images themselves, enlarged pixel by pixel."""
    images = torch.from_numpy(faces.images[:50])
    large = images.repeat_interleave(4, 2).repeat_interleave(4, 3)
    np.testing.assert_array_equal(classifier.see(large), classifier.see(images))


def test_too_few_images_are_refused():
    """Reference: the limit, and the message."""
    with pytest.raises(UserError, match=f"{FEWEST} or more; this data has {FEWEST - 1}"):
        train(Painted(attributes(FEWEST - 1), NAMES), 8)
    assert len(train(Painted(attributes(FEWEST), NAMES), 8, shown=64).trial.having) == 3


# The estimates ----------------------------------------------------------------------------------


def test_an_amplified_share_is_found(classifier):
    """Reference: the true shares of images painted for it, 84 % where the data has 67 %, and none
    changed elsewhere; the interval holds the difference and excludes 0."""
    labels = attributes(2000, (0.84, 0.2, 0.5), seed=5)
    rows = by_name(compare_shares(classifier, np.array_split(paint(labels, seed=6), 20)))
    row = rows["Smiling"]
    true = labels[:, 0].mean() - row.data
    assert abs(row.estimate.difference - 0.17) < 0.03
    assert 0 < row.estimate.low < true < row.estimate.high
    assert row.verdict == "amplified"
    assert rows["Hat"].verdict == ""
    said = sentences(list(rows.values()))
    assert said[0].startswith(f"Smiling: {100 * row.data:.1f} % of the data, ")
    assert f"({100 * row.estimate.difference:+.1f} points, 95 % interval +" in said[0]


def test_a_lessened_share_is_found(classifier):
    """Reference: the true share of images painted for it."""
    rows = compare_shares(classifier, [paint(attributes(1000, (0.67, 0.1, 0.5), seed=7), seed=8)])
    assert rows[0].name == "Hat"
    assert rows[0].verdict == "lessened"
    found = rows[0].estimate
    assert found.low < found.difference < found.high < 0


def test_like_images_are_not_marked(classifier):
    """Reference: images painted as the data's were; and the sentence that says so."""
    rows = compare_shares(classifier, [paint(attributes(2000, seed=9), seed=10)])
    assert {row.verdict for row in rows} == {"", "cannot tell"}
    assert "No share in the samples differs from the data's beyond chance." in sentences(rows)


def test_what_the_classifier_cannot_see_is_not_told(classifier):
    """Reference: the attribute that is painted nowhere: no estimate, whatever the samples."""
    row = compare_shares(classifier, [paint(attributes(200, seed=9))])[-1]
    assert (row.name, row.verdict) == ("Noise", "cannot tell")
    assert row.estimate is None
    flat = row.to_dict()
    assert flat["samples"] is flat["difference"] is flat["low"] is flat["high"] is None


def test_labels_without_an_estimate_keep_their_order(monkeypatch):
    """Reference: by hand; two are estimated, the larger difference comes first."""
    differences = {"a": None, "b": 0.1, "c": None, "d": -0.3, "e": None}
    rows = [
        SimpleNamespace(name=name, estimate=d and SimpleNamespace(difference=d))
        for name, d in differences.items()
    ]
    monkeypatch.setattr(balance, "rows_for", lambda *_: rows)
    stub = SimpleNamespace(
        labels=SimpleNamespace(names="abcde"), see=lambda x: np.zeros((1, 5), int)
    )
    assert "".join(row.name for row in compare_shares(stub, [np.zeros(1)])) == "dbace"


@pytest.mark.parametrize("channels", [1, 3])
def test_classes(channels):
    """Reference: the true shares of classes painted for it, in colour and in grey; each image is
    seen as exactly one class."""
    draw = np.random.default_rng(2)
    data = Painted(draw.choice(3, 1500, p=(0.5, 0.2, 0.3)), ("a", "b", "c"), channels)
    found = train(data, 8, shown=6000)
    labels = draw.choice(3, 1500, p=(0.7, 0.1, 0.2))
    images = paint(labels, channels, seed=3)
    assert (found.see(torch.from_numpy(images)).sum(1) == 1).all()
    rows = by_name(compare_shares(found, [images]))
    for k, name in enumerate("abc"):
        true = (labels == k).mean() - (data.labels.values == k).mean()
        assert rows[name].estimate.low < true < rows[name].estimate.high
        assert rows[name].verdict == ("amplified" if true > 0 else "lessened")


def test_corrected_by_hand():
    """Reference: Rogan & Gladen by hand: of 1,000 images 600 smile, and a classifier that sees nine
    smiles of ten, and one more in a fifth of the others, sees 540 + 80 = 620."""
    errs = (90, 100, 80, 100)
    assert corrected(620, 1000, *errs) == pytest.approx(0.6)
    assert corrected(5, 100, *errs) == 0
    assert corrected(95, 100, *errs) == 1
    assert corrected(3, 10, 7, 7, 9, 9) == pytest.approx(0.3)


@pytest.mark.parametrize("errs", [(5, 10, 5, 10), (1, 10, 1, 10), (0, 0, 0, 0)])
def test_who_guesses_tells_nothing(errs):
    """Reference: the widest interval, whatever was counted."""
    assert corrected(30, 100, *errs) == 0
    assert interval(30, 100, *errs) == (0, 1)


def test_two_classes_are_one_attribute():
    """Reference: `corrected` and, but for its shift, `interval` of the same counts."""
    confusion, seen = np.array([[360, 40], [90, 510]]), np.array([620, 1380])
    share, rest = class_shares(seen, confusion)
    assert share == pytest.approx(corrected(620, 2000, 360, 400, 510, 600))
    assert share + rest == pytest.approx(1)
    low, high = (ends[0] for ends in class_intervals(seen, confusion))
    assert (low, high) == pytest.approx(interval(620, 2000, 360, 400, 510, 600), abs=2e-3)


CONFUSED = np.array([[0.9, 0.05, 0.05], [0.25, 0.7, 0.05], [0.02, 0.03, 0.95]])


def test_classes_by_hand():
    """Reference: shares 1/3, 0.55, 7/60 of images that are taken for each other as known: the first
    class, which is as frequent as in the data, is seen in 43.98 %, since more of the second, which
    are often taken for it, are there. One class against the rest would find 40.7 %."""
    true = np.array([1 / 3, 0.55, 7 / 60])
    seen = np.rint(300_000 * true @ CONFUSED).astype(int)
    assert seen[0] / 300_000 == pytest.approx(0.43983, abs=1e-5)
    assert class_shares(seen, np.rint(100 * CONFUSED).astype(int)) == pytest.approx(true, abs=1e-5)


def test_classes_that_are_taken_for_each_other():
    """Reference: two classes that look the same have wide intervals, the third one has its own; a
    class without held-out images is no error."""
    twins = np.array([[100, 100, 0], [100, 100, 0], [0, 0, 200]])
    low, high = class_intervals(np.array([500, 500, 1000]), twins)
    assert (high - low)[:2].min() > 0.8 and low[2] < 0.5 < high[2] and high[2] - low[2] < 0.06
    unknown = np.array([[100, 0, 0], [0, 0, 0], [0, 0, 100]])
    share = class_shares(np.array([500, 0, 500]), unknown)
    low, high = class_intervals(np.array([500, 0, 500]), unknown)
    assert np.isfinite([share, low, high]).all()


@pytest.mark.parametrize(
    ("true", "held_out", "count"),
    [((1 / 3, 0.55, 7 / 60), 200, 2000), ((0.6, 0.4, 0), 200, 2000), ((0.1, 0.1, 0.8), 20, 200)],
)
def test_intervals_of_classes_cover(true, held_out, count):
    """Reference: the true share of each class, drawn 1,000 times, is in 95 of 100 intervals
    (of 1,000 draws at least 93 with a probability of 0.998), and in not many more where images are
    many."""
    draw, true = np.random.default_rng(0), np.array(true)
    held = np.zeros(3)
    for _ in range(1000):
        confusion = np.stack([draw.multinomial(held_out, row) for row in CONFUSED])
        low, high = class_intervals(draw.multinomial(count, true @ CONFUSED), confusion)
        held += (low <= true) & (true <= high)
    assert (held / 1000 >= 0.93).all()
    assert (held / 1000 <= 0.98).all() or held_out < 200


def test_a_class_that_has_not_changed_is_not_marked():
    """Reference: the shares that samples are counted by hand from: only the second and third class
    changed, and the first, for which the second is often taken, must not be marked."""
    confusion = np.rint(200 * CONFUSED).astype(int)
    seen = np.rint(2000 * np.array([1 / 3, 0.55, 7 / 60]) @ CONFUSED).astype(int)
    true = np.repeat(np.eye(3, dtype=bool), confusion.sum(1), axis=0)
    taken = np.concatenate([np.repeat(np.eye(3, dtype=bool), row, axis=0) for row in confusion])
    trial = Trial.of(true, taken, exclusive=True)
    np.testing.assert_array_equal(trial.confusion, confusion)
    known = Classifier(None, 8, Labels.each_class(("a", "b", "c")), trial, 0)
    found = [row.verdict for row in rows_for(known, seen, int(seen.sum()))]
    assert found == ["", "amplified", "lessened"]


def test_held_out_images_are_not_learned():
    """Reference: labels that are noise. A classifier that has seen the images knows their labels by
    heart; on others none is right in more than half of the cases."""
    labels = np.random.default_rng(3).integers(0, 2, 300)
    data = Painted(np.zeros((300, 3), np.uint8), ("a", "b"), 1)
    data.labels = Labels(("a", "b"), labels)
    found = train(data, 8, shown=12_000)
    known = (found.see(torch.from_numpy(data.images)).argmax(1) == labels).mean()
    assert known > 0.75, "the others are"
    trial = found.trial
    assert abs((trial.found / trial.having).mean() - 0.5) < 0.17  # 2.6 deviations of 60 images


def test_interval_of_a_perfect_classifier():
    """Reference: with a classifier known not to err, Agresti and Coull's interval of 10 in 100,
    0.0535 … 0.1761, as their paper's formula gives by hand: 11.92 in 103.84."""
    low, high = interval(10, 100, 10**9, 10**9, 10**9, 10**9)
    assert (low, high) == pytest.approx((0.0535, 0.1761), abs=1e-4)


def test_interval_by_hand():
    """Reference: Lang & Reiczigel's formula by hand. 60 of 200, 36 of 40, 48 of 60: p' = 61.9208 /
    203.8416 = 0.303769, Se' = 37/42 = 0.880952, Sp' = 49/62 = 0.790323, slope 0.671275, share
    0.140199; shift 7.6832 (0.140199 * 0.00249703 - 0.859801 * 0.00267279) = -0.014967; variance
    0.00103755 + 0.00004908 + 0.00197588 = 0.00306251; reach 1.96 * 0.0553400 / 0.671275."""
    low, high = interval(60, 200, 36, 40, 48, 60)
    assert high == pytest.approx(0.140199 - 0.014967 + 0.161581, abs=1e-4)
    assert low == 0  # -0.036, which no share is


@pytest.mark.parametrize(("share", "sens", "spec"), [(0.67, 0.95, 0.9), (0.05, 0.7, 0.8)])
def test_intervals_cover(share, sens, spec):
    """Reference: the true share, drawn 1,500 times, is in 95 of 100 intervals (of 1,500 draws
    at least 93 with a probability of 0.999); with rows of samples and held-out reals."""
    draw = np.random.default_rng(0)
    with_label = round(400 * share) + 20
    held = 0
    for _ in range(1500):
        seen = draw.binomial(2000, share * sens + (1 - share) * (1 - spec))
        found = draw.binomial(with_label, sens)
        ends = interval(seen, 2000, found, with_label, draw.binomial(400, spec), 400)
        held += ends[0] <= share <= ends[1]
    assert 0.93 <= held / 1500 <= 0.99


# What is shown ----------------------------------------------------------------------------------


def known(names: tuple[str, ...], having: int = 200) -> Classifier:
    """A classifier that is wrong in a tenth of 400 images; each label is in half of the data."""
    counts = [np.full(len(names), n) for n in (having, having * 9 // 10, 400 - having)]
    trial = Trial(*counts, counts[2] * 9 // 10)  # of attributes
    half = np.array([[0], [1]], np.uint8).repeat(len(names), axis=1)
    return Classifier(None, 8, Labels(names, half), trial, 0)


@pytest.mark.parametrize(("having", "told"), [(FEWEST_EACH - 1, False), (FEWEST_EACH, True)])
def test_rare_labels_are_not_told(having, told):
    """Reference: the limit on held-out images with the label."""
    (row,) = rows_for(known(("rare",), having), np.array([50]), 100)
    assert (row.estimate is not None) == told


def test_a_label_that_no_held_out_image_has():
    """Reference: no error, and no estimate."""
    (row,) = rows_for(known(("never",), 0), np.array([50]), 100)
    assert row.verdict == "cannot tell"


def test_tables_stay_narrow_and_charts_legible(tmp_path):
    """Reference: 100 columns; as many rows as allowed, the largest differences; and pixels: a row
    has as much height among many as among few. Names that are no text, or maths, are drawn."""
    names = tuple(f"a long $name$ \udcff of {k} attributes or so" for k in range(100))
    rows = rows_for(known(names), 1900 - 9 * np.arange(100), 2000)
    lines = figures(rows, "attributes").splitlines()
    assert max(map(len, lines)) < 100
    assert len(lines) == 1 + MOST_SHOWN + 1
    assert lines[-1] == "and 36 more, with smaller differences"
    assert len(sentences(rows)) == MOST_SENTENCES + 3
    heights = []
    for count in (2, 12, 100):
        chart(rows[:count], "title of $x", tmp_path / f"{count}.png")
        with Image.open(tmp_path / f"{count}.png") as image:
            image.load()
            heights.append(image.height)
    assert heights[1] - heights[0] == pytest.approx(10 * 0.42 * 150, abs=2)
    assert heights[2] - heights[0] == pytest.approx(62 * 0.42 * 150, abs=2)


def test_names_neither_tear_the_table_nor_reach_the_terminal(tmp_path):
    """Reference: one line a row, of printable characters only; a chart of any script, without a
    warning, which is an error here."""
    rows = rows_for(known(("a\nb", "\x1b[31mred", "名")), np.array([1, 9, 50]), 100)
    lines = figures(rows, "classes").splitlines()
    assert len(lines) == 4 and all(line.isprintable() for line in lines)
    assert {line.split()[0] for line in lines[1:]} == {"a\\nb", "\\x1b[31mred", "名"}
    chart(rows, "title", tmp_path / "c.png")


@pytest.mark.parametrize(("suffix", "opening"), [(".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_other_formats(tmp_path, suffix, opening):
    """Reference: what such files begin with."""
    chart(rows_for(known(("x",)), np.array([60]), 100), "title", tmp_path / f"c{suffix}")
    assert (tmp_path / f"c{suffix}").read_bytes().startswith(opening)


# The command ------------------------------------------------------------------------------------


def folder_of(path: Path, labels: np.ndarray) -> Path:
    """PNG files, and their attributes in labels.csv."""
    path.mkdir()
    lines = ["file,Smiling,Hat,Noise"]
    for i, (image, row) in enumerate(zip(paint(labels), labels, strict=True)):
        Image.fromarray(image.transpose(1, 2, 0)).save(path / f"{i:03d}.png")
        lines.append(f"{i:03d}.png," + ",".join(map(str, row)))
    (path / "labels.csv").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("data") / "faces", attributes(200))


def snapshot_of(path: Path, data: Path, labels: bool, alpha: float | None = None) -> Path:
    """Snapshot of an untrained generator, of a run on the data."""
    torch.manual_seed(0)
    config = load_config(None, options(data__source=data, data__labels=labels)[1::2])
    known = Labels(NAMES, attributes(8)) if labels else None
    G = Generator(**config.network.generator_settings(), c_dim=len(NAMES) if labels else 0)
    run_dir = path.with_suffix("")
    path = run_dir / "snapshots" / path.name
    save_snapshot(Snapshot(path, G, config, 12500, 8, alpha, known))
    (run_dir / "config.yaml").write_text(config.to_yaml())
    return path


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["balance", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(("labels", "alpha", "r"), [(False, None, 8), (True, 0.5, 4)])
def test_command(pictures, tmp_path, monkeypatch, labels, alpha, r):
    """Reference: a run without labels on data that has some, and one with them; the table's names,
    the JSON against the labels on disk, a PNG under the default name. What fades in is compared a
    level below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("progan.analysis.classifier.EPOCHS", 4)
    snapshot = snapshot_of(tmp_path / "s.safetensors", pictures, labels, alpha)
    printed = run(snapshot, "--num", 100, "--json", "b.json")
    assert f"12.5 kimg; 100 samples compared with 200 images of faces, at {r}x{r}" in printed
    assert "attribute" in printed
    found = json.loads((tmp_path / "b.json").read_text())
    shares = dict(zip(NAMES, attributes(200).mean(0), strict=True))
    assert {row["name"]: row["data"] for row in found["rows"]} == pytest.approx(shares)
    assert (found["samples"], found["held_out"], found["labels"]) == (100, 40, "attributes")
    with Image.open(tmp_path / "balance-of-s.png") as image:
        image.load()
        assert image.format == "PNG"
    assert "drawn in balance-of-s.png" in printed


def test_other_data_and_a_name_of_ones_own(pictures, tmp_path, monkeypatch):
    """Reference: labels of the data given, where the run's own has none; classes from folders."""
    monkeypatch.setattr("progan.analysis.classifier.EPOCHS", 2)
    bare = tmp_path / "bare"
    bare.mkdir()
    sorted_ = tmp_path / "sorted"
    for i, file in enumerate(sorted(pictures.glob("*.png"))[:80]):
        (bare / file.name).write_bytes(file.read_bytes())
        place = sorted_ / ("cats" if i % 2 else "dogs") / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    snapshot = snapshot_of(tmp_path / "s.safetensors", bare, False)
    message = run(snapshot, "--out", tmp_path / "c.svg", code=2)
    assert "lie in no class folder" in message
    assert "here labels are compared: lay the images out as <class>" in message
    assert "data.labels=false" not in message
    printed = run(snapshot, "--data", sorted_, "--num", 100, "--out", tmp_path / "c.svg")
    assert "class " in printed and "cats" in printed and "dogs" in printed
    assert (tmp_path / "c.svg").is_file()


@pytest.mark.parametrize(
    ("command", "fails"),
    [
        ("balance", "progan.analysis.classifier.train"),
        ("neighbours", "progan.analysis.neighbours.by_pixels"),
        ("balance", "progan.metrics.reference_data.check_labels"),
    ],
)
def test_data_is_closed_when_something_fails(pictures, tmp_path, monkeypatch, command, fails):
    """Reference: `close` is called once, after the failure."""
    monkeypatch.chdir(tmp_path)
    snapshot = snapshot_of(tmp_path / "s.safetensors", pictures, True)
    calls = []

    def fail(*_, **__):
        calls.append("failed")
        raise UserError("on purpose")

    monkeypatch.setattr(Pyramid, "close", lambda self: calls.append("closed"))
    monkeypatch.setattr(fails, fail)
    result = CliRunner().invoke(main, [command, str(snapshot)])
    assert (result.exit_code, calls) == (2, ["failed", "closed"]), result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "c.gif"], "--out c.gif must end in one of .png, .svg, .pdf, .jpg"),
        (["--out", "nowhere/c.png"], "--out nowhere/c.png: there is no folder nowhere"),
        (["--json", "nowhere/c.json"], "--json nowhere/c.json: there is no folder nowhere"),
        (["--num", "5"], "5 is not in the range"),
        ([], "no such run or snapshot: s.safetensors"),
    ],
)
def test_mistakes_are_told_before_any_work(tmp_path, monkeypatch, arguments, message):
    """Reference: the sentence, and exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert message in run("s.safetensors", *arguments, code=2)
