"""`progan evaluate`: from snapshots and data to figures; printed, recorded, cached."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from conftest import free_port, options
from fake_inception import FakeInception
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from progan.cli.main import main
from progan.config.load import load_config
from progan.data.decode import Square
from progan.data.labels import Labels
from progan.data.pyramid import prepare
from progan.data.sources.find import find
from progan.metrics import inception
from progan.metrics.evaluate import Evaluation, Stopped
from progan.metrics.inputs import Fakes, Reals
from progan.metrics.measuring import measure
from progan.metrics.metric import Metric
from progan.metrics.msssim import MSSSIM
from progan.metrics.pace import TRIED
from progan.metrics.reference_cache import ReferenceCache
from progan.metrics.swd import SWD
from progan.model.networks import Generator
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot
from progan.runtime.disk import read_lines as read
from progan.runtime.randomness import make_rng

GROWING = {"network__resolution": 16, "schedule__total_kimg": 0.16, "run__tracker": "tensorboard"}
SMALL = ["--metrics", "swd64,msssim32"]
FEATURES = ",fid70,kid64,is64,pr64" if find_spec("torch_fidelity") else ""
ALL = ["--metrics", "swd64,msssim10" + FEATURES]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The message of an evaluation that must end with exit code 2."""
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 2, result.output
    return result.output


def evaluated(folder: Path, *arguments: object) -> list[dict]:
    """Figures in --json of each snapshot."""
    file = folder / "figures.json"
    run("evaluate", *arguments, "--json", file)
    content = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert torch.__version__.startswith(content["versions"]["torch"])
    return content["snapshots"]


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """A run over 4x4, 8x8 and 16x16, with snapshots on the way."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    run("train", "--data", photos, "--run-dir", run_dir, *options(**GROWING))
    return run_dir


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sides(trained, photos) -> tuple[Fakes, Reals]:
    snapshot = load_snapshot(max((trained / "snapshots").iterdir()))
    data = prepare.cached(find(str(photos)), Square(16))
    assert data.count == 24
    return Fakes(snapshot.G, data, 16, None, 16), Reals(data, 16, True, torch.device("cpu"))


def make_snapshot(path: Path, *settings: str, classes=()) -> Path:
    """Snapshot of an untrained generator."""
    words = [word for word in options(network__resolution=16) if word != "-o"]
    config = load_config(None, [*words, *settings])
    torch.manual_seed(0)
    G = Generator(**config.network.generator_settings(), c_dim=len(classes))
    resolution = config.network.resolution
    labels = Labels.each_class(tuple(classes)) if classes else None
    save_snapshot(Snapshot(path, G, config, 12500, resolution, None, labels))
    return path


def test_the_whole_command(trained, sides, tmp_path):
    """Reference: `measure` on the same images; one line in metrics.jsonl and a point of each curve
    in TensorBoard; those of training stay as they were."""
    ignored = shutil.ignore_patterns("evaluated", "metrics.jsonl")  # of other tests
    trained = shutil.copytree(trained, tmp_path / "run", ignore=ignored)
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    (result,) = evaluated(tmp_path, trained, *SMALL)
    fakes, reals = ([side.batch(0, 64)] for side in sides)
    expected = measure(SWD("swd64", 64), reals, fakes)
    expected |= measure(MSSSIM("msssim32", 32), reals, fakes)
    metrics = result["metrics"]
    assert 0 < metrics.pop("swd64_floor") < metrics["swd64"]
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert (result["nimg"], result["resolution"]) == (160, 16)
    assert result["snapshot"] == str(trained / "snapshots" / "snapshot-000000.160.safetensors")
    assert result["data"]["images"] == 24

    (line,) = read(trained / "metrics.jsonl")
    assert line.pop("nimg") == 160
    assert line.pop("evaluated")
    assert line.keys() == {f"Metrics/{name}" for name in [*metrics, "swd64_floor"]}
    assert line["Metrics/swd64"] == metrics["swd64"]
    board = EventAccumulator(str(trained / "evaluated")).Reload()
    assert set(board.Tags()["scalars"]) == line.keys()
    (point,) = board.Scalars("Metrics/swd64")
    assert point.step == 160 and point.value == pytest.approx(metrics["swd64"])
    assert all(path.read_bytes() == content for path, content in before.items())


def test_what_is_told(trained):
    """Reference: the sentence a reader needs: kimg, resolution, data, and what to compare the
    numbers with: the floor, the reals' similarity, that there are only 24 images."""
    output = run("evaluate", trained, *SMALL)
    first, swd, ms_ssim, repeats, halves = output.strip().splitlines()[-5:]
    assert "0.16 kimg, 16x16, compared with 24 images of " in first and "enlarged" not in output
    assert swd.split()[0] == "swd64" and "reals against other reals " in swd and "at 16x16 " in swd
    assert ms_ssim.split()[0] == "msssim32" and "reals themselves " in ms_ssim
    assert repeats == "  (each of the 24 images counts several times in swd64, msssim32)"
    assert halves.startswith("  (the floor of swd64 compares 12 reals with 12 others; with as")
    assert "counts several" not in (few := run("evaluate", trained, "--metrics", "swd12"))
    assert "fewer images" not in few


