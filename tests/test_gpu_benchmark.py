"""`benchmarks/gpu.py` on a CPU: GPUs are rented by the minute, so it must work at once."""

import argparse
import importlib
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from progan.config.load import load_config
from progan.runtime.accelerator import make_accelerator

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
gpu, gpu_parts = (importlib.import_module(name) for name in ("gpu", "gpu_parts"))

HOURS = 10_000.0  # seconds; on a busy machine a part takes long
SMALL = ["network.resolution=8", "network.z_dim=8", "network.channel_base=64"]
SMALL += ["network.channel_max=8", "schedule.batch_size=8", "run.precision=fp32"]


@pytest.fixture(scope="module")
def setup(photos):
    made = gpu_parts.Setup(
        config=load_config(None, SMALL),
        accelerator=make_accelerator(Path("."), None),
        resolutions=[4, 8],
        data=str(photos),
        phase_kimg=0.032,
    )
    yield made
    made.feed.stream.close()


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch):
    monkeypatch.setattr("progan.training.bench.REPEATS", {0.0: 2})
    monkeypatch.setattr(gpu_parts, "STEPS", 3)


@pytest.fixture
def report(setup, tmp_path):
    return gpu.Report(tmp_path / "gpu.json", setup)


def found(report, part: str) -> dict:
    """A part's measurements in the file, without its totals; none may have failed."""
    figures = json.loads(report.file.read_text())["parts"][part]
    assert figures.pop("all")["seconds"] > 0
    assert not [name for name, each in figures.items() if "error" in each], figures
    return figures


def test_eager(setup, report):
    """Reference: the schedule's phases, the stable ones first."""
    gpu.run("eager", setup, report, HOURS)
    figures = found(report, "eager")
    names = ["4x4 stable", "8x8 stable", "8x8 fading"]
    assert list(figures) == [f"{name}, cudnn.benchmark=True" for name in names]
    assert all(each["images_per_sec"] > 0 and not each["compiled"] for each in figures.values())


