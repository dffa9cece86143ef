"""The loop: exact resume, kills, signals, what a run writes, several processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import assert_identical, command, flat, load_checkpoint, options
from float64 import compute_in_float64, in_type
from pictures import without_notes
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from progan.cli.main import main
from progan.config.config import Config
from progan.config.load import load_config
from progan.data.decode import Square
from progan.data.pyramid import prepare
from progan.data.sources.find import find
from progan.data.stream import Stream
from progan.metrics.while_training import MetricsDuringTraining
from progan.runs.folder import COMPLETE, differences, write_config
from progan.runs.hold import Hold
from progan.runs.snapshot_file import snapshot_path
from progan.runs.which_run import LOCK
from progan.runtime.errors import UserError
from progan.runtime.progress import has_room
from progan.runtime.stopping import StopRequest
from progan.runtime.text import kimg, short
from progan.training import build
from progan.training.feed import Feed
from progan.training.outputs import Outputs
from progan.training.trainer import Trainer
from progan.training.updates import LossSettings, critic_gradients, generator_gradients


def train(photos: Path, run_dir: Path, **settings) -> str:
    """A run in this process, through the command line's own function; its output."""
    arguments = ["train", "--data", str(photos), "--run-dir", str(run_dir), *options(**settings)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def state(run_dir: Path, ignore: tuple[str, ...] = ("/progress",)) -> dict[str, object]:
    """Everything in the newest checkpoint except wall-clock time."""
    return {k: v for k, v in flat(load_checkpoint(run_dir)).items() if not k.startswith(ignore)}


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory) -> Path:
    """A run of twelve updates without a stop."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    train(photos, run_dir)
    return run_dir


@pytest.mark.parametrize("critic_updates, loss", [(1, "wgan"), (2, "relativistic")])
def test_the_loop_equals_a_plain_one(photos, tmp_path, monkeypatch, critic_updates, loss):
    """Reference: the same twelve steps written out: what is shown when, alpha, a new unfused Adam
    for each phase, rates from a ramp's formula, the average by its formula, statistics as means of
    two steps. The generator's update is at the place of the critic's last one. To rounding in
    float64."""
    compute_in_float64(monkeypatch.setattr)
    whole, size = tmp_path, 8 // critic_updates
    more = {"loss__critic_updates": critic_updates, "schedule__batch_size": size}
    train(photos, whole, loss__adversarial=loss, **more)
    config = load_config(str(whole / "config.yaml"))
    pyramid = prepare.cached(find(str(photos)), Square(8))
    stream, relativistic = Stream(pyramid, seed=0, mirror=True), loss == "relativistic"
    feed = Feed(stream, seed=0, z_dim=8, c_dim=0, relativistic=relativistic)
    G, D = build.make_networks(config, 0, "cpu")
    means: dict[str, list[float]] = {}
    average = {name: tensor.clone() for name, tensor in G.state_dict().items()}

    def update(i, nimg):
        """Of the critic (0) or the generator (1)."""
        r, fading = 4 if nimg < 32 else 8, 32 <= nimg < 64
        alpha = torch.tensor((nimg - 32) / 32) if fading else None
        network, gradients = ((D, critic_gradients), (G, generator_gradients))[i]
        active = network.active_parameters(r, fading)
        batch = (
            feed.generator_batch(nimg, size, r, critic_updates)
            if i
            else feed.critic_batch(nimg, size, r)
        )
        grads, stats = gradients(
            *(G, D, list(active.values()), in_type(batch, torch.float64)),
            alpha=alpha,
            loss=LossSettings(loss),
            **({"resolution": r} if i else {}),
        )
        share = 2 if i else 2 * critic_updates  # the run's ticks are two steps long
        for name, value in stats.items():
            means.setdefault(name, [0.0] * 6)[nimg // 16] += value.item() / share
        for parameter, grad in zip(active.values(), grads, strict=True):
            parameter.grad = grad.contiguous()
        adams[i].param_groups[0]["lr"] = 0.002 - 0.001 * (nimg % 32) / 32
        adams[i].step()
        return active

    for step in range(12):
        if step in (0, 4, 8):
            G.zero_grad(), D.zero_grad()
            adams = [torch.optim.Adam(n.parameters(), betas=(0.0, 0.99), eps=1e-8) for n in (D, G)]
        for nimg in range(8 * step, 8 * step + 8, size):
            update(0, nimg)
        for name, tensor in update(1, nimg).items():
            average[name] += (1 - 0.5 ** (8 / 50)) * (tensor.detach() - average[name])
    trained = load_checkpoint(whole)
    for expected, got in ((G.state_dict(), "G"), (D.state_dict(), "D"), (average, "G_ema")):
        for name, tensor in expected.items():
            torch.testing.assert_close(trained[got][name], tensor, rtol=1e-8, atol=1e-10)
    for name, values in means.items():
        written = [line[name] for line in statistics(whole)]
        np.testing.assert_allclose(written, values, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("updates", [1, 4, 5, 8, 11])
def test_resume_is_exact(photos, whole, tmp_path, monkeypatch, updates):
    """Reference: the run in one go, bit for bit: weights, average, both Adams, statistics.

    Stops within a phase, at both phase boundaries, in mid-fade and in mid-tick (of two updates);
    every stop makes new objects, so whatever a checkpoint forgot would start again and differ.
    """
    stop_after(monkeypatch, updates)
    output = train(photos, tmp_path)
    assert "nothing is lost" in output and f"progan train --resume {tmp_path}" in output
    assert load_checkpoint(tmp_path)["progress"]["nimg"] == 8 * updates
    monkeypatch.undo()
    CliRunner().invoke(main, ["train", "--resume", str(tmp_path)], catch_exceptions=False)
    assert_identical(state(whole), state(tmp_path))
    assert statistics(tmp_path) == statistics(whole)


def test_a_longer_run_goes_on_from_a_short_one(photos, whole, tmp_path, any_end):
    """Reference: the run in one go, bit for bit; total_kimg was raised from 5 updates to 12."""
    train(photos, tmp_path, schedule__total_kimg=0.04)
    train(photos, tmp_path)
    assert_identical(state(whole), state(tmp_path))


def test_a_ramp_to_the_end_cannot_be_stretched(photos, whole):
    """Reference: the rates of the last phase, which would differ at images already shown; with a
    constant rate there the same change is allowed."""
    arguments = ["--data", str(photos), "--run-dir", str(whole), "--dry-run"]
    longer = options(schedule__total_kimg=0.2)
    result = CliRunner().invoke(main, ["train", *arguments[:-1], *longer])
    assert result.exit_code == 2
    assert "schedule.total_kimg: 0.096 -> 0.2 (it may change, but not" in result.output
    constant = options(schedule__learning_rate="{4: {start: 0.002, end: 0.001}, 8: 0.001}")[1::2]
    short = load_config(None, constant)
    long = load_config(None, [*constant, "schedule.total_kimg=0.2"])
    assert differences(short, long) == []
    ramped = load_config(None, options()[1::2])
    in_passes = load_config(None, [*options()[1::2], "schedule.batch_gpu=4"])
    assert differences(ramped, in_passes) == [], "batch_gpu changes no rate"


def stop_after(monkeypatch, updates: int) -> None:
    """Acts as if SIGTERM had come during the given update."""
    asked = iter(range(1, 10**6))

    def signal_seen(self):
        return signal.SIGTERM if next(asked) >= updates else None

    monkeypatch.setattr(
        StopRequest, "signal", property(signal_seen, lambda self, value: None), raising=False
    )


def images(run_dir: Path) -> dict[str, bytes]:
    """Every picture's name and pixels."""
    return {path.name: path.read_bytes() for path in (run_dir / "images").iterdir()}


