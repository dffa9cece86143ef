"""What is said before a run trains: its time, what is wrong with it, what would do instead."""

import re
import shlex
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import options
from PIL import Image

import progan
from progan.cli.main import main
from progan.config.config import Config
from progan.config.load import load_config, presets
from progan.data.labels import Labels
from progan.training import console, forecast
from progan.training.costs import Range
from progan.training.request import new_run, resolve

DAYS = 24 * 3600


class Costs:
    """Every image takes `each` seconds."""

    def __init__(self, config: Config, each: float) -> None:
        self.schedule, self.each = config.make_schedule(), each

    def seconds_of(self, phase) -> float:
        return self.each * (self.schedule.end_of(phase) - phase.start_nimg)

    def left(self, nimg: int) -> Range:
        seconds = self.each * (self.schedule.total_nimg - nimg)
        return Range(seconds, seconds, seconds)


def lines(config: Config, days: float, nimg: int = 0, count: int = 10**6, device="cpu") -> str:
    """The forecast of a run that takes so many days in all."""
    each = days * DAYS / config.make_schedule().total_nimg
    return "\n".join(forecast.forecast(config, Path("r"), Costs(config, each), nimg, count, device))


def run(*arguments: object):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_phases_and_time(monkeypatch):
    """Reference: by hand. The defaults have 11 phases of 600 kimg, to whole batches."""
    noon = SimpleNamespace(now=lambda: datetime(2026, 11, 29, 12))
    monkeypatch.setattr(forecast, "datetime", noon)
    config = load_config()
    said = lines(config, 3.5)
    assert said.startswith(
        "11 phases from 4x4 to 128x128, 6,600 kimg: about 3d 12h, until Thu 3 Dec"
    )
    half = config.make_schedule().phases[6].start_nimg  # 32x32 stable
    assert "5 phases left from 32x32 to 128x128, 3,000" in lines(config, 3.5, half)
    assert lines(config, 3.5, 6_600_000) == "", "nothing is left"
    assert "until Wed 24 Nov 2027 12:00" in lines(config, 360)
    assert "7 phases from 4x4 to 32x32, 36 kimg: about 5m" in lines(load_config("demo"), 1 / 288)
    wide = forecast.phases_and_time(config.make_schedule(), 0, Range(DAYS, 3 * DAYS, 9 * DAYS))
    ends = "until Mon 30 Nov 12:00 at best, Tue 8 Dec 12:00 at worst"
    assert wide.endswith(f"about 1d 0h to 9d 0h, {ends}")
    assert forecast.until(1e15) == "later than anyone will see"


@pytest.mark.parametrize(
    ("preset", "overrides", "device", "days", "found"),
    [
        (None, {"network.channels": 1, "data.labels": True}, "cpu", 400, ["demo"]),
        (None, {"network.resolution": 16}, "cpu", 1, ["demo"]),
        (None, {}, "cpu", 0.5, ["demo", "32"]),
        (None, {}, "cpu", 0.2, None),
        (None, {}, "cuda", 3, None),
        ("celeba-hq", {"run.seed": 3}, "cuda", 8, ["64"]),
        ("few-images", {"network.resolution": 256}, "cuda", 6, ["32"]),
        ("demo", {}, "cpu", 1, []),
    ],
)
def test_commands_of_shorter_runs(preset, overrides, device, days, found):
    """Reference: what each command makes of its own words: the demo's networks on the user's data,
    or the user's settings at a smaller size that takes at most LONG."""
    config = load_config(preset, {"data.source": "my photos", **overrides})
    said = lines(config, days, device=device)
    assert ("warning: that is long" in said) == (found is not None)
    commands = [shlex.split(line.partition("progan train ")[2]) for line in said.splitlines()]
    commands = [words for words in commands if words]
    assert len(commands) == len(found or ())
    for words, kind in zip(commands, found or (), strict=True):
        given = {"--config": [None], "-o": []}
        for name, value in zip(words[::2], words[1::2], strict=True):
            given.setdefault(name, []).append(value)
        made = resolve(given["--data"][0], given["--config"][-1], given["-o"])
        size = min(32, config.network.resolution) if kind == "demo" else int(kind)
        assert made.network.resolution == size and "resolution" in made.network.model_fields_set
        assert (made.data, made.network.channels) == (config.data, config.network.channels)
        assert made.shortfall() == "" and given["--run-dir"][0].startswith("r-")
        if kind == "demo":
            assert made.schedule == load_config("demo").schedule
        else:
            total = made.schedule.model_copy(update={"total_kimg": config.schedule.total_kimg})
            assert (total, made.run) == (config.schedule, config.run)
            assert made.schedule.total_kimg is None, "no longer than the time it says"