def test_a_line_an_evaluation(trained):
    """Reference: one line more, the old ones as they were; a torn one is passed over."""
    file = trained / "metrics.jsonl"
    lines = len(read(file))
    run("evaluate", trained, "--metrics", "swd10")
    assert len(read(file)) == lines + 1
    assert read(file)[-1].keys() == {f"Metrics/swd10{x}" for x in ("", "_at_16", "_floor")} | {
        *("nimg", "evaluated")
    }
    with open(file, "a") as torn:
        torn.write('{"nimg": 16')
    assert len(read(file)) == lines + 1
    run("evaluate", trained, "--metrics", "swd10")
    assert len(read(file)) == lines + 2


def test_fakes_by_number(trained, sides):
    """Reference: latents drawn by number, through the generator, to 8 bits; the same images alone
    and in any batch."""
    fakes = sides[0]
    z = np.stack([make_rng(0, "metrics", i).standard_normal(8, dtype=np.float32) for i in range(9)])
    with torch.no_grad():
        images = fakes.G(torch.from_numpy(z), None, resolution=16, alpha=None)
    expected = ((images + 1) * 127.5).round().clamp(0, 255)
    found = torch.cat([fakes.batch(0, 4), fakes.batch(4, 1), fakes.batch(5, 4)])
    assert found.dtype == torch.uint8 and (found - expected).abs().max() <= 1
    assert (found.float() != expected).float().mean() < 0.01


def test_reals_are_each_once(sides):
    """Reference: the data itself: in 24 positions every image once, as it is or mirrored, and the
    same however they are cut into batches; then all of them again."""
    reals = sides[1]
    images = torch.cat([reals.batch(0, 7), reals.batch(7, 17)]).numpy()
    assert (images == reals.batch(0, 24).numpy()).all()
    data = reals.data.read(np.arange(24), 16)
    for epoch in (images, reals.batch(24, 24).numpy()):
        match = [[(x == y).all() or (x == y[..., ::-1]).all() for y in data] for x in epoch]
        assert (np.sum(match, axis=0) == 1).all() and (np.sum(match, axis=1) == 1).all()
    mirrored = sum((x == y[..., ::-1]).all() for x in images for y in data)
    assert 4 < mirrored < 20


def test_half_of_the_reals_against_the_other(sides, empty_cache):
    """Reference: SWD between positions 0 … 11 and 12 … 23. The second time it is read."""
    reals = sides[1]
    kept = ReferenceCache(None, reals.data, 16, True)
    evaluation, metric = Evaluation(reals, Accelerator(cpu=True), kept), SWD("swd64", 64)
    floor = evaluation.noise_floor(metric)
    halves = [[reals.batch(0, 12)], [reals.batch(12, 12)]]
    expected = measure(SWD("m", 12), *halves)["m"]
    assert floor == {"swd64_floor": pytest.approx(expected, rel=1e-6)}
    assert evaluation.noise_floor(metric) == floor
    kept.save("swd64_floor", {"floor": np.array(7.0)})
    assert evaluation.noise_floor(metric) == {"swd64_floor": 7.0}


@dataclass(frozen=True)
class Identified:
    """Data reduced to the fields that `ReferenceCache` reads."""

    title: str = "photos"
    identity: str = "checksum"
    channels: int = 3


def test_what_is_kept_belongs_to_one_side_only(tmp_path, monkeypatch):
    """Reference: all that the reals' side of a metric depends on, each changed by itself, has a
    folder of its own; what is the same, the same. The way data were made counts, too."""
    cache, data = tmp_path, Identified()
    folders = [
        ReferenceCache(cache, data, 16, True).folder,
        ReferenceCache(cache, replace(data, identity="other"), 16, True).folder,
        ReferenceCache(cache, replace(data, channels=1), 16, True).folder,
        ReferenceCache(cache, data, 32, True).folder,
        ReferenceCache(cache, data, 16, False).folder,
    ]
    monkeypatch.setattr("progan.metrics.reference_cache.VERSION", 10**6)
    folders.append(ReferenceCache(cache, data, 16, True).folder)
    assert len(set(folders)) == len(folders)
    assert ReferenceCache(cache, data, 16, True).folder == folders[-1]