def statistics(run_dir: Path) -> list[dict]:
    """Lines of stats.jsonl, without clocks and memory."""
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if not k.startswith(("Timing", "Resources"))}
        for line in lines
    ]


def wait_for(happened, process: subprocess.Popen) -> None:
    for _ in range(18000):
        if happened() or process.poll() is not None:
            return
        time.sleep(0.01)
    process.kill()
    process.communicate()
    raise AssertionError("the run did not get there in three minutes")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_finish_the_update_and_save(photos, tmp_path, monkeypatch, number, code):
    """Reference: the documented exit codes. The run is far from its end, so only the signal can
    have ended it; a checkpoint newer than any tick's shows that it was written at the stop."""
    run_dir, step = tmp_path / "run", Trainer.train_step

    def train_step(self, phase):
        if self.progress.nimg == 24:
            os.kill(os.getpid(), number)
        step(self, phase)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    settings = options(schedule__total_kimg=1000, run__checkpoint_ticks=10**6)
    words = ["train", "--data", str(photos), "--run-dir", str(run_dir), *settings]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, result.output
    assert f"go on with: progan train --resume {run_dir}" in result.output
    assert load_checkpoint(run_dir)["progress"]["nimg"] == 32
    assert list(run_dir.glob("snapshots/*.safetensors"))


