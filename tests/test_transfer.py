"""Runs that start from another run's networks: what is taken, frozen, recorded and refused."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import assert_identical, load_checkpoint, options
from test_train import state, stop_after, train

from progan.cli.main import main
from progan.config.load import load_config
from progan.model.growing import resolution_of
from progan.runs.init_file import forget_other, read_once, read_other
from progan.runs.origin import Origin
from progan.runs.snapshot_file import load
from progan.training.build import make_networks
from progan.training.start import train as train_in_python
from progan.training.transfer import Transfer

# 8x8 for 4 updates from the first image on, 16x16 fading in for 4, then 16x16 for 4.
LARGER = {"network__resolution": 16, "schedule__start_resolution": 8}


@pytest.fixture(scope="module")
def other(photos, tmp_path_factory) -> Path:
    """A run that has ended at 8x8."""
    run_dir = tmp_path_factory.mktemp("runs") / "other"
    train(photos, run_dir)
    return run_dir


def newest(run_dir: Path, folder: str = "checkpoints") -> Path:
    return max(run_dir.glob(f"{folder}/*"))


def config_with(init: Path | None, **settings):
    merged = {"network__init": init} | settings if init else settings
    return load_config(None, options(**merged)[1::2])


@pytest.mark.parametrize("resolution", [4, 8, 16])
@pytest.mark.parametrize("kind", ["run", "checkpoint", "snapshot"])
def test_blocks_that_both_have_are_taken(other, tmp_path, kind, resolution):
    """Reference: the weights in the other run's files, read by torch and safetensors, up to the
    smaller of both resolutions; above it, and for the critic where there is a snapshot only, those
    that this run draws from its seed without the other."""
    file = newest(other) if kind == "checkpoint" else newest(other, "snapshots")
    config = config_with(other if kind == "run" else file, network__resolution=resolution)
    fresh = make_networks(config, 0, "cpu")
    G, D = make_networks(config, 0, "cpu")
    G_ema, G_ema_2 = (make_networks(config, 0, "cpu")[0] for _ in range(2))
    lines = Transfer(config, G, D, [G_ema, G_ema_2]).begin(tmp_path)
    there = load_checkpoint(other)
    if kind == "snapshot":
        there = {"G": there["G_ema"], "G_ema": there["G_ema"], "D": {}}
    averages = (("G_ema", network, fresh[0]) for network in (G_ema, G_ema_2))
    for name, network, before in (("G", G, fresh[0]), ("D", D, fresh[1]), *averages):
        wanted = {
            key: there[name][key] if there[name] and resolution_of(key) <= 8 else weight
            for key, weight in before.state_dict().items()
        }
        assert_identical(wanted, network.state_dict())
    text = "\n".join(lines)
    assert f"blocks of 4x4{'' if resolution == 4 else ' to 8x8'}" in text
    assert ("new: 16x16" in text) == (resolution == 16)
    assert ("the critic is new" in text) == (kind == "snapshot")
    assert ("schedule.start_resolution=8" in text) == (resolution > 4)


@pytest.mark.parametrize(
    "kind, words",
    [
        ("checkpoints", "is a checkpoint of progan, which needs no import: progan train --init"),
        ("snapshots", "a snapshot of progan needs no import: progan sample takes it"),
        (None, "is a run of progan, which needs no import: progan sample takes it"),
    ],
)
def test_what_progan_has_written_needs_no_import(other, tmp_path, kind, words):
    """Reference: the messages' own words, for the files of a real run; nothing is written."""
    file = newest(other, kind) if kind else other
    given = ["import", str(file), "--out", str(tmp_path / "it.safetensors")]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 2 and words in " ".join(result.output.split()), result.output
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def begun(photos, other, tmp_path_factory) -> Path:
    """A run that has begun with the other one's networks, its critic's first block frozen."""
    run_dir = tmp_path_factory.mktemp("runs") / "begun"
    train(photos, run_dir, network__init=other, network__freeze_d=1, **LARGER)
    return run_dir


