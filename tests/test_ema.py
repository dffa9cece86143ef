"""Averages: each kind in closed form, power averages of other lengths, their files and command."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from conftest import assert_identical, options
from test_train import state, stop_after, train

from progan.cli.main import main
from progan.config.load import load_config
from progan.runs import averages
from progan.runs.averages import find_averages, save_averages, uses
from progan.runs.profiles import combination, exponent, inner_products
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load
from progan.runtime.errors import UserError
from progan.training.build import make_networks
from progan.training.ema import Average, EqualWeights, HalfLife, Power

TINY = {
    "network.resolution": 8,
    "network.z_dim": 2,
    "network.channel_base": 8,
    "network.channel_max": 2,
    "schedule.stable_kimg": 0.4,
    "schedule.fade_kimg": 0.2,
    "schedule.total_kimg": 2.4,
    "schedule.batch_size": {4: 8, 8: 4},
    "ema.kind": "power",
}
LENGTHS = [0.05, 0.1, 0.03, 0.07, 0.15, 0.2]  # the first two are kept


class Walk:
    """A run of the tiny network whose weights walk at random, and averages that follow it.

    Args:
        keep: called after each update, with images shown.
    """

    def __init__(self, kinds, keep=lambda walk, nimg: None, dtype=torch.float64, **changes):
        self.config = load_config(None, TINY | changes)
        self.schedule = self.config.make_schedule()
        self.G = make_networks(self.config, 0, "cpu")[0].to(dtype)
        self.average = Average(self.G, kinds, self.schedule)
        self.path: dict[str, list[torch.Tensor]] = {}  # of each weight, from its first use on
        self.ends: dict[str, list[int]] = {}  # images shown with each of these updates
        draw, nimg = torch.Generator().manual_seed(0), 0
        while nimg < self.schedule.total_nimg:
            phase = self.schedule.at(nimg)
            named = self.G.active_parameters(phase.resolution, phase.fading)
            self.average.begin(named)
            before, nimg = nimg, nimg + phase.batch_size
            for name, weight in named.items():
                step = torch.randn(weight.shape, generator=draw, dtype=dtype)
                weight.data += 0.05 * step
                self.path.setdefault(name, []).append(weight.detach().clone())
                self.ends.setdefault(name, []).append(nimg)
            self.average.update(before, nimg)
            keep(self, nimg)

    def expected(self, name: str, shares: np.ndarray) -> torch.Tensor:
        """The sum of a weight's values by shares."""
        path = torch.stack(self.path[name])
        return (path * torch.from_numpy(shares).view(-1, *[1] * (path.ndim - 1))).sum(dim=0)


def power_shares(ends, start, length):
    """The profile's integral over each update's images, from the weight's first use on."""
    g, edges = exponent(length), np.array([start, *ends], float)
    return np.diff((edges / ends[-1]) ** (g + 1)) / (1 - (start / ends[-1]) ** (g + 1))


def equal_shares(ends, start, first, every):
    """One for each time that the images shown pass `first` + k `every`; else only the newest."""
    taken = np.array([sum(start < first + k * every <= t for k in range(1000)) for t in ends])
    counts = np.diff(taken, prepend=0)
    return counts / counts.sum() if taken[-1] else np.eye(len(ends))[-1]