def test_a_folder_deleted_while_training_can_be_resumed(
    photos, whole, tmp_path, monkeypatch, caplog
):
    """Reference: the run without a fault. The folder is deleted between two ticks; at the next one
    there is all that a resume needs, though no checkpoint was due. It is deleted within a tick, and
    while metrics are measured: what is written then lies in a run, too. The run ends as it would
    have. The first time the current folder is deleted, from which the run's was given."""
    run_dir, update, tick = tmp_path / "here" / "run", Outputs.update, Outputs.tick
    run_dir.parent.mkdir()
    monkeypatch.chdir(run_dir.parent)

    def fault(self, phase, nimg, *more):
        if nimg == 40:
            shutil.rmtree(run_dir.parent)
        if nimg == 56:
            found = sorted(
                path.name for path in run_dir.rglob("*") if path.suffix in (".pt", ".yaml")
            )
            assert found == ["checkpoint-000000.048.pt", "config.yaml"]
            with pytest.raises(UserError, match="another process is training"):
                Hold(run_dir)
        if nimg == 72:
            assert (run_dir / "config.yaml").exists()
        update(self, phase, nimg, *more)

    def fault_in_tick(self, phase, nimg, *more):
        tick(self, phase, nimg, *more)
        if nimg == 64:
            shutil.rmtree(run_dir)

    def measure(self, names, *_):
        shutil.rmtree(run_dir)
        return {names[0]: 1.0}

    monkeypatch.setattr(Outputs, "update", fault)
    monkeypatch.setattr(Outputs, "tick", fault_in_tick)
    monkeypatch.setattr(MetricsDuringTraining, "due", lambda self, tick, last: ["swd16"][:last])
    monkeypatch.setattr(MetricsDuringTraining, "measure", measure)
    said = train(photos, Path("run"), run__checkpoint_ticks=10**6)
    assert "run folder run; samples while it trains: run/images" in said
    assert_identical(state(whole), state(run_dir))
    assert caplog.text.count(f"files in {run_dir} were deleted or moved") == 3
    (run_dir / COMPLETE).unlink()
    monkeypatch.chdir(tmp_path)
    assert "going on from checkpoint-000000.096.pt" in train(photos, run_dir)


def test_what_takes_the_place_of_a_run_is_left_alone(tmp_path):
    """Reference: each thing that may be found where the folder was. Another process, or a run of
    other settings, or one that is further on: refused, and nothing is written. A copy of the run:
    it goes on. The rest of a deletion under way, or all but the checkpoints: config.yaml is back,
    and a checkpoint is due."""
    config, run = load_config(None, []), tmp_path / "run"
    hold = Hold(run)
    write_config(run, config)
    assert not hold.keep(config, 8)
    shutil.copytree(run, tmp_path / "copy")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "checkpoint-000000.008.pt").touch()
    assert not hold.keep(config, 8)
    shutil.rmtree(run / "checkpoints")
    assert hold.keep(config, 8) and not hold.keep(config, 8)
    run.rename(tmp_path / "moved")
    with Hold(run), pytest.raises(UserError, match="place is taken.*another process"):
        hold.keep(config, 8)
    with Hold(tmp_path / "moved"):
        assert [path.name for path in run.iterdir()] == [LOCK]
    write_config(run, load_config(None, ["run.seed=1"]))
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="place is taken(.|\n)*run.seed: 1 -> 0"):
        hold.keep(config, 8)
    assert (run / "config.yaml").read_bytes() == before
    shutil.rmtree(run)
    shutil.copytree(tmp_path / "copy", run)
    assert not hold.keep(config, 8), "a copy is as good"
    shutil.rmtree(run)
    shutil.copytree(tmp_path / "copy", run)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "checkpoint-000000.016.pt").touch()
    with pytest.raises(UserError, match=r"holds checkpoint-000000.016.pt, and .* 0.008 kimg only"):
        hold.keep(config, 8)
    shutil.rmtree(run)
    (run / "images").mkdir(parents=True)
    assert hold.keep(config, 8) and load_config(str(run / "config.yaml")) == config
    hold.close()