def test_frozen_weights_stay(other, begun):
    """Reference: the other run's checkpoint, bit for bit, for the 8x8 block and from_rgb of the
    critic. All other weights of the critic have changed, so have the generator's at 8x8."""
    there, here = load_checkpoint(other), load_checkpoint(begun)
    for key, weight in there["D"].items():
        assert torch.equal(weight, here["D"][key]) == (
            resolution_of(key) == 8 or ".4." in key and "image" in key
        )
    for key, weight in there["G"].items():
        assert torch.equal(weight, here["G"][key]) == ("image_layers.4" in key), key


@pytest.mark.parametrize("updates", [2, 5])
def test_resume_of_such_a_run_is_exact(photos, other, begun, tmp_path, monkeypatch, updates):
    """Reference: the run in one go, bit for bit, its origin, too. Before it goes on, the other run
    is gone: nothing of it is read a second time."""
    source = Path(shutil.copytree(other, tmp_path / "other"))
    stop_after(monkeypatch, updates)
    run_dir = tmp_path / "run"
    train(photos, run_dir, network__init=source, network__freeze_d=1, **LARGER)
    monkeypatch.undo()
    shutil.rmtree(source)
    result = CliRunner().invoke(main, ["train", "--resume", str(run_dir)], catch_exceptions=False)
    assert result.exit_code == 0 and "starts from" not in result.output, result.output
    assert_identical(state(begun), state(run_dir))
    starts = [json.loads(line) for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert ["init" in start for start in starts] == [True, False]


def test_its_origin_is_recorded_without_a_path(other, begun):
    """Reference: the other run's newest checkpoint: its name, its hash by hashlib, its images
    shown. Snapshots of runs with their own weights have none."""
    file = newest(other)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    origin = Origin(f"other/{file.name}", sha256, 96, 8)
    assert load(begun).origin == origin and load(other).origin is None
    (start,) = map(json.loads, (begun / "starts.jsonl").read_text().splitlines())
    assert start["init"] == flat_origin(origin) == load_checkpoint(begun)["origin"]
    for path in (newest(begun, "snapshots"), newest(begun)):
        assert str(other).encode() not in path.read_bytes()


def flat_origin(origin: Origin) -> dict[str, object]:
    return {key: getattr(origin, key) for key in ("name", "sha256", "nimg", "resolution")}


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"name": 3}, {"sha256": "A" * 64}, {"nimg": -1}, {"resolution": 5}, {"x": 1}],
)
def test_an_origin_that_progan_does_not_write_is_refused(change):
    """Reference: what may stand there, by the class's own description."""
    good = {"name": "a.pt", "sha256": "0" * 64, "nimg": 5, "resolution": 8}
    assert Origin.of(good).state_dict() == good
    for wrong in (good | change, list(good), None):
        with pytest.raises(ValueError, match="first weights"):
            Origin.of(wrong)