def half_life_shares(ends, start, most, rampup):
    """Each update's share times what later ones keep, with their half-lives by the rule; the rest
    is of the first weights, which `test_each_kind_in_closed_form` adds."""
    edges = [start, *ends]
    kept = [
        0.5 ** ((b - a) / half) if (half := min(most, rampup * a)) else 0.0
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    return np.array([(1 - k) * np.prod(kept[i + 1 :]) for i, k in enumerate(kept)])


CLOSED = {
    "power": (Power(0.1), lambda ends, start: power_shares(ends, start, 0.1)),
    "short power": (Power(0.01), lambda ends, start: power_shares(ends, start, 0.01)),
    "swa": (EqualWeights(0.5, 0.05), lambda e, s: equal_shares(e, s, 500, 50)),
    "swa, before some blocks": (EqualWeights(0.1, 0.05), lambda e, s: equal_shares(e, s, 100, 50)),
    "swa, each update": (EqualWeights(1.9, 0.001), lambda e, s: equal_shares(e, s, 1900, 1)),
    "half-life": (HalfLife(lambda _: 0.1, 0.05), lambda e, s: half_life_shares(e, s, 100, 0.05)),
}


@pytest.mark.parametrize("kind", CLOSED)
def test_each_kind_in_closed_form(kind):
    """Reference: sums over all updates of a run that grows. Power: the profile's integral over the
    images of each (Karras et al. 2024, Sec. 3.1). SWA: Izmailov et al. 2018, Alg. 1. Half-life:
    what each update leaves of those before. Weights count from their first use on, so a block that
    was grown late has no share of its initial weights; half-life's rule knows no start."""
    rule, shares = CLOSED[kind]
    walk = Walk([rule])
    initial = make_networks(walk.config, 0, "cpu")[0].double().state_dict()
    found, use = walk.average.networks[0].state_dict(), uses(walk.G, walk.schedule)
    for name, ends in walk.ends.items():
        share = shares(ends, use[name][0])
        left = (1 - share.sum()) * initial[name]
        torch.testing.assert_close(found[name], walk.expected(name, share) + left, msg=name)
    if kind != "half-life":
        assert abs(share.sum() - 1) < 1e-9
    unused = initial.keys() - walk.path.keys()
    assert all(torch.equal(found[name], initial[name]) for name in unused)


def test_exponent_of_a_length():
    """Reference: the profile's standard deviation as a sum over small pieces of it; and the values
    in the paper."""
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    t = (np.arange(100_000) + 0.5) / 100_000
    for length in (0.01, 0.05, 0.15, 0.25):
        weight = t ** exponent(length)
        mean = np.average(t, weights=weight)
        spread = np.average((t - mean) ** 2, weights=weight) ** 0.5
        assert spread == pytest.approx(length, rel=1e-4)


@pytest.mark.parametrize("start", [0, 300, 890])
def test_combination_of_profiles(start):
    """Reference: profiles on a fine grid; inner products as sums over it, and `lstsq` of the
    profiles themselves with factors that add up to 1. A kept length is found as it is."""
    t = start + (np.arange(40_000) + 0.5) / 40_000 * (1000 - start)
    ends, lengths = [900, 960, 1000], (0.05, 0.1)

    def profile(end, length):
        shape = np.where(t < end, (t / end) ** exponent(length), 0)
        return shape / shape.mean() / (1000 - start)

    all_of = [(end, length) for end in ends for length in lengths]
    kept, wanted = np.stack([profile(*one) for one in all_of], axis=1), profile(1000, 0.07)
    products = kept.T @ kept * (1000 - start) / len(t)
    ours = [
        inner_products(np.array(float(e)), np.array(exponent(a)), f, exponent(b), start)
        for e, a in all_of
        for f, b in all_of
    ]
    np.testing.assert_allclose(ours, products.ravel(), rtol=2e-3)
    factors, missed = combination(ends, lengths, 1000, 0.07, start)
    assert factors.sum() == pytest.approx(1, abs=1e-12)
    by_hand = np.linalg.lstsq(kept, wanted, rcond=None)[0]
    np.testing.assert_allclose(factors.ravel(), by_hand, atol=0.02)
    error = np.linalg.norm(kept @ factors.ravel() - wanted) / np.linalg.norm(wanted)
    assert missed == pytest.approx(error, abs=2e-3)
    for i, length in enumerate(lengths):
        factors, missed = combination(ends, lengths, 1000, length, start)
        np.testing.assert_allclose(factors, np.eye(2)[[i]] * [[0], [0], [1]], atol=1e-6)
        assert missed < 1e-6


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory):
    """A walk whose run keeps two averages in files, and more lengths tracked directly beside it."""
    run_dir = tmp_path_factory.mktemp("run")

    def keep(walk, nimg):
        ends = nimg in [phase.end_nimg for phase in walk.schedule.phases]
        if ends or averages.is_due(run_dir, nimg):
            path, reached = averages.averages_path(run_dir, nimg), walk.schedule.reached(nimg)
            networks = walk.average.networks
            save_averages(Snapshot(path, networks[0], walk.config, nimg, *reached), networks[:2])

    walk = Walk([Power(length) for length in LENGTHS], keep, dtype=torch.float32)
    (run_dir / "config.yaml").write_text(walk.config.to_yaml())
    return run_dir, walk