def test_a_proposed_command_keeps_ramps():
    """Reference: the settings that it stands for. A ramp replaces a preset's map."""
    ramps = ["ema.half_life_kimg", "schedule.learning_rate", "loss.weights.penalty"]
    given = [f"{key}={{start: 2, end: 1, over: run}}" for key in ramps]
    config = load_config("celeba-hq", ["data.source=demo", *given])
    words = shlex.split(forecast.command(config, "r"))
    options = [word for before, word in pairwise(words) if before == "-o"]
    made = load_config(words[words.index("--config") + 1], ["data.source=demo", *options])
    assert made.make_schedule() == config.make_schedule()


def test_how_often_images_are_shown():
    """Reference: closed form, 6,600 kimg over the images, to two digits; what helps is only what is
    not done yet."""
    config = load_config()
    assert "652 images for 6,600 kimg: each is shown about 10,000 times" in lines(config, 1, 0, 652)
    assert "warning: 652 images" in lines(config, 1, 0, 652)
    assert "\n30,000 images for 6,600 kimg: each is shown about 220" in lines(config, 1, 0, 30_000)
    assert "each is shown less than once" in lines(config, 1, 0, 10**7)
    assert "each is shown about once" in lines(config, 1, 0, 6 * 10**6)
    helped = lines(load_config("few-images"), 0.1, 0, 100)
    assert "warning: 100 images for 1,100 kimg: each is shown about 11,000 times" in helped
    assert not any(word in helped for word in ("mirror", "augment", "few-images"))


def test_settings_without_effect():
    """Reference: by hand: 36 ticks of a kimg in the demo, batches of 8."""
    settings = {"run.snapshot_ticks": 50, "run.metrics": {"swd16k": 40, "swd2000": 10}}
    said = lines(load_config("demo", settings), 0.01, count=5)
    assert "run.snapshot_ticks is 50, and the run has 36 ticks" in said
    assert "run.metrics[swd16k] is 40" in said and "swd2000" not in said
    assert "schedule.batch_size is 8 at 4x4 stable, and there are 5 images" in said
    assert lines(load_config("demo"), 0.01).count("\n") == 1, "nothing else is said of the demo"


ALONE = {
    "data.augment_strength=0.3": "data.augment=[color]",
    "data.augment_strength={4: {start: 0.1, end: 1}}": "data.augment=[color]",
    "data.augment_kimg=100": "data.augment_target=0.6",
    "data.label_level=2": "data.labels=true",
    "loss.labels=projection": "data.labels=true",
    "loss.weights.label=2": "data.labels=true",
    "loss.weights.penalty=5": "loss.penalty=r1",
    "loss.weights.penalty={start: 2, end: 1}": "loss.penalty=r1_r2",
    "loss.weights.target=750": "loss.penalty=wgan_lp",
}


@pytest.mark.parametrize("alone", ALONE)
def test_settings_that_need_another_one(alone):
    """Reference: by hand: the setting, and what brings it into effect. No preset has such a one."""
    lacks = [alone, "loss.penalty=none"] if "penalty" in ALONE[alone] else [alone]
    adaptive = ["loss.adversarial=logistic", "data.augment=[color]"]
    lacks += adaptive if "target=0.6" in ALONE[alone] else []
    said = f"{alone.partition('=')[0]} has an effect only where {ALONE[alone].partition('=')[0]}"
    assert said in lines(load_config(None, lacks), 0.01)
    assert said not in lines(load_config(None, [*lacks, ALONE[alone]]), 0.01)
    for name in presets():
        assert "has an effect only" not in lines(load_config(name), 0.01)


def test_grey_images_are_noticed():
    """Reference: three equal channels, of every image; not where the user has chosen."""
    level = np.zeros((3, 3, 4, 4), np.uint8)
    data = SimpleNamespace(channels=3, level=lambda resolution: level)
    assert forecast.is_grey(data)
    assert "network.channels=1" in forecast.grey_hint(load_config(), True)[0]
    assert forecast.grey_hint(load_config(None, {"network.channels": 3}), True) == []
    level[2, 1, 0, 0] = 1
    assert not forecast.is_grey(data)


def test_the_resolution_of_the_data(photos, tmp_path):
    """Reference: the fixture's images, of 16 pixels or more; the presets; an older run."""
    said: list[str] = []
    config, _, found = new_run(photos, None, {}, tmp_path / "a", said.append)
    assert len(found) == 24, "what training then takes, so that it is listed once"
    assert config.network.resolution == 16 and said[-1].startswith("16x16: the largest")
    assert new_run(photos, progan.Config(), {}, tmp_path / "a")[0] == config
    given = new_run(photos, "demo", {"network.resolution": 8}, tmp_path / "a", said.append)[0]
    assert given.network.resolution == 8 and len(said) == 1, "nothing was looked at"
    assert new_run(photos, "demo", {}, tmp_path / "a")[0].network.resolution == 32
    assert new_run("celeba", "few-images", {}, tmp_path / "a")[0].network.resolution == 128
    (tmp_path / "old").mkdir()
    before = config.model_copy(update={"network": load_config().network})
    (tmp_path / "old" / "config.yaml").write_text(before.to_yaml())
    assert new_run(photos, None, {}, tmp_path / "old")[0].network.resolution == 128
    with pytest.raises(progan.UserError, match="in these settings, at 16x16 .*start_resolution"):
        new_run(photos, None, {"schedule.start_resolution": 64}, tmp_path / "a")