def test_values(setup, report, monkeypatch):
    """Reference: the tolerances of `progan doctor`. The compiler, which takes a minute, is left
    out: what it says is kept, and the rest is there."""

    def no_compiler(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(gpu_parts, "compiled_gradients", no_compiler)
    gpu.run("values", setup, report, HOURS)
    figures = json.loads(report.file.read_text())["parts"]["values"]
    states = {name: each["state"] for name, each in figures.items() if "state" in each}
    assert states == dict.fromkeys(["eager, fp32", "eager, bf16", "determinism"], "good")
    assert figures["own widths, fp32"]["D 8x8"] < 1e-3
    assert figures["compiled, bf16"]["error"] == "RuntimeError: no compiler"
    assert "no_compiler" in "\n".join(figures["compiled, bf16"]["traceback"])


def test_profile(setup, report):
    """Reference: a CPU has no kernels; its operators, convolutions among them, are listed
    instead."""
    gpu.run("profile", setup, report, HOURS)
    figures = found(report, "profile")["8x8 stable"]
    assert figures["busy_share"] == 0 and figures["launches_a_step"] == 0
    assert any("convolution" in operator["name"] for operator in figures["top"])
    assert all(operator["ms"] >= 0 for operator in figures["top"])
    assert 0 < figures["feed_ms"] < figures["host_ms"] and figures["step_ms"] > 0


def event(name: str, start: float, end: float, kind=DeviceType.CUDA, annotation=False):
    span = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
    return SimpleNamespace(
        name=name,
        time_range=span,
        device_type=kind,
        is_user_annotation=annotation,
        self_cpu_time_total=end - start,
    )


def test_events_of_a_gpu():
    """Reference: by hand. Kernels that overlap count once, copies are no launches, and annotations
    of a time range are no work."""
    events = [
        event("Optimizer.step", 0, 100, annotation=True),
        event("aten::mm", 0, 90, DeviceType.CPU),
        event("gemm", 0, 30),
        event("gemm", 20, 40),
        event("nchwToNhwcKernel", 60, 70),
        event("Memcpy HtoD (Pinned -> Device)", 70, 80),
    ]
    figures = gpu_parts.read_events(events)
    assert figures["busy_ms"] == pytest.approx(0.060 / 3)
    assert figures["launches_a_step"] == pytest.approx(3 / 3)
    (copy,), (layout,) = figures["copies"], figures["layout_conversions"]
    assert copy["ms"] == layout["ms"] == pytest.approx(0.010 / 3)
    first = figures["top"][0]
    assert (first["name"], first["share"]) == ("gemm", pytest.approx(50 / 70))
    assert first["count"] == pytest.approx(2 / 3)


def test_images_and_host(photos, tmp_path, capsys):
    """Reference: both layers, precisions and layouts, draws four ways; through the command, whose
    last line is what the file has."""
    file = tmp_path / "gpu.json"
    words = [part for setting in SMALL for part in ("-o", setting)]
    words += ["--parts", "images,host", "--resolutions", "8", "--json", str(file)]
    gpu.main([*words, "--data", str(photos)])
    content = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == content
    assert content["under_way"] is None
    layers = content["parts"]["images"]["8x8 stable"]
    assert layers.pop("seconds") >= 0 and len(layers) == 2 * 2 * 2
    assert all(ms > 0 for layer in layers.values() for ms in layer.values())
    ways = ["ahead, pinned", "ahead", "at once, pinned", "at once"]
    hosts = content["parts"]["host"]
    assert list(hosts) == [f"8x8 stable, {way}" for way in ways] + ["all"]
    assert all(hosts[f"8x8 stable, {way}"]["feed_ms"] > 0 for way in ways)


def test_draws_at_once_are_the_same(setup):
    """Reference: those made ahead."""
    made = setup.feed.critic_batch(16, 8, 8)
    at_once = gpu_parts.AtOnce(setup.feed.draw_for_critic).take(16, 8)
    assert torch.equal(made.z, at_once["z"]) and torch.equal(made.mix, at_once["mix"])


@pytest.mark.slow
def test_train(setup, report):
    """Reference: the schedule: three phases of four updates, of which two come before going on."""
    gpu.run("train", setup, report, HOURS)
    figures = found(report, "train")
    assert [each["exit_code"] for each in figures.values()] == [0, 0]
    assert [each["kimg"] for each in figures.values()] == [0.064, 0.096]
    assert figures["gone on"]["last_ticks"]["8x8"]["Timing/images_per_sec"] > 0
    said = "\n".join(figures["gone on"]["output"])
    assert "going on from" in said and "done;" in said


def test_losses_that_are_not_finite(tmp_path):
    """Reference: statistics as a run writes them, without what was not finite."""
    file = tmp_path / "stats.jsonl"
    tick = {"Progress/kimg": 1.5, "Progress/resolution": 4, "Loss/skipped": 2, "Loss/G": 0.5}
    file.write_text(2 * (json.dumps(tick | {"Timing/images_per_sec": 9}) + "\n"))
    figures = gpu_parts.statistics_of(file)
    assert figures["skipped"] == 4
    assert figures["last_ticks"]["4x4"]["Loss/G"] == 0.5
    assert figures["last_ticks"]["4x4"]["Loss/D"] is None


def test_a_run_that_fails_is_told(tmp_path):
    """Reference: the exit code of a user's mistake, and its message."""
    figures = gpu_parts.progan_train(["--config", tmp_path / "nowhere"], tmp_path / "run")
    assert figures["exit_code"] == 2
    assert "nowhere" in "\n".join(figures["output"])


@pytest.mark.slow  # the real compiler
def test_compiled(setup, report):
    """Reference: eager gradients, up to float32's rounding; no compilation after the first."""
    four = gpu_parts.Setup(setup.config, setup.accelerator, [4], "demo", 0.032)
    gpu.run("compiled", four, report, HOURS)
    four.feed.stream.close()
    figures = found(report, "compiled")["4x4 stable"]
    assert figures["seconds_to_compile"] > 1 and figures["recompiles"] == 0
    assert all(0 < error < 1e-4 for error in figures["compiled_off_eager"].values())
    assert figures["eager_off_fp32"] == {"D": 0, "G": 0}
    assert figures["ratio"] > 0


def fake(report, *names: str, fails: str = "", tick=lambda: None):
    """A part. Its measurements look at the file, which must name them."""

    def measure(name: str):
        assert json.loads(report.file.read_text())["under_way"] == f"fake: {name}"
        tick()
        if name == fails:
            raise ValueError(f"{name} broke")
        return {"figure": float("nan")}

    def part(_):
        for name in names:
            yield name, partial(measure, name)
        if not fails:
            raise RuntimeError("between measurements")

    return part


def test_what_fails_ends_nothing_else(setup, report, monkeypatch, capsys):
    """Reference: the measurements that do not fail, before and after one that does; a part that
    fails itself is reported; values that are not finite are null."""
    monkeypatch.setitem(gpu.PARTS, "fake", fake(report, "one", "two", "three", fails="two"))
    gpu.run("fake", setup, report, HOURS)
    content = json.loads(report.file.read_text())
    figures = content["parts"]["fake"]
    assert figures["one"]["figure"] is figures["three"]["figure"] is None
    assert figures["two"]["error"] == "ValueError: two broke"
    assert "fake: two: (error ValueError: two broke" in capsys.readouterr().out
    monkeypatch.setitem(gpu.PARTS, "fake", fake(report, "four"))
    gpu.run("fake", setup, report, HOURS)
    figures = json.loads(report.file.read_text())["parts"]["fake"]
    assert figures["failed"]["error"] == "RuntimeError: between measurements"
    assert figures["four"]["figure"] is None


def test_what_is_left_out_is_told(setup, report, monkeypatch, capsys):
    """Reference: by hand: with a minute for measurements of 40 s each, the second one starts and
    finishes, the others do not start."""
    now = [0.0]
    part = fake(report, *"abcd", fails="none", tick=lambda: now.append(now[-1] + 40))
    monkeypatch.setitem(gpu.PARTS, "fake", part)
    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: now[-1]))
    gpu.run("fake", setup, report, 60)
    figures = json.loads(report.file.read_text())["parts"]["fake"]
    assert list(figures) == ["a", "b", "left out, as the time was over", "all"]
    assert figures["left out, as the time was over"] == ["c", "d"]
    assert "left out, as the time was over" in capsys.readouterr().out


def test_a_disk_that_fails_ends_nothing(setup, report, capsys):
    """Reference: a folder in the file's place, which cannot be replaced by a file."""
    report.file.unlink(missing_ok=True)
    report.file.mkdir()
    report.add("part", "name", {"figure": 1.5})
    out = capsys.readouterr().out
    assert "part: name: (figure 1.5)" in out and str(report.file) in out


def test_an_unknown_part_is_refused():
    """Reference: the names of the parts."""
    with pytest.raises(argparse.ArgumentTypeError, match="no parts: eagre"):
        gpu.parts("eagre,values")