@pytest.mark.parametrize(
    "i, length",
    [  # not slow: one that is kept, and one below, between and above those
        pytest.param(i, length, marks=[pytest.mark.slow] if length in (0.1, 0.15) else [])
        for i, length in enumerate(LENGTHS)
    ],
)
def test_other_lengths_equal_those_tracked(kept_run, i, length):
    """Reference: the average of exactly that length, tracked directly. What a profile misses times
    how far the weights have walked bounds the difference (Cauchy and Schwarz), beside the half
    precision of files. Holds for blocks grown at any time, and for layers no longer in use."""
    run_dir, walk = kept_run
    kept = find_averages(run_dir)
    snapshot, missed = kept.snapshot(length)
    assert (snapshot.length, snapshot.nimg) == (length, walk.schedule.total_nimg)
    assert missed < 0.05
    tracked, made = (net.state_dict() for net in (walk.average.networks[i], snapshot.G))
    use = uses(walk.G, walk.schedule)
    for name, ends in walk.ends.items():
        start, end = use[name]
        factors, share = kept.factors(start, end, length)
        path = torch.stack(walk.path[name])
        images = torch.tensor(np.diff([start, *ends])).view(-1, *[1] * (path.ndim - 1))
        walked = ((path - path[-1]).square() * images).sum(dim=0).sqrt()
        g = np.array(exponent(length))
        norm = inner_products(np.array(float(end)), g, end, float(g), start) ** 0.5
        rounding = sum(abs(x) for pair in factors.values() for x in pair) * 2**-11
        bound = share * norm * walked + rounding * path.abs().amax(dim=0) + 1e-6
        assert ((made[name] - tracked[name]).abs() <= bound).all(), name
    for name in tracked.keys() - walk.ends.keys():
        torch.testing.assert_close(made[name], tracked[name], rtol=2**-10, atol=1e-6)


def test_a_layer_that_is_out_of_use_needs_no_file_of_its_end(kept_run, tmp_path):
    """Reference: the profile itself. The layer's average has stayed as it was, so the next file has
    it, if that of the end is lost."""
    run_dir, walk = kept_run
    start, end = uses(walk.G, walk.schedule)["image_layers.4.weight"]
    (tmp_path / "averages").mkdir()
    (tmp_path / "config.yaml").write_bytes((run_dir / "config.yaml").read_bytes())
    for path in averages.average_files(run_dir):
        if path != averages.averages_path(run_dir, end):
            (tmp_path / "averages" / path.name).write_bytes(path.read_bytes())
    kept = find_averages(tmp_path)
    assert end < walk.schedule.total_nimg and end not in kept.files
    factors, missed = kept.factors(start, end, LENGTHS[0])
    later = min(nimg for nimg in kept.files if nimg > end)
    assert factors[later] == pytest.approx((1, 0), abs=1e-6) and missed < 1e-6


