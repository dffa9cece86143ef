"""The rate finder: its rules on losses in closed form, its updates against those of a run."""

import hashlib
import json
import math
import os
import shutil
import signal
from contextlib import closing

import pytest
import torch
from click.testing import CliRunner
from conftest import options

from progan.cli.find_rate import room, run_asked_for
from progan.cli.main import main
from progan.data.opening import open_data
from progan.runtime.errors import UserError
from progan.runtime.stopping import StopRequest
from progan.training import find_rate
from progan.training.find_rate import Found, Search, start_of, try_rates
from progan.training.request import old_run
from progan.training.start import make_trainer

FEW = {"data__max_images": 64}  # to draw all of the demo takes ten seconds


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def found(loss, networks="D", **settings) -> Found:
    """A search whose critic has `loss(rate)`, up to where it is bad; the generator's is 1."""
    search = Search(networks=tuple(networks), **{"updates": 400} | settings)
    it = Found(search)
    for i in range(search.updates):
        rate = search.start * (search.end / search.start) ** (i / (search.updates - 1))
        it.add(rate, {"D": loss(rate), "G": 1.0})
        if it.bad():
            break
    return it


def test_smoothing():
    """Reference: the exponential average without bias, as torch.optim.Adam has it (Kingma & Ba
    2015, Algorithm 1), of 1, 2, 4 with a weight of 1/10."""
    losses = find_rate.Losses(0.1)
    for value in (1.0, 2.0, 4.0):
        losses.add(value)
    sums = [0.1, 0.9 * 0.1 + 0.2, 0.81 * 0.1 + 0.9 * 0.2 + 0.4]
    assert losses.smoothed == pytest.approx([s / (1 - 0.9**n) for n, s in enumerate(sums, 1)])


@pytest.mark.parametrize("offset", [0.0, -7.0, 5.0])
def test_suggestion(offset):
    """Reference: a loss with its minimum at 0.01, wherever zero is: a tenth of it, but for the
    lag of the average, which is at most a factor of two. It ends where the loss has risen by three
    times its size or its fall, whichever is larger."""

    def loss(rate):
        x = math.log10(rate / 0.01)
        return offset + (x**2 if x < 0 else 400 * x**2) / 16

    it = found(loss)
    assert 0.001 <= it.suggestion() < 0.002
    assert it.bad() == "D"
    size = max(abs(it.watched.best), it.watched.begin - it.watched.best)
    assert it.watched.smoothed[-2] <= it.watched.best + 3 * size < it.watched.smoothed[-1]


def test_positive_losses_end_as_the_course_has_it():
    """Reference: four times the lowest, for a loss that falls from 1.4 to 1."""
    it = found(lambda rate: 1.4 - min(rate, 1e-3) * 400 + max(0.0, rate - 1e-3) * 100)
    assert it.limit("D") == pytest.approx(4 * it.watched.best)


def test_no_suggestion():
    """Reference: a loss that never falls, and one that only varies, suggest nothing; one that is
    not a number is bad."""
    draw = torch.Generator().manual_seed(0)
    noise = found(lambda rate: torch.randn((), generator=draw).item(), updates=100)
    assert noise.suggestion() is None
    assert found(lambda rate: 1.0 + rate).suggestion() is None
    assert len(found(lambda rate: 1.0 if rate < 1e-3 else math.inf).rates) < 400
    both = found(lambda rate: -rate, "GD")
    both.add(1.0, {"D": -1.0, "G": 1e3})
    assert both.bad() == "G"


def test_of_both_networks_the_larger_unit_counts():
    """Reference: by hand. The critic's loss falls by 10, so the generator's, which is near 0 and
    made of the same scores, may rise by 30, and not by more. Alone it may rise by 3 times its own
    size."""
    it = found(lambda rate: -10 * min(rate / 1e-3, 1.0), "GD")
    best = it.losses["G"].best
    assert it.losses["D"].unit == pytest.approx(10, abs=0.2)
    assert it.limit("G") == pytest.approx(best + 3 * it.losses["D"].unit)
    assert found(lambda rate: -10 * min(rate / 1e-3, 1.0), "G").limit("G") == pytest.approx(4)


