"""Metrics during training: when, where recorded, the best snapshot; training is unchanged."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import assert_identical, flat, load_checkpoint, options, torchrun
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from progan.cli.main import main
from progan.config.load import load_config
from progan.metrics.inputs import Fakes
from progan.runs.best import best_path, forget_worse, improved
from progan.runs.folder import differences
from progan.runs.records import record
from progan.runtime.errors import UserError

# Six ticks; metrics at the second, fourth and last of them, and at the third and last.
GAUGED = {
    "network__resolution": 16,
    "schedule__total_kimg": 0.096,
    "schedule__start_resolution": 8,
    "run__tracker": "tensorboard",
    "run__metrics": "{swd12: every 2 ticks, msssim10: 3}",
}


def train(photos: Path, run_dir: Path, **settings) -> str:
    arguments = ["train", "--data", str(photos), "--run-dir", str(run_dir)]
    arguments += options(**GAUGED | settings)
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def lines(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def bests(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.glob("snapshots/best-*"))


@pytest.fixture(scope="module")
def gauged(photos, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("gauged") / "run"
    train(photos, run_dir)
    return run_dir


def test_when_and_where(gauged):
    """Reference: the ticks of the schedule, 16 images each; the same numbers in TensorBoard."""
    found = {line["nimg"]: sorted(key for key in line if key != "nimg") for line in lines(gauged)}
    swd = ["Metrics/swd12", "Metrics/swd12_at_16", "Metrics/swd12_floor"]
    similar = ["Metrics/msssim10", "Metrics/msssim10_reals"]
    assert found == {32: swd, 48: similar, 64: swd, 96: [*similar, *swd]}
    board = EventAccumulator(str(gauged)).Reload()
    curve = {event.step: event.value for event in board.Scalars("Metrics/swd12")}
    written = {line["nimg"]: line[swd[0]] for line in lines(gauged) if swd[0] in line}
    assert curve == pytest.approx(written, rel=1e-6)


def test_the_best_snapshot_is_kept(gauged):
    """Reference: the smallest value recorded; MS-SSIM alone has no best snapshot."""
    values = {
        line["Metrics/swd12"]: line["nimg"] for line in lines(gauged) if "Metrics/swd12" in line
    }
    nimg = values[min(values)]
    assert bests(gauged) == [best_path(gauged, "swd12", 8 if nimg <= 32 else 16, nimg).name]


def test_evaluate_finds_the_same(gauged, photos):
    """Reference: values measured during training, by the command on the snapshot of that time."""
    expected = lines(gauged)[-1]
    copy = gauged.parent / "copy.safetensors"
    shutil.copy(sorted(gauged.glob("snapshots/snapshot-*"))[-1], copy)
    file = gauged.parent / "results.json"
    arguments = ["evaluate", str(copy), "--data", str(photos), "--metrics", "swd12,msssim10"]
    arguments += ["--json", str(file)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())["snapshots"][0]["metrics"]
    assert {f"Metrics/{name}": value for name, value in found.items()} == pytest.approx(
        {key: value for key, value in expected.items() if key != "nimg"}, rel=1e-6
    )


def test_weights_do_not_depend_on_it(gauged, photos, tmp_path):
    """Reference: the same run without metrics, bit for bit."""
    train(photos, tmp_path / "plain", run__metrics="{}")
    a, b = (flat(load_checkpoint(run)) for run in (gauged, tmp_path / "plain"))
    ignore = "/progress/seconds"
    assert_identical({**a, ignore: 0}, {**b, ignore: 0})


def test_goes_on_exactly(gauged, photos, tmp_path):
    """Reference: the undisturbed run's metrics and best snapshot. Whatever was recorded after the
    checkpoint is removed, and measured again."""
    run_dir = tmp_path / "run"
    shutil.copytree(gauged, run_dir)
    checkpoints = sorted(run_dir.glob("checkpoints/*.pt"))
    checkpoints[-1].unlink()  # goes on from the one before the last tick
    later = best_path(run_dir, "swd12", 16, 96)
    later.write_text("of an abandoned branch")
    train(photos, run_dir)
    assert lines(run_dir) == lines(gauged)
    assert bests(run_dir) == bests(gauged)


def test_other_metrics_may_follow(gauged):
    """Reference: a run may go on with other metrics, as they change no weight."""
    config = load_config(str(gauged / "config.yaml"))
    other = load_config(str(gauged / "config.yaml"), ["run.metrics={fid100: 1}"])
    assert differences(config, other) == []
    assert differences(other, load_config(str(gauged / "config.yaml"), ["run.metrics={}"])) == []


def test_improved(tmp_path):
    """Reference: what is better by hand; only snapshots that are there are compared with, those
    that older versions named without a resolution, too."""

    def keep(name: str, nimg: int, value: float) -> None:
        record(tmp_path, nimg, {name: value, f"{name}_floor": 1.0})
        path = best_path(tmp_path, name, 8 if nimg == 1000 else 16, nimg)
        if name == "fid50k":
            path = path.with_name(path.name.replace("8x8-", ""))
        path.parent.mkdir(exist_ok=True)
        path.touch()

    results = {"swd16k": 5.0, "swd16k_floor": 0.0, "is50k": 5.0, "msssim10k": 0.0, "fid50k": 1e9}
    assert improved(tmp_path, results) == ["swd16k", "is50k", "fid50k"]
    keep("swd16k", 1000, 6.0), keep("is50k", 1000, 4.0), keep("fid50k", 1000, 2e9)
    assert improved(tmp_path, results) == ["swd16k", "is50k", "fid50k"]
    keep("swd16k", 2000, 5.0), keep("is50k", 2000, 7.0)
    assert improved(tmp_path, results | {"fid50k": float("nan")}) == []
    forget_worse(tmp_path)
    assert bests(tmp_path) == [
        "best-fid50k-000001.000.safetensors",
        "best-is50k-16x16-000002.000.safetensors",
        "best-swd16k-16x16-000002.000.safetensors",
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{sw16k: 1}", "'sw16k' is no metric (did you mean 'swd16k'?)"),
        ("{swd16k: 0}", "greater than or equal to 1"),
        ("{swd16k: every 0 ticks}", "greater than or equal to 1"),
        ("{swd16k: often}", "must be a number of ticks, such as 10"),
        ("swd16k", "must say how often: {swd16k: every 10 ticks"),
        ("[swd16k]", "must say how often: {swd16k: every 10 ticks"),
        ("{swd16k: 1, swd16384: 2}", "must name each metric once"),
    ],
)
def test_refused(setting, message):
    """Reference: the names and intervals that README gives."""
    with pytest.raises(UserError) as error:
        load_config("demo", [f"run.metrics={setting}"])
    assert "run.metrics" in str(error.value) and message in str(error.value)


def test_small_networks_are_refused():
    """Reference: SWD's coarsest level."""
    with pytest.raises(UserError, match="16x16 or more; network.resolution is 8"):
        load_config(None, ["run.metrics={swd16k: 1}", "network.resolution=8"])