def test_dry_run_beside_a_run(photos, tmp_path):
    """Reference: what training does there: it goes on, or is refused. All is printed before the
    refusal; nothing is written."""
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run"]
    stopped = options(schedule__learning_rate=0.001)
    new = run(*words, "--dry-run", *stopped)
    assert new.exit_code == 0 and "24 looked at: all can be used" in new.output
    assert "/run: a new run" in new.output and not list(tmp_path.iterdir())
    assert run(*words, *stopped).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    longer = ["train", "--resume", tmp_path / "run", "--dry-run", "-o", "schedule.total_kimg=1"]
    on = run(*longer)
    assert on.exit_code == 0, on.output
    assert "has shown 0.096 kimg, which goes on from there" in on.output
    assert "1 phase left at 8x8, 0.904 of 1 kimg: about" in on.output
    assert on.output.index("8x8 fading") < on.output.index("settings that differ")
    whole = run("train", "--resume", tmp_path / "run", "--dry-run")
    assert "has shown 0.096 kimg, which is complete" in whole.output
    assert whole.exit_code == 0 and "trying some updates" not in whole.output
    other = run(*words, "--dry-run", *options(schedule__learning_rate=0.001, run__seed=7))
    assert other.exit_code == 2 and "8x8 fading" in other.output
    assert "Error: the run would be refused: the run in" in other.output
    assert "run.seed: 0 -> 7" in other.output
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {p for p in after if before.get(p) != after[p]} <= {tmp_path / "run" / ".lock"}


def test_dry_run_says_what_averages_take_on_disk(photos, tmp_path):
    """Reference: a file that training writes, and that it says the same; nothing without them."""
    words = ["train", "--data", photos, "--run-dir", tmp_path / "run"]
    words += options(ema__half_life_kimg="null")
    said = "averages for progan average: at most 60 files of "
    assert said not in run(*words, *options(), "--dry-run").output
    dry, real = (run(*words, "-o", "ema.kind=power", *more).output for more in (["--dry-run"], []))
    (line,) = (line for line in dry.splitlines() if line.startswith(said))
    assert line in real.splitlines()
    size = next((tmp_path / "run" / "averages").iterdir()).stat().st_size
    told = float(re.match(rf"{said}([\d.]+) kB", line)[1]) * 1000
    assert told < size < told + 10_000  # for its header


def test_dry_run_looks_at_the_data(photos, tmp_path):
    """Reference: what preparing would refuse, and what it would leave out."""
    words = ["train", "--run-dir", tmp_path / "run", "--dry-run", *options()]
    missing = run(*words, "--data", tmp_path / "nowhere")
    assert missing.exit_code == 2 and "no such path" in missing.output
    (tmp_path / "mixed").mkdir()
    for i in range(9):
        Image.new("L", (8, 8) if i else (6, 6), i).save(tmp_path / "mixed" / f"{i}.png")
    (tmp_path / "mixed" / "broken.png").write_bytes(b"no image")
    mixed = run(*words, "--data", tmp_path / "mixed")
    assert mixed.exit_code == 0, mixed.output
    assert "10 looked at: 2 would be left out (broken.png" in mixed.output
    assert "6x6 is too small for resolution 8" in mixed.output
    assert "all images are grey" in mixed.output
    more = options(network__resolution=16, schedule__total_kimg=1)
    large = run(*words, "--data", tmp_path / "mixed", *more)
    assert large.exit_code == 2 and "cannot be used at resolution 16" in large.output
    labels = run(*words, "--data", photos, "-o", "data.labels=true")
    assert "24 images of" in labels.output and "2 classes: cats, dogs" in labels.output
    assert not (tmp_path / "run").exists()


def test_lines_by_wall_time(monkeypatch, capsys):
    """Reference: by hand: a line 30 s after the start, then after pauses twice as long, up to ten
    minutes; a tick's line begins a pause anew."""
    clock = [0.0]
    monkeypatch.setattr(console.time, "perf_counter", lambda: clock[0])
    shown = console.Console(1000_000, 0)
    for second in range(0, 3600, 5):
        clock[0] = float(second)
        shown.show(second, str, lambda: f"at {clock[0]:.0f}")  # noqa: B023
        if second == 300:
            shown.tick(second, "tick")
    seen = [line.rpartition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert seen == [
        "at 35",
        "at 100",
        "at 225",
        "tick",
        "at 545",
        "at 1030",
        "at 1635",
        "at 2240",
        "at 2845",
        "at 3450",
    ]


def test_what_the_data_is():
    """Reference: the labels' names."""
    labels = Labels(("cats", "dogs"), np.array([0, 1, 1]))
    said = list(forecast.about_data(load_config(None, {"data.source": "x"}), 3, labels))
    assert said == ["3 images of x", "2 classes: cats, dogs"]