def test_pyramids_made_otherwise_are_kept_apart(tmp_path):
    """Reference: two squares of the same images, which differ above 4x4 at most: here nowhere."""
    (tmp_path / "images").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    made = []
    for fit in ("crop", "pad"):
        source = find(str(tmp_path / "images"))
        made.append(prepare.prepare(source, tmp_path / fit, Square(16, fit=fit)))
    assert made[0].identity == made[1].identity
    folders = [ReferenceCache(tmp_path, pyramid, 16, True).folder for pyramid in made]
    assert len({folder.name[-16:] for folder in folders}) == 2, "whatever they are called"


def test_nothing_kept_is_executed(tmp_path):
    """Reference: an array of objects, which NumPy would unpickle if asked to, counts as not
    there."""
    kept = ReferenceCache(tmp_path, Identified(), 16, True)
    kept.save("good", {"mean": np.zeros(3)})
    np.savez(kept.folder / "bad.npz", mean=np.array([{"a": 1}], dtype=object))
    assert kept.load("good")["mean"].tolist() == [0, 0, 0] and kept.load("bad") is None


class Precise(Metric):
    """Asserts that matrix products are computed in whole singles."""

    def __init__(self):
        super().__init__("precise", fakes=4, reals=4)

    def add(self, side, images, first):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"

    def result(self, gather=None, bar=None):
        self.add("", None, 0)
        return {"precise": 1.0}


@pytest.fixture
def tf32():
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


def test_metrics_are_computed_in_whole_singles(sides, tf32):
    """Reference: torch's setting, which a process may have at tf32, as some containers do: SWD and
    MS-SSIM subtract what is nearly equal."""
    images = [side.batch(0, 4) for side in sides]
    assert measure(Precise(), images[:1], images[1:]) == {"precise": 1.0}
    kept = ReferenceCache(None, sides[1].data, 16, True)
    evaluation = Evaluation(sides[1], Accelerator(cpu=True), kept)
    assert evaluation.measure([Precise()], sides[0]) == {"precise": 1.0}
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


class Counting(Metric):
    """Records what it receives."""

    def __init__(self, fakes, reals, repeats):
        super().__init__("counting", fakes=fakes, reals=reals)
        self.repeats, self.seen = repeats, []

    def add(self, side, images, first):
        self.seen += [(side, first + i) for i in range(len(images))]

    def result(self, gather=None, bar=None):
        return {}


@pytest.mark.parametrize(
    "reals, repeats, wanted",
    [
        (30, True, 30),
        (30, False, 24),
        (10, False, 10),
        (None, True, 24),
        (None, False, 24),
        (0, True, 0),
    ],
)
def test_how_many_images_a_metric_sees(sides, reals, repeats, wanted):
    """Reference: the numbers written out, each position once, and a metric that needs more.

    24 images are all that there are: metrics of features, which duplicates would falsify, see no
    more than that.
    """
    metric, other = Counting(20, reals, repeats), Counting(50, 50, True)
    kept = ReferenceCache(None, sides[1].data, 16, True)
    evaluation = Evaluation(sides[1], Accelerator(cpu=True), kept)
    for side, batches in zip(("fakes", "reals"), sides, strict=True):
        evaluation.feed([metric, other], side, batches, side)
    assert [n for side, n in metric.seen if side == "reals"] == list(range(wanted))
    assert [n for side, n in metric.seen if side == "fakes"] == list(range(20))
    assert len(other.seen) == 100


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "gone":
        path.unlink()
    elif kind == "flipped":
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    elif kind == "encrypted":  # says the archive's table
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
    else:
        path.write_bytes({"empty": b"", "text": b"no archive", "cut": content[:-40]}[kind])