def test_a_kill_before_the_first_checkpoint(gauged, photos, tmp_path):
    """Reference: a new run. The best snapshot of a first tick is there before any checkpoint."""
    run_dir = tmp_path / "run"
    best_path(run_dir, "swd12", 8, 32).parent.mkdir(parents=True)
    best_path(run_dir, "swd12", 8, 32).touch()
    shutil.copy(gauged / "config.yaml", run_dir)
    train(photos, run_dir)
    assert lines(run_dir) == lines(gauged) and bests(run_dir) == bests(gauged)


def test_a_stop_while_measuring(gauged, photos, tmp_path, monkeypatch):
    """Reference: the undisturbed run. A stop requested between two batches of images ends the
    measuring, with a checkpoint; the resumed run measures first, then trains."""
    run_dir = tmp_path / "run"
    batch, made = Fakes.batch, []

    def stopping(self, first, count):
        made.append(first)
        (run_dir / "stop").touch()
        return batch(self, first, count)

    monkeypatch.setattr(Fakes, "batch", stopping)
    monkeypatch.setattr("progan.metrics.evaluate.batch_size", lambda resolution: 4)
    monkeypatch.setattr("progan.runtime.stopping.LOOK", -1)
    output = train(photos, run_dir)
    assert "stopped" in output and made == [0] and not (run_dir / "metrics.jsonl").exists()
    monkeypatch.undo()
    output = train(photos, run_dir)
    assert output.index("measuring swd12") < output.index("/0.096 kimg")
    assert lines(run_dir) == lines(gauged) and bests(run_dir) == bests(gauged)