def test_a_damaged_file_is_left_out(kept_run, tmp_path, caplog):
    """Reference: what the other files give. A damaged one is named, and one of another run."""
    run_dir, _ = kept_run
    for path in averages.average_files(run_dir):
        (tmp_path / "averages").mkdir(exist_ok=True)
        (tmp_path / "averages" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.yaml").write_bytes((run_dir / "config.yaml").read_bytes())
    files = averages.average_files(tmp_path)
    whole = len(files)
    content = bytearray(files[-3].read_bytes())
    content[-1] ^= 1
    files[-3].write_bytes(content)
    files[-4].unlink()
    (tmp_path / "averages" / "averages-mine.safetensors").write_text("mine")
    kept = find_averages(tmp_path)
    assert f"{files[-3]} holds no averages of progan (its checksum is wrong" in caplog.text
    assert len(kept.files) == whole - 2
    assert kept.snapshot(0.07)[1] < 0.05
    for path in files:
        path.unlink(missing_ok=True)
    with pytest.raises(UserError, match="-o ema.kind=power"):
        find_averages(tmp_path)


# Runs ------------------------------------------------------------------------------------------

ONLY = {"ema__half_life_kimg": "null"}  # which the tiny config has
RUNS = {
    "power": ONLY | {"ema__kind": "power"},
    "swa": ONLY | {"ema__kind": "swa", "ema__swa_start_kimg": 0.02, "ema__swa_every_kimg": 0.02},
    "half_life": {"ema__rampup": 0.8, "ema__half_life_kimg": "{start: 0, end: 0.05, over: run}"},
}


def invoke(*words: object) -> str:
    result = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", RUNS)
def test_resume_is_exact(photos, tmp_path, monkeypatch, kind):
    """Reference: the run in one go, bit for bit, its files of averages included. The stop is in
    mid-fade, after a file that the run writes again."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    output = train(photos, whole, **RUNS[kind])
    assert ("at most 60 files of" in output) == (kind == "power")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        train(photos, stopped, **RUNS[kind])
    late = averages.averages_path(stopped, 64)
    if kind == "power":
        late.write_bytes(averages.average_files(stopped)[0].read_bytes())
    invoke("train", "--resume", stopped)
    assert_identical(state(whole), state(stopped))
    files = averages.average_files(whole)
    assert [file.name for file in files] == [file.name for file in averages.average_files(stopped)]
    assert len(files) == (6 if kind == "power" else 0)  # a tick is two updates
    for file in files:
        assert file.read_bytes() == (stopped / "averages" / file.name).read_bytes()


def test_the_command(photos, tmp_path):
    """Reference: the run's own newest snapshot for the length that makes its samples, to half
    precision; what evaluate, sample and verify say of the file."""
    run = tmp_path / "run"
    train(photos, run, **RUNS["power"], schedule__learning_rate=0.001)
    assert "at 0.096 kimg, of 6 files" in invoke("average", run, "--length", 0.05)
    invoke("train", "--resume", run, "-o", "schedule.total_kimg=0.112")
    assert "at 0.112 kimg, of 7 files" in invoke("average", run, "--length", 0.05)
    file = run / "snapshots" / "average-0.05-000000.112.safetensors"
    made, own = load(file), load(run)
    assert (made.nimg, made.length, own.length) == (112, 0.05, None)
    for name, weight in own.G.state_dict().items():
        torch.testing.assert_close(made.G.state_dict()[name], weight, rtol=2**-10, atol=1e-6)
    assert "(replaced)" in invoke("average", run, "--length", 0.05)
    assert f"{file}: whole" in invoke("checkpoint", "verify", run)
    invoke("sample", file, "--seeds", 1, "--out", tmp_path / "x.png")
    for words, wrong in {
        (): "needs a length",
        ("--length", "0.5"): "'0.5' is no relative length; give 0.01 to 0.25",
        ("--length", "0.1,x", "--sweep"): "'x' is no relative length",
        ("--length", "0.1,0.2"): "add --sweep",
        ("--sweep", "--metric", "msssim100"): "is found by one of swd, fid",
        ("--length", "0.1", "--json", "x.json"): "--json is for the figures of --sweep",
        ("--length", "0.1", "--out", "x.png"): "must end in .safetensors",
        (
            "--length",
            "0.1",
            "--out",
            str(own.file),
        ): "would replace a network, or settings of a run",
    }.items():
        result = CliRunner().invoke(main, ["average", str(run), *words])
        assert (result.exit_code, wrong in result.output) == (2, True), result.output


def test_a_sweep_finds_the_best_length(kept_run, monkeypatch, tmp_path):
    """Reference: a metric that is the distance of the length from 0.07."""
    run_dir, walk = kept_run

    def compare(snapshot, names, *others):
        return SimpleNamespace(results={names[0]: abs(snapshot.length - 0.07)})

    monkeypatch.setattr("progan.metrics.of_snapshot.compare_with_data", compare)
    words = ["average", run_dir, "--sweep", "--length", "0.05,0.07,0.1"]
    monkeypatch.chdir(tmp_path)
    figures = tmp_path / "lengths.json"
    output = invoke(*words, "--json", figures, "--out", tmp_path / "a.safetensors")
    (best,) = (line for line in output.splitlines() if line.endswith("best"))
    assert best.split()[:2] == ["0.07", f"{0.07 * walk.schedule.total_nimg / 1000:.3g}"]
    assert load(tmp_path / "a.safetensors").length == 0.07
    assert [one["length"] for one in json.loads(figures.read_text())["lengths"]] == [
        0.05,
        0.07,
        0.1,
    ]
    assert (tmp_path / f"lengths-of-{run_dir.name}.png").exists()


@pytest.mark.parametrize("again", [["train", "--resume"], ["train", "--data", "photos"]])
def test_a_run_from_before_goes_on_as_it_began(photos, tmp_path, monkeypatch, again):
    """Reference: a run without a rampup, bit for bit. An older version's config and checkpoints
    have no settings but the half-life; the run goes on by its first command and by --resume."""
    whole, old = tmp_path / "whole", tmp_path / "old"
    train(photos, whole)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        train(photos, old)
    config = yaml.safe_load((old / "config.yaml").read_text())
    config["ema"] = {"half_life_kimg": config["ema"]["half_life_kimg"]}
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    (newest,) = (old / "checkpoints").glob("*.040.pt")
    content = torch.load(newest, weights_only=True)
    content["settings"]["ema"] = config["ema"]
    torch.save(content, newest)
    words = [word for word in options() if word != "-o" and "rampup" not in word]
    words = [part for word in words for part in ("-o", word)]
    if "--resume" in again:
        invoke(*again, old)
    else:
        invoke("train", "--data", photos, "--run-dir", old, *words)
    assert_identical(state(whole), state(old))