def test_the_reals_are_looked_at_once(trained, tmp_path, empty_cache, monkeypatch):
    """Reference: equal figures, bit for bit, while the cached files keep their times and MS-SSIM
    sees no reals again; damaged files, whatever the damage, are made again."""
    monkeypatch.setattr(inception, "Inception", FakeInception)
    (first,) = evaluated(tmp_path, trained, *ALL)
    files = {p: p.stat().st_mtime_ns for p in (empty_cache / "metrics").rglob("*.npz")}
    stems = sorted(p.stem for p in files)
    of_features = ["features64-00000000", "moments-00000000"] if FEATURES else []
    assert stems == [*of_features, "msssim10", "swd64_floor"]
    seen = []
    whole = Reals.batch
    monkeypatch.setattr(
        Reals, "batch", lambda self, *a: seen.append(a) or whole(self, *a), raising=True
    )
    assert evaluated(tmp_path, trained, *ALL) == [first]
    assert sum(count for _, count in seen) == 64 + TRIED  # those of SWD; to predict the time
    assert {p: p.stat().st_mtime_ns for p in files} == files
    for damages in (("empty", "cut", "flipped", "encrypted"), ("text", "gone", "cut", "flipped")):
        for path, kind in zip(files, damages, strict=bool(FEATURES)):
            damage(path, kind)
        assert evaluated(tmp_path, trained, *ALL) == [first]
        assert all(path.stat().st_mtime_ns > then for path, then in files.items())


def test_what_cannot_be_kept_is_no_failure(trained, tmp_path, monkeypatch, caplog):
    """Reference: the figures, and a warning that says what was not written. (The folder's place is
    taken by a file.)"""
    (first,) = evaluated(tmp_path, trained, *SMALL)
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setattr("progan.metrics.reference_cache.cache_folder", lambda cache: blocked)
    assert evaluated(tmp_path, trained, *SMALL) == [first]
    assert "it will be computed again next time" in caplog.text


def test_a_file_outside_a_run(trained, photos, tmp_path):
    """Reference: every file before and after: only the one of --json is new. Not even a folder
    named snapshots makes a run."""
    file = tmp_path / "snapshots" / "best.safetensors"
    file.parent.mkdir()
    shutil.copy(max((trained / "snapshots").iterdir()), file)
    assert "is not in a run's folder" in refused(file, *SMALL)
    (result,) = evaluated(tmp_path, file, *SMALL, "--data", photos)
    assert result["snapshot"] == str(file)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == {file, tmp_path / "figures.json"}


def test_a_stranger_s_file_chooses_no_places(photos, tmp_path):
    """Reference: the folders that its config names for the cache and the data; neither is
    created."""
    places = [f"data.cache={tmp_path}/theirs", f"data.root={tmp_path}/too", "data.workers=999"]
    file = make_snapshot(tmp_path / "a.safetensors", *places)
    evaluated(tmp_path, file, *SMALL, "--data", photos)
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors", "figures.json"}


def test_a_file_named_from_within_its_run(trained, monkeypatch):
    """Reference: metrics.jsonl of the run, one line more, though the path has no folder in it."""
    lines = len(read(trained / "metrics.jsonl"))
    monkeypatch.chdir(trained / "snapshots")
    run("evaluate", "snapshot-000000.160.safetensors", "--metrics", "swd10")
    assert len(read(trained / "metrics.jsonl")) == lines + 1


def test_several_snapshots_on_the_way(trained, tmp_path):
    """Reference: fading and lower resolutions, written out as enlarged, one of each kind; each
    snapshot has its own figures; an untrained generator is worse than the reals' floor."""
    every = map(load_snapshot, sorted((trained / "snapshots").iterdir()))
    reached = list({(s.resolution, s.alpha is None): s for s in every}.values())
    files = [s.file for s in reached]
    results = evaluated(tmp_path, *files, *SMALL)
    assert [Path(r["snapshot"]) for r in results] == files
    assert {s.resolution for s in reached} >= {8, 16} and any(s.alpha is not None for s in reached)
    assert [r["resolution"] for r in results] == [s.resolution for s in reached]
    values = [r["metrics"]["swd64"] for r in results]
    assert len(set(values)) == len(values) and np.isfinite(values).all()
    (floor,) = {r["metrics"]["swd64_floor"] for r in results}
    assert values[0] > 2 * floor


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_smaller_images_are_enlarged(sides, alpha):
    """Reference: the generator's own 8x8 images, each pixel as a block of 2x2."""
    full = sides[0]
    fakes = Fakes(full.G, full.data, 8, alpha, 16).batch(3, 5).numpy()
    small = Fakes(full.G, full.data, 8, alpha, 8).batch(3, 5).numpy()
    assert fakes.shape == (5, 3, 16, 16) and small.shape == (5, 3, 8, 8)
    assert (fakes == np.kron(small, np.ones((2, 2), np.uint8))).all()
    if alpha is not None:
        assert (small != Fakes(full.G, full.data, 8, None, 8).batch(3, 5).numpy()).any()