def test_a_stop_while_measuring_for_the_last_time(gauged, photos, tmp_path, monkeypatch):
    """Reference: the undisturbed run. One that was stopped there is not said to be complete, and
    the next start does nothing but measure."""
    run_dir = tmp_path / "run"
    batch = Fakes.batch

    def stopping(self, first, count):
        if len(lines(run_dir)) == 3:
            (run_dir / "stop").touch()
        return batch(self, first, count)

    shutil.copytree(gauged, run_dir)
    sorted(run_dir.glob("checkpoints/*.pt"))[-1].unlink()
    monkeypatch.setattr(Fakes, "batch", stopping)
    monkeypatch.setattr("progan.metrics.evaluate.batch_size", lambda resolution: 4)
    monkeypatch.setattr("progan.runtime.stopping.LOOK", -1)
    output = train(photos, run_dir)
    assert "stopped" in output and "done" not in output and not (run_dir / "complete").exists()
    assert len(lines(run_dir)) == 3 and load_checkpoint(run_dir)["progress"]["nimg"] == 96
    monkeypatch.undo()
    assert "done" in train(photos, run_dir) and (run_dir / "complete").exists()
    assert lines(run_dir) == lines(gauged) and bests(run_dir) == bests(gauged)


def test_a_stop_within_a_tick(photos, tmp_path, any_end):
    """Reference: the undisturbed run, whose ticks end elsewhere: where it was stopped, which is
    after 1.5 of a phase's ticks, there is nothing to measure when it goes on."""
    settings = {"run__tick_kimg": 0.032, "run__metrics": "{swd12: 1}"}
    train(photos, tmp_path / "whole", **settings)
    train(photos, tmp_path / "run", **settings | {"schedule__total_kimg": 0.016})
    (tmp_path / "run" / "metrics.jsonl").unlink()  # of an end that the longer run does not have
    train(photos, tmp_path / "run", **settings)
    assert 16 not in [line["nimg"] for line in lines(tmp_path / "whole")]
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_a_checkpoint_comes_before_measuring(photos, tmp_path, monkeypatch):
    """Reference: nimg of the ticks that measure; by themselves checkpoints would be rarer. What is
    killed while it measures loses nothing."""
    run_dir, batch, found = tmp_path / "run", Fakes.batch, []

    def looking(self, first, count):
        found.append(load_checkpoint(run_dir)["progress"]["nimg"])
        return batch(self, first, count)

    monkeypatch.setattr(Fakes, "batch", looking)
    train(photos, run_dir, run__checkpoint_ticks=1000, run__snapshot_ticks=1000)
    assert list(dict.fromkeys(found)) == [line["nimg"] for line in lines(run_dir)]


def test_what_evaluate_finds_is_not_training_s(gauged, photos, tmp_path, any_end):
    """Reference: the undisturbed run. A run that resumes at a tick measures there, even if a
    command has done so meanwhile; the best snapshot and the curve have that tick."""
    run_dir = tmp_path / "run"
    train(photos, run_dir, schedule__total_kimg=0.032, run__metrics="{}")
    arguments = ["evaluate", str(run_dir), "--metrics", "swd12"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    train(photos, run_dir)
    (later,) = [line for line in lines(run_dir) if "evaluated" in line]
    assert later.pop("evaluated") and later == pytest.approx(lines(gauged)[0], rel=1e-6)
    assert [line for line in lines(run_dir) if "evaluated" not in line] == lines(gauged)
    assert bests(run_dir) == bests(gauged)


def test_improved_passes_over_what_is_no_number(tmp_path):
    """Reference: the one good line among invalid ones."""
    odd = ["x", None, True, [1], float("nan"), 10**400]
    entries = [{"nimg": 32, "Metrics/swd12": value} for value in odd]
    entries += [{"nimg": nimg, "Metrics/swd12": 1.0} for nimg in (10**400, -1, True, "x")]
    entries += [{"nimg": 32, "Metrics/swd12": 7.0}]
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (tmp_path / "metrics.jsonl").write_text(text)
    best_path(tmp_path, "swd12", 8, 32).parent.mkdir()
    best_path(tmp_path, "swd12", 8, 32).touch()
    assert improved(tmp_path, {"swd12": 6.0}) == ["swd12"]
    assert improved(tmp_path, {"swd12": 8.0}) == []


@pytest.mark.slow
def test_two_processes_find_the_same(gauged, photos, tmp_path):
    """Reference: one process, to rounding."""
    run_dir = tmp_path / "run"
    arguments = ["train", "--data", photos, "--run-dir", run_dir, *options(**GAUGED)]
    torchrun(2, *arguments)
    for two, one in zip(lines(run_dir), lines(gauged), strict=True):
        assert two == pytest.approx(one, rel=1e-3)