def test_the_picture_shows_losses_before_they_break():
    """Reference: by hand. The critic's loss falls from 1 to 0 up to a rate of 0.01, then grows to a
    million; the generator's is 1."""
    it = found(lambda rate: 1 - rate / 0.01 if rate <= 0.01 else 1e6)
    low, high = room(it, "D")
    assert -0.11 < low < -0.05 and 1.4 < high < 1.51
    assert room(it, "G") == (0.9, 1.5)
    assert room(found(lambda rate: math.nan, updates=20), "D") == (-0.1, 0.5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a tick and a checkpoint after each of its 12 updates."""
    folder = tmp_path_factory.mktemp("rates") / "run"
    settings = options(
        **FEW, run__tick_kimg=0.008, run__keep_checkpoints=99, run__snapshot_ticks=99
    )
    result = run("train", "--data", "demo", *settings, "--run-dir", folder)
    assert result.exit_code == 0, result.output
    return folder


def digest(folder) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        str(f): f"{f.stat().st_mtime_ns} {hashlib.md5(f.read_bytes()).hexdigest()}" for f in files
    }


@pytest.mark.parametrize("networks", ["GD", "G", "D"])
def test_updates_are_those_of_the_run(finished, tmp_path, networks):
    """Reference: the losses in stats.jsonl of the update that came next in the run, before any
    rate has an effect. A network that is not tried keeps every bit, and the folder each file."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for later in sorted((folder / "checkpoints").iterdir())[9:]:
        later.unlink()  # up to 72 images, one update into 8x8 stable
    before = digest(folder)
    config, run_dir, _ = old_run(folder, [])
    search = Search(tuple(networks), updates=3, start=1e-3)
    with closing(open_data(config)) as data:
        trainer = make_trainer(config, run_dir, data, torch.device("cpu"), StopRequest(), print)
        trainer.checkpoint.load_newest()
        start = start_of(trainer.schedule, trainer.progress.nimg, None)
        assert (str(start.phase), start.nimg, start.restart) == ("8x8 stable", 72, False)
        kept = {name: getattr(trainer.step, name).state_dict() for name in "GD"}
        kept = {n: {k: v.clone() for k, v in state.items()} for n, state in kept.items()}
        with closing(trainer.stream):
            tried = list(try_rates(trainer, start, search))
    assert [rate for rate, _ in tried] == pytest.approx([1e-3, 1e-3**0.5, 1])
    lines = map(json.loads, (folder / "stats.jsonl").read_text().splitlines())
    (after,) = [line for line in lines if line["Progress/kimg"] == 0.08]
    assert tried[0][1]["D"] == after["Loss/D"]
    for name, state in kept.items():
        after = getattr(trainer.step, name).state_dict()
        same = all(torch.equal(value, after[key]) for key, value in state.items())
        assert same == (name not in networks)
    assert digest(folder) == before


def test_where_a_search_starts(finished):
    """Reference: the schedule by hand: 4x4 for 32 images, 8x8 fading for 32, then stable."""
    schedule = old_run(finished, [])[0].make_schedule()
    for nimg, resolution, name, at, restart in [
        (0, None, "4x4 stable", 0, True),
        (0, 8, "8x8 stable", 64, True),
        (40, 8, "8x8 fading", 40, False),
        (64, None, "8x8 stable", 64, True),
        (96, None, "8x8 stable", 96, False),
        (96, 4, "4x4 stable", 0, True),
    ]:
        start = start_of(schedule, nimg, resolution)
        assert (str(start.phase), start.nimg, start.restart) == (name, at, restart)


SHORT = [
    "--data",
    "demo",
    *options(**FEW, schedule__stable_kimg=0.4, schedule__total_kimg="null"),
    "--resolution",
    "4",
]


def test_command(here, monkeypatch):
    """Reference: what a user sees: a table with the last rate, a suggestion or none, a picture;
    nothing else is written. After a Ctrl-C the same, with its exit code."""
    result = run("find-rate", *SHORT, "--updates", 25, "--plot", "rates.png")
    assert result.exit_code == 0, result.output
    assert "4x4 stable" in result.output and "suggest" in result.output
    assert [path.name for path in here.iterdir()] == ["rates.png"]
    real = find_rate.try_rates

    def interrupted(*arguments):
        for i, update in enumerate(real(*arguments)):
            if i == 14:
                signal.raise_signal(signal.SIGINT)
            yield update

    monkeypatch.setattr(find_rate, "try_rates", interrupted)
    stopped = run("find-rate", *SHORT, "--updates", 25, "--end", 1e-3)
    assert stopped.exit_code == 130 and "suggest" in stopped.output
    assert "stopped (SIGINT) after 15 of 25" in stopped.output


def test_a_short_phase_is_searched_as_far_as_it_goes(here):
    """Reference: 4x4 stable has 50 updates: 400 images in batches of 8."""
    result = run("find-rate", *SHORT)
    assert result.exit_code == 0, result.output
    assert "stable, batch size 8, adam, from a new run's weights: 50 updates" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "what to train on?"),
        (["runs/none"], "no run"),
        (["--data", "demo", "--start", "0"], "must be more than 0"),
        (["--data", "demo", "--start", "1", "--end", "0.1"], "--start (1) must be below --end"),
        (["--data", "demo", "--updates", "5"], "20"),
        (["--data", "demo", "--stop-div", "1"], "must be more than 1"),
        (["--data", "demo", "--network", "E"], "'both', 'G', 'D'"),
        (["--data", "demo", "--resolution", "6"], "not a resolution"),
        ([*SHORT[:-1], "16"], "--resolution 16 is not in the schedule, which has 4, 8"),
        ([*SHORT, "--updates", "51"], "has 50 updates; give at most as many by --updates"),
        ([*SHORT, "-o", "schedule.stable_kimg=0.1"], "has 12 updates, and find-rate needs 20"),
        (["--data", "demo", "--plot", "r.txt"], "must end in one of"),
    ],
)
def test_refused(here, arguments, words):
    """Reference: exit code 2, and a sentence with the value and what is allowed."""
    result = run("find-rate", *arguments)
    assert result.exit_code == 2, result.output
    assert words in result.output and "Traceback" not in result.output
    assert not list(here.iterdir())


def test_a_run_has_its_settings(finished, monkeypatch):
    """Reference: other settings beside a run, and several processes, are refused."""
    result = run("find-rate", finished, "--data", "demo")
    assert result.exit_code == 2 and "leave out --data" in result.output
    monkeypatch.setattr("progan.cli.find_rate.processes", lambda: 2)
    assert "one process" in run("find-rate", finished).output
    with pytest.raises(UserError, match="must be below"):
        Search(start=1.0, end=1.0)


def test_a_run_is_only_read(finished, tmp_path, monkeypatch):
    """Reference: permissions as the system tells them, here none to write: a search needs none, and
    training does. Where the data are missing, a search proposes no training."""
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "complete").unlink(missing_ok=True)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert run_asked_for(folder, None, None, ())[1] == folder
    with pytest.raises(UserError, match="cannot be written: no permission"):
        old_run(folder, [])
    missing = f"data.source={tmp_path / 'none'}"
    result = run("find-rate", folder, "-o", missing)
    assert result.exit_code == 2 and "--resume" not in result.output
    assert "is not there; if it has moved, add -o data.source=PATH" in result.output
    with pytest.raises(UserError, match=f"go on with --resume {folder} -o data.source=PATH"):
        old_run(folder, [missing])