def test_another_data_set(trained, tmp_path):
    """Reference: black images, from which every generator is farther than from its own data; the
    data named, what is kept of both apart, and only its own recorded in the run."""
    for i in range(30):
        path = tmp_path / "dark" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 3, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (own,) = evaluated(tmp_path, trained, *SMALL)
    before = (trained / "metrics.jsonl").read_bytes()
    (other,) = evaluated(tmp_path, trained, *SMALL, "--data", tmp_path / "dark")
    assert (trained / "metrics.jsonl").read_bytes() == before
    said = run("evaluate", trained, *SMALL, "--data", tmp_path / "dark")
    assert "(not recorded in the run, which was not trained on these images)" in said
    assert other["data"]["images"] == 30
    assert other["data"]["identity"] != own["data"]["identity"]
    assert other["metrics"]["msssim32"] == own["metrics"]["msssim32"]
    for name in ("swd64", "swd64_floor", "msssim32_reals"):
        assert other["metrics"][name] != own["metrics"][name]
    assert evaluated(tmp_path, trained, *SMALL)[0] == own


def test_data_that_changed_and_data_that_moved(photos, tmp_path, any_end):
    """Reference: their checksum. Results on other images are marked and not recorded; those on the
    same images elsewhere are recorded."""
    images = shutil.copytree(photos, tmp_path / "images")
    run_dir = tmp_path / "run"
    run("train", "--data", images, "--run-dir", run_dir, *options(network__resolution=16))
    lost = min(images.rglob("*.png"))
    lost.rename(tmp_path / "lost.png")
    said = run("evaluate", run_dir, "--metrics", "swd12")
    assert "warning: these 23 images are not those that it was trained on" in said
    assert "(not recorded" in said and not (run_dir / "metrics.jsonl").exists()
    shutil.rmtree(images)
    said = run("evaluate", run_dir, "--metrics", "swd12", "--data", photos)
    assert "warning" not in said and "(not recorded" not in said
    assert len(read(run_dir / "metrics.jsonl")) == 1


@pytest.mark.parametrize("directions", [64, 24])
def test_comparing_shows_how_far_it_is_and_ends_when_asked(sides, monkeypatch, directions):
    """Reference: the directions of the one level that 16x16 has, counted; a stop among them."""
    monkeypatch.setattr("progan.metrics.swd.AT_ONCE", directions)
    told = []

    @contextmanager
    def bar(title, total, done, say, unit="images"):
        counts = []
        told.append((title, total, unit, counts))
        yield counts.append

    monkeypatch.setattr("progan.metrics.evaluate.progress_bar", bar)
    kept = ReferenceCache(None, sides[1].data, 16, True)
    evaluation = Evaluation(sides[1], Accelerator(cpu=True), kept)
    expected = evaluation.measure([SWD("swd20", 20)], sides[0])
    title, total, unit, counts = told[-1]
    assert (title, total, unit) == ("swd20, comparing", 512, "directions")
    assert sum(counts) == 512 and max(counts) == directions
    asked = []
    stopping = Evaluation(
        sides[1], Accelerator(cpu=True), kept, stopped=lambda: asked.append(1) or len(asked) > 5
    )
    with pytest.raises(Stopped):
        stopping.measure([SWD("swd20", 20)], sides[0])
    assert 0 < sum(told[-1][3]) < 512
    assert evaluation.measure([SWD("swd20", 20)], sides[0]) == pytest.approx(expected, rel=1e-12)