REFUSED = {
    "widths": (
        ["-o", "network.channel_max=4"],
        "network.channel_max: 8 there, 4 here",
        "channel_max=8",
    ),
    "z_dim": (["-o", "network.z_dim=6"], "network.z_dim: 8 there, 6 here", "-o network.z_dim=8"),
    "grey": (["-o", "network.channels=1"], "network.channels: 3 there, 1 here"),
    "function": (["-o", "network.pixel_norm=false"], "pixel_norm: true there", "pixel_norm=true"),
    "conventions": (
        ["-o", "network.conventions={norm: rms}"],
        "conventions: null there, {widths: null,",
        "give this run the same: -o network.conventions=null",
    ),
    "labels": (["-o", "data.labels=true"], "with no labels", "trained with 2 labels"),
    "freezing": (
        ["--freeze-d", "2"],
        "--freeze-d 2 is too much",
        ": 1 of its blocks can be frozen (8x8)",
    ),
    "nothing": (["-o", "network.init=null", "--freeze-d", "1"], "give that run by --init"),
    "no critic": (["--init", "SNAPSHOT", "--freeze-d", "1"], "a snapshot has none"),
    "no file": (["--init", "RUNS/othr"], "no such run, checkpoint or snapshot", "other"),
    "no run": (["--init", "RUNS"], "no snapshots in"),
    "damaged": (["--init", "DAMAGED.pt"], "cannot be read as a checkpoint of progan"),
    "no snapshot": (["--init", "DAMAGED"], "is not a snapshot of progan"),
    "begun": (["--run-dir", "RUNS/other"], "network.init: None -> "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_do_not_fit_are_refused(photos, other, tmp_path, name):
    """Reference: exit code 2, the numbers on both sides, what to do; no run has begun."""
    arguments, *wanted = REFUSED[name]
    (tmp_path / "damaged").write_bytes(newest(other).read_bytes()[:-900])
    shutil.copy(tmp_path / "damaged", tmp_path / "damaged.pt")
    places = {
        "SNAPSHOT": newest(other, "snapshots"),
        "RUNS": other.parent,
        "DAMAGED": tmp_path / "damaged",
    }
    for word, place in places.items():
        arguments = [argument.replace(word, str(place)) for argument in arguments]
    run_dir = tmp_path / "run"
    given = ["train", "--data", str(photos), "--run-dir", str(run_dir), "--init", str(other)]
    result = CliRunner().invoke(main, [*given, *options(), *arguments])
    said = " ".join(result.output.split())
    assert result.exit_code == 2 and all(each in said for each in wanted), said
    assert not (run_dir / "config.yaml").exists()


def test_a_resumed_run_begins_no_more(begun, other, tmp_path):
    """Reference: the messages' own words; the run's files stay as they are."""
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    result = CliRunner().invoke(main, ["train", "--resume", str(begun), "--init", str(other)])
    assert result.exit_code == 2 and "--init and --freeze-d" in result.output
    result = CliRunner().invoke(
        main, ["train", "--resume", str(begun), "-o", f"network.init={tmp_path}"]
    )
    assert result.exit_code == 2 and "network.init: " in result.output
    assert before == {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}


def test_dry_run_and_check_say_what_is_taken(photos, other, tmp_path):
    """Reference: the line that a start says; neither writes anything."""
    given = [
        "train",
        "--data",
        str(photos),
        "--run-dir",
        str(tmp_path / "run"),
        "--init",
        str(other),
    ]
    for flag in ("--dry-run", "--check"):
        result = CliRunner().invoke(main, [*given, *options(), "--freeze-d", "1", flag])
        assert result.exit_code == 0, result.output
        assert "starts from other/checkpoint-000000.096.pt, 0.096 kimg: both" in result.output
        assert "frozen: the critic's blocks of 8x8" in result.output
    assert not (tmp_path / "run").exists()


def test_python_starts_from_another_run(photos, other, tmp_path):
    """Reference: the command's run, bit for bit; the images shown are counted from zero."""
    overrides = dict(pair.split("=", 1) for pair in options(network__resolution=8)[1::2])
    overrides = {key: json_or_text(value) for key, value in overrides.items()}
    snapshot = train_in_python(photos, run_dir=tmp_path / "a", overrides=overrides, init=other)
    train(photos, tmp_path / "b", network__init=other)
    assert_identical(state(tmp_path / "b"), state(tmp_path / "a"))
    assert snapshot.nimg == 96 and snapshot.origin is not None


def json_or_text(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return {"start": 0.002, "end": 0.001} if value.startswith("{") else value


@pytest.mark.parametrize("kind", ["checkpoints", "snapshots"])
def test_the_other_file_is_read_once(photos, other, tmp_path, monkeypatch, kind):
    """Reference: one reading for the check and for the start, as calls of SHA-256 show; another
    file under the same name is read again, and nothing stays in memory."""
    real, read = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: read.append(a[0].name) or real(*a))
    file = shutil.copy(newest(other, kind), tmp_path)
    train(photos, tmp_path / "run", network__init=file)
    assert read == [str(file)] and read_once.cache_info().currsize == 0
    read_other(Path(file))
    os.utime(file, (0, 0))
    read_other(Path(file))
    read_other(Path(file))
    assert len(read) == 3
    forget_other()