def test_what_a_run_writes(photos, tmp_path):
    """Reference: the list in docs/runs.md. A grid a tick and at the start, the reals once a
    resolution, a line a tick, TensorBoard scalars, pictures and config with nimg as their step."""
    run_dir = tmp_path / "run"
    train(photos, run_dir, run__tracker="tensorboard")
    images = sorted(path.name for path in (run_dir / "images").iterdir())
    stamps = [f"{16 * k / 1000:010.3f}" for k in range(7)]
    assert images == [f"fakes-{s}.png" for s in stamps] + ["reals-0004.png", "reals-0008.png"]
    lines = statistics(run_dir)
    assert [line["nimg"] for line in lines] == [16, 32, 48, 64, 80, 96]
    assert [line["Progress/resolution"] for line in lines] == [4, 4, 8, 8, 8, 8]
    assert [line["Progress/alpha"] for line in lines] == [1, 1, 0.5, 1, 1, 1]
    assert {"Loss/D", "Loss/G", "Loss/gradient_penalty", "Loss/scores/real"} <= lines[0].keys()

    events = EventAccumulator(str(run_dir), {"tensors": 0}).Reload()
    assert [e.step for e in events.Tensors("Loss/D")] == [16, 32, 48, 64, 80, 96]
    steps = {tag: [e.step for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    assert steps["Samples/4x4/fakes"] == [0, 16, 32]
    assert steps["Samples/8x8/fakes"] == [48, 64, 80, 96]
    assert steps["Samples/4x4/reals"] == [8]  # after a resolution's first update
    assert steps["Samples/8x8/reals"] == [40]
    texts = {tag: at for tag, at in steps.items() if tag.endswith("/text_summary")}
    names = ("command", "schedule", "settings", "versions")
    assert texts == {f"run/{name}/text_summary": [0] for name in names}
    names = sorted(p.name for p in run_dir.glob("snapshots/*"))
    # Each third tick, and the end of each phase.
    assert names == [f"snapshot-000000.{n}.safetensors" for n in ("032", "048", "064", "096")]
    assert len(list(run_dir.glob("checkpoints/*"))) == 2  # run.keep_checkpoints


def test_ticks_keep_step_with_phases(photos, tmp_path):
    """Reference: by hand, for phases of 32 images and ticks of 24: each phase starts its own count
    and ends with a tick, so no tick mixes two phases or holds a lonely update."""
    train(photos, tmp_path, run__tick_kimg=0.024)
    assert [line["nimg"] for line in statistics(tmp_path)] == [24, 32, 56, 64, 88, 96]


def test_tensorboard_has_no_second_branch(photos, tmp_path):
    """Reference: the run in one go. The first start goes to its end, its newest checkpoint is
    taken away, and the second start shows the same images again: each step must be there once."""
    run_dir = tmp_path / "run"
    train(photos, run_dir, run__tracker="tensorboard")
    sorted((run_dir / "checkpoints").iterdir())[-1].unlink()
    time.sleep(1.1)  # event files are named by the second
    train(photos, run_dir, run__tracker="tensorboard")
    events = EventAccumulator(str(run_dir)).Reload()
    assert [e.step for e in events.Tensors("Loss/D")] == [16, 32, 48, 64, 80, 96]
    assert [e.step for e in events.Tensors("Samples/8x8/fakes")] == [48, 64, 80, 96]
    assert [e.step for e in events.Tensors("run/command/text_summary")] == [0, 81]
    assert [line["nimg"] for line in statistics(run_dir)] == [16, 32, 48, 64, 80, 96]


def test_results_without_checkpoints_are_not_overwritten(whole, tmp_path, monkeypatch):
    """Reference: every file of the run, untouched, after its checkpoints were deleted."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints")
    before = images(tmp_path), statistics(tmp_path), sorted((tmp_path / "snapshots").iterdir())
    monkeypatch.delattr("progan.data.opening.dataset_of")  # it would be refused before
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path), *more])
        assert result.exit_code == 2 and "has snapshots but no checkpoints" in result.output
    after = images(tmp_path), statistics(tmp_path), sorted((tmp_path / "snapshots").iterdir())
    assert after == before


def test_a_total_below_what_was_shown_is_refused(photos, tmp_path, any_end):
    """Reference: the run's config, which must keep its true length."""
    constant = {"schedule__learning_rate": 0.001}
    train(photos, tmp_path, **constant)
    shorter = ["train", "--resume", str(tmp_path), "-o", "schedule.total_kimg=0.04"]
    result = CliRunner().invoke(main, shorter)
    assert result.exit_code == 2 and "has shown 0.096 kimg" in result.output
    assert load_config(str(tmp_path / "config.yaml")).schedule.total_kimg == 0.096


def test_an_old_run_that_ends_below_its_resolution_goes_on(photos, tmp_path, monkeypatch):
    """Reference: as earlier versions began it; a warning says where it ends. No run is made to end
    there by a shorter length."""
    settings = {"schedule__total_kimg": 0.032, "schedule__learning_rate": 0.001}
    with monkeypatch.context() as patch:
        patch.setattr(Config, "shortfall", lambda config: "")
        train(photos, tmp_path / "old", **settings | {"schedule__total_kimg": 0.016})
    assert "warning: the run ends at 4x4, and network" in train(
        photos, tmp_path / "old", **settings
    )
    train(photos, tmp_path / "new", schedule__learning_rate=0.001)
    shorter = ["train", "--resume", str(tmp_path / "new"), "-o", "schedule.total_kimg=0.04"]
    result = CliRunner().invoke(main, shorter)
    assert result.exit_code == 2 and "ends while 8x8 still fades in" in result.output


@pytest.mark.parametrize("left", [0.5, 0.0])
def test_damaged_checkpoint_is_reported_and_the_one_before_used(
    photos, whole, tmp_path, caplog, left
):
    """Reference: the undisturbed run; the newest file is cut in half, or empty."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / COMPLETE).unlink()  # a complete run does not look into its checkpoints
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[: int(newest.stat().st_size * left)])
    train(photos, tmp_path)
    assert newest.name in caplog.text
    assert_identical(state(whole), state(tmp_path))


def test_changed_config_is_refused_with_what_differs(photos, whole, tmp_path):
    """Reference: by hand. Both changed keys are listed, old and new; allowed ones are not."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    arguments = options(network__channel_max=4, run__seed=7, run__tick_kimg=1)
    result = CliRunner().invoke(
        main, ["train", "--data", str(photos), "--run-dir", str(tmp_path), *arguments]
    )
    assert result.exit_code == 2
    assert "network.channel_max: 8 -> 4" in result.output
    assert "run.seed: 0 -> 7" in result.output
    assert "tick" not in result.output
    preview = ["train", "--resume", str(tmp_path), "-o", "run.seed=7", "--dry-run"]
    assert CliRunner().invoke(main, preview).exit_code == 2


def test_other_data_is_refused_on_resume(photos, whole, tmp_path):
    """Reference: a folder with one image changed; the run must not silently learn from both."""
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / COMPLETE).unlink()
    other = tmp_path / "other"
    for path in photos.rglob("*.png"):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.rotate(180).save(other / path.parent.name / path.name)
    arguments = ["train", "--resume", str(tmp_path / "run"), "-o", f"data.source={other}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "not those that this run has been trained on" in result.output


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, int)


def test_labels_make_both_networks_conditional(photos, tmp_path):
    """Reference: two class folders: grids have two rows, cross-entropies are in the statistics."""
    train(photos, tmp_path, data__labels="true")
    line = statistics(tmp_path)[-1]
    assert line["Loss/labels/D"] > 0 and line["Loss/labels/G"] > 0
    height, width, _ = pixels(sorted((tmp_path / "images").glob("fakes-*"))[-1]).shape
    assert height == 2 * 68 + 4 and width > 2 * 68 + 4  # with the classes' names
    assert load_checkpoint(tmp_path)["G"]["blocks.4.dense.weight"].shape[1] == 8 + 2


@pytest.mark.parametrize("name", ["logistic", "r1", "bf16", "grey"])
def test_other_settings_train(photos, tmp_path, name):
    """Reference: finite losses after twelve updates; each changes the weights that come out."""
    settings = {
        "logistic": {"loss__adversarial": "logistic"},
        "r1": {"loss__penalty": "r1"},
        "bf16": {"run__precision": "bf16"},
        "grey": {"network__channels": 1},
    }[name]
    train(photos, tmp_path, **settings)
    line = statistics(tmp_path)[-1]
    assert np.isfinite([line["Loss/D"], line["Loss/G"], line["Loss/gradient_penalty"]]).all()
    with Image.open(tmp_path / "images" / "reals-0008.png") as picture:
        assert picture.mode == ("L" if name == "grey" else "RGB")


def test_samples_equal_the_grid_that_training_showed(whole, tmp_path):
    """Reference: the PNG written in training, in mid-fade (alpha 0.5) and at the end: equal to one
    grey level, but for the seeds below the images."""
    for nimg in (48, 96):
        snapshot = snapshot_path(whole, nimg)
        out = tmp_path / snapshot.stem
        words = ["sample", str(snapshot), "--grid", "--out", str(out)]
        assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
        (made,) = out.iterdir()
        shown = whole / "images" / made.name.replace("grid", "fakes")
        assert np.abs(without_notes(pixels(made)) - pixels(shown)).max() <= 1


def test_no_terminal_no_bar(photos, tmp_path):
    """Reference: plain lines with kimg, resolution, losses, images/s and time left, no control
    characters; before them, what is to come."""
    output = train(photos, tmp_path)
    assert "3 phases from 4x4 to 8x8, 0.096 kimg: about " in output.partition("0.016/0.096")[0]
    line = next(line for line in output.splitlines() if line.startswith("0.016/0.096 kimg"))
    assert "4x4" in line and "D " in line and "img/s" in line and "left" in line
    assert "\r" not in output and "\x1b" not in output


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_progress_bar_on_a_terminal(photos, tmp_path):
    """Reference: a real pseudo-terminal shows a bar that reaches the end."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    process = subprocess.Popen(
        command("train", "--data", photos, "--run-dir", tmp_path, *options()),
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            seen += os.read(leader, 4096)
        except OSError:  # the process has closed its side
            break
    assert process.wait() == 0
    text = seen.decode()
    assert "0.096/0.096 kimg" in text and "\r" in text and "img/s" in text


def test_a_terminal_without_columns_gets_lines(monkeypatch):
    """Reference: the size that some containers give their terminals: 0 rows of 0 columns."""
    leader, follower = os.openpty()
    with open(follower, "w") as terminal:
        assert terminal.isatty() and not has_room(terminal)
        termios.tcsetwinsize(follower, (24, 80))
        assert has_room(terminal)
    os.close(leader)
    assert not has_room(terminal), "it is closed"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (0.00432, "0.0043"),
        (0.43, "0.43"),
        (7.64, "7.6"),
        (76.4, "76"),
        (1234.5, "1,234"),
    ],
)
def test_figures_say_something(number, text):
    """Reference: two digits, or all before the point; and nothing rounds to 0 but 0. The longer a
    run, the fewer decimals its kimg have."""
    assert short(number) == text
    shown = [(8, 96), (0, 96), (40_000, 96_000), (8, 6_600_000), (6_600_000, 6_600_000)]
    assert [kimg(*each) for each in shown] == ["0.008", "0.0", "40.00", "0.008", "6600.0"]


def test_one_process_at_a_time_in_a_run(photos, whole, tmp_path):
    """Reference: the lock held here, as by another start; refused before anything is touched."""
    whole = shutil.copytree(whole, tmp_path / "run")
    (whole / COMPLETE).unlink()
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    with Hold(whole):
        arguments = ["train", "--data", str(photos), "--run-dir", str(whole), *options()]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "another process is training" in result.output
    after = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if p.name != LOCK} == {
        p: t for p, t in before.items() if p.name != LOCK
    }


def test_a_flipped_bit_is_noticed(photos, whole, tmp_path, caplog):
    """Reference: the undisturbed run; in the newest checkpoint one bit of a weight is flipped,
    which torch alone would load silently."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / COMPLETE).unlink()  # a complete run does not look into its checkpoints
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    data = bytearray(newest.read_bytes())
    weight = load_checkpoint(tmp_path)["D"]["blocks.4.conv.weight"]
    data[bytes(data).index(weight.numpy().tobytes()) + 5] ^= 1
    newest.write_bytes(data)
    train(photos, tmp_path)
    assert "checksum" in caplog.text and newest.name in caplog.text
    assert_identical(state(whole), state(tmp_path))


def test_an_abandoned_branch_leaves_nothing_behind(photos, tmp_path):
    """Reference: by hand. A whole run's newest checkpoint is lost, and the run is cut short at the
    one before: grids and snapshots of images that were not shown in it are gone."""
    settings = {"schedule__learning_rate": 0.001, "run__snapshot_ticks": 1}
    train(photos, tmp_path, **settings)
    sorted((tmp_path / "checkpoints").iterdir())[-1].unlink()
    train(photos, tmp_path, **settings, schedule__total_kimg=0.08)
    assert sorted(images(tmp_path))[-3] == "fakes-000000.080.png"
    newest = sorted((tmp_path / "snapshots").iterdir())[-1]
    assert newest.name == "snapshot-000000.080.safetensors"


def test_divergence_stops_and_keeps_the_checkpoints(photos, tmp_path):
    """Reference: a learning rate that must overflow. What is not finite reaches no weight and no
    checkpoint."""
    settings = options(schedule__learning_rate=1e9, schedule__total_kimg=2)
    arguments = ["train", "--data", str(photos), "--run-dir", str(tmp_path), *settings]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "gradients that are not finite" in result.output
    assert "lower schedule.learning_rate" in result.output
    files = list((tmp_path / "checkpoints").glob("*.pt"))
    assert files
    for path in files:
        tensors = flat(torch.load(path, weights_only=True))
        assert all(torch.isfinite(t).all() for t in tensors.values() if torch.is_tensor(t))


def test_other_labels_are_other_data(photos, tmp_path):
    """Reference: the same pictures in the same order, one of them in the other class. The run goes
    on with those of before, which the cache still has, whatever settings made them."""
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    train(folder, tmp_path / "run", data__labels="true", data__fit="pad")
    (tmp_path / "run" / "complete").unlink()  # a complete run does not look at its data
    first = min((folder / "dogs").iterdir())
    first.rename(folder / "cats" / "zz.png")
    result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path / "run")])
    assert result.exit_code == 2 and "not those that this run" in result.output
    first_config = (tmp_path / "run" / "config.yaml").read_text()
    elsewhere = ["train", "--resume", str(tmp_path / "run"), "-o", f"data.source={photos}/cats"]
    assert CliRunner().invoke(main, elsewhere).exit_code == 2
    assert (tmp_path / "run" / "config.yaml").read_text() == first_config
    kept = re.search(r"those are still prepared: -o (data.source=\S+) goes on", result.output)
    again = CliRunner().invoke(main, [*elsewhere[:-1], kept[1]])
    assert again.exit_code == 0, again.output


def test_reals_are_shown_where_nothing_fades(photos, tmp_path):
    """Reference: two resolutions without a fade between them: still a picture of each."""
    train(photos, tmp_path, schedule__fade_kimg=0)
    assert {"reals-0004.png", "reals-0008.png"} <= images(tmp_path).keys()