def test_with_labels(photos, tmp_path):
    """Reference: labels drawn from the data's, so a third of dogs as there; the same in any batch.
    Without its data's labels a generator of classes is not compared."""
    file = make_snapshot(tmp_path / "c.safetensors", classes=("cats", "dogs"))
    (result,) = evaluated(tmp_path, file, *SMALL, "--data", photos)
    assert np.isfinite(list(result["metrics"].values())).all()
    data = prepare.cached(find(str(photos), labels=True), Square(16))
    asked = []

    def see(module, inputs):
        asked.extend(inputs[1].argmax(dim=1).tolist())

    G = load_snapshot(file).G
    G.register_forward_pre_hook(see)
    whole = Fakes(G, data, 16, None, 16).batch(0, 400)
    assert 90 < sum(asked) < 180 and set(asked) == {0, 1}
    assert torch.equal(Fakes(G, data, 16, None, 16).batch(7, 3), whole[7:10])
    expected = []
    for i in range(400):
        draw = make_rng(0, "metrics", i)
        draw.standard_normal(8, dtype=np.float32)
        expected.append(data.labels.values[draw.integers(24)])
    assert asked[:400] == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{run}", "--metrics", "fod50k"], "did you mean 'fid50k'"),
        (["{run}", "--metrics", "swd5"], "10 to 1,000,000"),
        (["{run}", "--num", "5"], "5 is not in the range 10<=x<=1000000"),
        (["{run}", "--json", "{tmp}/no/where.json"], "there is no folder"),
        (["{run}", "--json", "{tmp}"], "is a folder"),
        (["{run}", "--data", "{tmp}/nothing"], "nothing"),
        (["{run}", "--metrics", "fid10", "--inception", "{tmp}/no.pth"], "no.pth"),
        (["{tmp}/nowhere"], "no such run or snapshot"),
        (["{tmp}"], "no snapshots in"),
        ([], "Missing argument"),
    ],
)
def test_mistakes(trained, tmp_path, arguments, message):
    """Reference: the sentence that says what to do, exit code 2, and nothing recorded."""
    if "fid10" in arguments:
        pytest.importorskip("torch_fidelity")
    lines = (trained / "metrics.jsonl").exists() and read(trained / "metrics.jsonl")
    output = refused(*[a.format(run=trained, tmp=tmp_path) for a in arguments])
    assert message in output and "Traceback" not in output
    assert ((trained / "metrics.jsonl").exists() and read(trained / "metrics.jsonl")) == lines


def test_snapshots_that_cannot_be_compared(photos, tmp_path):
    """Reference: each reason named: networks of 8x8, other labels, no data, data that is gone."""
    small = make_snapshot(tmp_path / "a.safetensors", "network.resolution=8")
    assert "network.resolution is 8" in refused(small, *SMALL, "--data", photos)
    other = make_snapshot(tmp_path / "b.safetensors", classes=("owls", "dogs"))
    message = refused(other, *SMALL, "--data", photos)
    assert "(cats, dogs)" in message and "(owls, dogs)" in message and "--data" in message
    nameless = make_snapshot(tmp_path / "c.safetensors")
    assert "give --data" in refused(nameless, *SMALL)
    gone = tmp_path / "run" / "snapshots" / "snapshot-000012.500.safetensors"
    make_snapshot(gone)
    (tmp_path / "run" / "config.yaml").write_text(f"data: {{source: {tmp_path}/gone}}")
    assert "gone, is not there; if it has moved, give --data" in refused(gone, *SMALL)
    unlabelled = tmp_path / "unlabelled"
    shutil.copytree(photos / "cats", unlabelled)
    named = make_snapshot(tmp_path / "e.safetensors", classes=("cats", "dogs"))
    message = refused(named, *SMALL, "--data", unlabelled)
    assert "put a labels.csv next to them" in message and "data.labels=false" not in message


def test_data_of_a_few_images(tmp_path):
    """Reference: no floor where there are no two halves, and no message about processes; the
    figures are there. Precision and recall say what they need."""
    for i in range(3):
        (tmp_path / "few").mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "few" / f"{i}.png")
    file = make_snapshot(tmp_path / "a.safetensors")
    (result,) = evaluated(tmp_path, file, "--metrics", "swd10", "--data", tmp_path / "few")
    assert result["metrics"].keys() == {"swd10", "swd10_at_16"}


@pytest.mark.slow
def test_processes_equal_one(trained, tmp_path, monkeypatch):
    """Reference: one process, every figure to a part in a million. Twice in a row: what was kept
    the first time, all of the reals, counts once, not once a process. Batches are of ten images
    there, of twenty here, so features arrive in another order."""
    monkeypatch.setattr(inception, "Inception", FakeInception)
    file = max((trained / "snapshots").iterdir())
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "one"))
    one = evaluated(tmp_path, file, file, *ALL)
    assert one[0] == one[1]
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    words += ["--master_port", str(free_port()), Path(__file__).with_name("fake_inception.py")]
    words += ["evaluate", file, file, *ALL, "--json", tmp_path / "two.json"]
    environment = os.environ | {"PROGAN_CACHE": str(tmp_path / "two")}
    result = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240)
    assert result.returncode == 0, result.stderr
    two = json.loads((tmp_path / "two.json").read_text())["snapshots"]
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["metrics"] == pytest.approx(ours["metrics"], rel=1e-6, abs=1e-6)
