"""The parts of `gpu.py`: each yields measurements, as a name and a function."""

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from progan.config.config import Config
from progan.config.resolutions import resolutions_to
from progan.config.schedule import Phase
from progan.doctor import numbers
from progan.doctor.checks import Size, compiled_gradients
from progan.doctor.finding import Finding
from progan.doctor.numbers import Networks, against_float64, precisions, relative_error, twice
from progan.model.growing import channels_at
from progan.model.layers import EqualizedConv2d
from progan.model.networks import Critic, Generator
from progan.runtime import memory
from progan.runtime.device import synchronize, timed
from progan.runtime.numerics import computing_in
from progan.runtime.speeds import known_peak, resolve_precision
from progan.training import compile as compiling
from progan.training.bench import Noise, measure_phase, middle_of, time_whole
from progan.training.build import make_average, make_feed, make_loss, make_networks
from progan.training.feed import Feed
from progan.training.step import Step
from progan.training.updates import critic_gradients, generator_gradients

Figures = dict[str, Any]
Measurements = Iterator[tuple[str, Callable[[], Figures]]]
PROFILED = 3  # steps
TOP = 15  # kernels
STEPS = 30  # to time the host's work
HUNG = 600  # seconds after which a run is killed
LAYOUTS = ("nchwtonhwc", "nhwctonchw", "transpose")  # parts of kernels' names, in any case


@dataclass(frozen=True)
class Setup:
    """Settings of all parts."""

    config: Config
    accelerator: Accelerator
    resolutions: list[int] | None  # None: each part's own
    data: str  # images for the real run
    phase_kimg: float  # length of the real run's phases

    @cached_property
    def feed(self) -> Feed:
        """A feed of noise."""
        return make_feed(self.config, Noise(self.config), self.accelerator)

    @cached_property
    def networks(self) -> tuple[Generator, Critic]:
        """Networks on the CPU. Each step copies them, as making them takes seconds."""
        return make_networks(self.config, self.feed.c_dim, "cpu")

    @cached_property
    def precision(self) -> str:
        return resolve_precision(self.config.run.precision, self.accelerator)

    @cached_property
    def peak_tflops(self) -> float | None:
        return known_peak(self.accelerator.device, self.precision)[0]

    def step(self) -> Step:
        """A new step: nothing trained, nothing compiled."""
        G, D = copy.deepcopy(self.networks)
        G, D = G.to(self.accelerator.device), D.to(self.accelerator.device)
        averages, interval = make_average(self.config, G), self.config.loss.penalty_interval
        loss = make_loss(self.config)
        return Step(G, D, loss, self.accelerator, self.precision, averages, interval)

    def phases(self, *own: int) -> list[Phase]:
        """Phases of the schedule at the requested resolutions, else at a part's own."""
        wanted = self.resolutions or own
        return [p for p in self.config.make_schedule().phases if p.resolution in wanted]

    def stable(self, *own: int) -> list[Phase]:
        return [phase for phase in self.phases(*own) if not phase.fading]


def values(setup: Setup) -> Measurements:
    """Compare both networks' gradients with float64 on the CPU: as in `progan doctor`, and with
    this config's own widths, for which other kernels may be chosen."""
    device, small = setup.accelerator.device, Networks()
    kinds = sorted(precisions(device), key=lambda kind: kind != setup.precision)  # its own first
    for precision in kinds:
        check = partial(against_float64, small, (8, 32), device, precision)
        yield f"eager, {precision}", partial(finding, check)
    yield "determinism", partial(finding, partial(twice, small, 32, device, setup.precision))
    for precision in kinds:
        yield f"own widths, {precision}", partial(measure_errors, setup, precision)
    for precision in kinds:  # last, as it may take a minute each
        check = partial(compiled_gradients, Size(), device, precision, time.monotonic())
        yield f"compiled, {precision}", partial(finding, check)


def finding(check: Callable[[], Finding]) -> Figures:
    return vars(check())


def measure_errors(setup: Setup, precision: str) -> Figures:
    """Errors without a bound: with 512 channels float32 itself may be off by 5e-4 at 32x32, as
    rounding changes the sign of some numbers near 0, where a leaky ReLU has its kink."""
    network, figures = setup.config.network, {}
    own = Networks(network.channel_base, network.channel_max, network.z_dim)
    for r in (8, 32):
        found = numbers.gradients(own, r, 0, setup.accelerator.device, precision)
        for name, error in errors(found, numbers.reference(own, r, 0)).items():
            figures[f"{name} {r}x{r}"] = error
    return figures


def eager(setup: Setup) -> Measurements:
    """Measure images/s, memory and TFLOP/s of each phase, stable phases first, with and without
    cuDNN's search for its fastest algorithms."""
    phases = sorted(setup.phases(*resolutions_to(1024)), key=lambda phase: phase.fading)
    for searching in (True, False) if setup.accelerator.device.type == "cuda" else (True,):
        for phase in phases:
            name = f"{phase}, cudnn.benchmark={searching}"
            yield name, partial(measure_eager, setup, phase, searching)


def measure_eager(setup: Setup, phase: Phase, searching: bool) -> Figures:
    with cudnn_searching(searching):
        figures = measure_phase(setup.step(), setup.feed, phase, setup.peak_tflops)
    return {**asdict(figures), **reserved(setup.accelerator.device)}


@contextmanager
def cudnn_searching(wanted: bool) -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def reserved(device: torch.device) -> Figures:
    """Peak of the GPU memory that torch has reserved. With cuDNN's search a large card may show
    more than a small one would need, as the search tries algorithms that need much memory."""
    on_gpu = device.type == "cuda"
    return {"reserved_gb": torch.cuda.max_memory_reserved(device) / 2**30} if on_gpu else {}


def compiled(setup: Setup) -> Measurements:
    """Compare compiled with eager: seconds to compile, gradients, speed, memory, recompilations."""
    for phase in setup.phases(4, 32, 128, 1024):
        if phase.fading == (phase.resolution == 32):
            yield str(phase), partial(measure_compiled, setup, phase)


def measure_compiled(setup: Setup, phase: Phase) -> Figures:
    """Measure one phase; gradients first, before anything is trained. In the run's precision both
    compiled and eager ones may be off; float32 on the same device shows how far."""
    step, feed = setup.step(), setup.feed
    step.begin(phase, restart=True)
    with patch.object(step, "precision", "fp32"):
        exact = gradients(step, feed, phase)
    eager_ones = gradients(step, feed, phase)
    with empty_compiler_cache():
        seconds, begun = compile_now(step), compilations()
        compiled_ones = gradients(step, feed, phase)
        compiled_speed = speed(step, feed, phase)
        recompiles = compilations() - begun
    step.begin(phase, restart=True)  # eager again
    eager_speed = speed(step, feed, phase)
    return {
        "seconds_to_compile": seconds,
        "recompiles": recompiles,
        "compiled": compiled_speed,
        "eager": eager_speed,
        "ratio": compiled_speed["images_per_sec"] / eager_speed["images_per_sec"],
        "compiled_off_eager": errors(compiled_ones, eager_ones),
        "compiled_off_fp32": errors(compiled_ones, exact),
        "eager_off_fp32": errors(eager_ones, exact),
    }


def compile_now(step: Step) -> float:
    """Seconds until both updates have been compiled and run. Unlike in training, a failure raises:
    an error is a result, too."""
    start = time.perf_counter()
    functions = compiling.compiled(critic_gradients, generator_gradients)
    step.critic_gradients, step.generator_gradients = functions
    step.try_out()
    synchronize(step.accelerator.device)
    return time.perf_counter() - start


@contextmanager
def empty_compiler_cache() -> Iterator[None]:
    """Makes compiling take its full time."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        patch.dict("os.environ", dict.fromkeys((compiling.FOLDER, "TRITON_CACHE_DIR"), folder)),
        patch.object(compiling, "CHOSEN", True),
    ):
        yield


def compilations() -> int:
    """Number of graphs compiled so far."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def gradients(step: Step, feed: Feed, phase: Phase) -> dict[str, list[Tensor]]:
    """Gradients of both networks in the middle of the phase, copied to the CPU."""
    nimg, n = middle_of(phase), phase.batch_size
    step.set_progress(nimg)
    found = {
        "D": step.D_gradients(feed.critic_batch(nimg, n, phase.resolution), penalty=True)[0],
        "G": step.G_gradients(feed.generator_batch(nimg, n, phase.resolution))[0],
    }
    return {name: [grad.cpu() for grad in grads] for name, grads in found.items()}


def errors(found: dict[str, list[Tensor]], expected: dict[str, list[Tensor]]) -> dict[str, float]:
    return {name: relative_error(found[name], expected[name]) for name in found}


def speed(step: Step, feed: Feed, phase: Phase) -> Figures:
    """Images/s and memory of whole steps."""
    device = step.accelerator.device
    memory.release(device)
    memory.reset_peak(device)
    rate = phase.batch_size / time_whole(step, feed, phase)
    peak = memory.peak(device)
    figures = {"images_per_sec": rate, "peak_memory_gb": peak and peak / 2**30}
    return figures | reserved(device)


def profiled(setup: Setup) -> Measurements:
    """Profile three eager steps: what the device does, and whether it waits for the host."""
    for phase in setup.stable(4, 128, 1024):
        yield str(phase), partial(measure_profiled, setup, phase)


def measure_profiled(setup: Setup, phase: Phase) -> Figures:
    step, device = setup.step(), setup.accelerator.device
    step.begin(phase, restart=True)
    times = time_steps(step, setup.feed, phase, PROFILED)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    for _ in range(2):  # the first time starts the profiler
        with profile(activities=kinds, acc_events=True) as profiler:
            train(step, setup.feed, phase, PROFILED)
            synchronize(device)
    figures = read_events(list(profiler.events()))
    # The share uses steps that are not profiled, as profiling slows the host.
    return {**times, "busy_share": figures["busy_ms"] / times["step_ms"], **figures}


def read_events(events: list[Any]) -> Figures:
    """Figures from the device's events if it has any, else from the operators on the CPU."""
    events = [event for event in events if not event.is_user_annotation]
    on_device = [event for event in events if event.device_type != DeviceType.CPU]
    copies = [e for e in on_device if e.name.startswith(("Memcpy", "Memset"))]
    layouts = [e for e in on_device if any(name in e.name.lower() for name in LAYOUTS)]
    recasts = [e for e in on_device if "direct_copy" in e.name]  # to another type or layout
    return {
        "busy_ms": busy(on_device) / 1000 / PROFILED,
        "launches_a_step": (len(on_device) - len(copies)) / PROFILED,
        "copies": summed(copies),
        "layout_conversions": summed(layouts),
        "recasts": summed(recasts),
        "top": summed(on_device or events, TOP),
    }


def busy(events: list[Any]) -> float:
    """Microseconds during which at least one event was under way."""
    total = until = 0.0
    for start, end in sorted((e.time_range.start, e.time_range.end) for e in events):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def summed(events: list[Any], top: int | None = None) -> list[Figures]:
    """Count, time per step and share of all events by name, the longest first."""
    times: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for event in events:
        on_cpu = event.device_type == DeviceType.CPU
        own = event.self_cpu_time_total if on_cpu else event.time_range.elapsed_us()
        times[event.name] += own / 1000 / PROFILED
        counts[event.name] += 1
    whole = sum(times.values()) or 1.0
    return [
        {"name": name, "count": counts[name] / PROFILED, "ms": ms, "share": ms / whole}
        for name, ms in times.most_common(top)
    ]


def train(step: Step, feed: Feed, phase: Phase, steps: int) -> float:
    """Train whole steps without waiting for the device. Returns the seconds spent on getting their
    batches."""
    nimg, n, seconds = middle_of(phase), phase.batch_size, 0.0
    for i in range(steps):
        step.set_progress(nimg)
        start = time.perf_counter()
        for_critic = feed.critic_batch(nimg + i * n, n, phase.resolution)
        for_generator = feed.generator_batch(nimg + i * n, n, phase.resolution)
        seconds += time.perf_counter() - start
        step.update_critic(for_critic)
        step.update_generator(for_generator)
        step.average()
    return seconds


def time_steps(step: Step, feed: Feed, phase: Phase, steps: int) -> Figures:
    """Milliseconds per step: of device and host together, of the host until it has launched all
    work, and, as part of that, of getting the batches.

    The host is timed in single steps: if the device lags by several, the host waits for its queue.
    """
    device = step.accelerator.device
    train(step, feed, phase, 3)  # allocates memory, chooses kernels
    whole = timed(lambda: train(step, feed, phase, steps), device) / steps
    host = fed = 0.0
    for _ in range(steps):
        synchronize(device)
        start = time.perf_counter()
        fed += train(step, feed, phase, 1) / steps
        host += (time.perf_counter() - start) / steps
    return {"step_ms": 1000 * whole, "host_ms": 1000 * host, "feed_ms": 1000 * fed}


def images(setup: Setup) -> Measurements:
    """Time the layers from and to images: forward and weight gradients, in each precision, with
    channels last and first."""
    for phase in setup.stable(128, 256, 512, 1024):
        yield str(phase), partial(measure_image_layers, setup, phase)


def measure_image_layers(setup: Setup, phase: Phase) -> Figures:
    network, device, r = setup.config.network, setup.accelerator.device, phase.resolution
    width = channels_at(r, network.channel_base, network.channel_max)
    figures = {}
    for precision in precisions(device):
        features = torch.bfloat16 if precision == "bf16" else torch.float32
        layers = {
            "from_rgb": (network.channels, width, torch.float32),
            "to_rgb": (width, network.channels, features),
        }
        for name, (inputs, outputs, dtype) in layers.items():
            layer = EqualizedConv2d(inputs, outputs, 1).to(device)
            x = torch.randn(phase.batch_size, inputs, r, r, device=device, dtype=dtype)
            for layout in (torch.channels_last, torch.contiguous_format):
                with computing_in(precision, device):
                    times = time_layer(layer, x.contiguous(memory_format=layout))
                figures[f"{name}, {precision}, {str(layout).removeprefix('torch.')}"] = times
    return figures


def time_layer(layer: EqualizedConv2d, x: Tensor) -> Figures:
    out = layer(x)
    towards = torch.ones_like(out)
    weights = list(layer.parameters())

    def gradient() -> None:
        torch.autograd.grad(out, weights, towards, retain_graph=True)

    works = {"forward_ms": lambda: layer(x), "weight_gradient_ms": gradient}
    return {name: milliseconds(work, x.device) for name, work in works.items()}


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Milliseconds per call in the best of three rounds; within a round, launches overlap."""

    def round_of(calls: int) -> float:
        return 1000 * timed(lambda: [work() for _ in range(calls)], device) / calls

    round_of(2)  # allocates memory, chooses kernels
    return min(round_of(10) for _ in range(3))


def host(setup: Setup) -> Measurements:
    """Time random draws and their copies on the host: made ahead or at once, pinned or not."""
    for phase in setup.stable(4, 32, 128):
        for ahead in (True, False):
            for pinned in (True, False):
                how = ("ahead" if ahead else "at once") + (", pinned" if pinned else "")
                yield f"{phase}, {how}", partial(measure_host, setup, phase, ahead, pinned)


def measure_host(setup: Setup, phase: Phase, ahead: bool, pinned: bool) -> Figures:
    """Measure one phase. Images are read ahead in every case."""
    with ExitStack() as stack:
        if not pinned:
            for module in ("progan.data.stream", "progan.training.feed"):
                stack.enter_context(patch(f"{module}.pinned", not_pinned))
        feed = make_feed(setup.config, Noise(setup.config), setup.accelerator)
        stack.enter_context(closing(feed.stream))
        if not ahead:
            stack.enter_context(patch.object(feed, "_for_critic", AtOnce(feed.draw_for_critic)))
            of_generator = AtOnce(feed.draw_for_generator)
            stack.enter_context(patch.object(feed, "_for_generator", of_generator))
        step = setup.step()
        step.begin(phase, restart=True)
        return time_steps(step, feed, phase, STEPS)


class AtOnce:
    """Replaces `data.ahead.Ahead`, but draws only when asked."""

    def __init__(self, make: Callable[..., Any]):
        self.make = make

    def take(self, nimg: int, batch_size: int, stride: int | None = None) -> Any:
        return self.make(nimg, batch_size)


def not_pinned(values: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(values)


def real_run(setup: Setup) -> Measurements:
    """Run `progan train` with short phases until its last fade ends, and resume it to the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run_dir, config = Path(folder) / "run", Path(folder) / "config.yaml"
        short = short_run(setup, Path(folder) / "cache")
        config.write_text(short.to_yaml(), encoding="utf-8")
        whole = short.make_schedule()
        last_fade = [phase for phase in whole.phases if phase.fading][-1]
        begin = ["--config", config, "--run-dir", run_dir]
        begin += ["-o", f"schedule.total_kimg={last_fade.end_nimg / 1000}"]
        go_on = ["--resume", run_dir, "-o", f"schedule.total_kimg={whole.total_nimg / 1000}"]
        yield "begun", partial(progan_train, begin, run_dir)
        yield "gone on", partial(progan_train, go_on, run_dir)


def short_run(setup: Setup, cache: Path) -> Config:
    """Config with the same networks and batches, but no larger than the images."""
    content = setup.config.model_dump()
    largest = 32 if setup.data == "demo" else 128
    content["network"]["resolution"] = min(setup.config.network.resolution, largest)
    content["data"] |= {"source": setup.data, "cache": str(cache)}
    content["data"] |= {"allow_upscale": True, "max_images": 5000}
    kimg = setup.phase_kimg
    content["schedule"] |= {"stable_kimg": kimg, "fade_kimg": kimg, "total_kimg": None}
    content["run"] |= {"tick_kimg": kimg / 2, "tracker": None}
    return Config(**content)


def progan_train(words: list[Any], run_dir: Path) -> Figures:
    """Run `progan train` in a new process, as a user would."""
    log = run_dir.with_name("output")
    command = [sys.executable, "-m", "progan", "train", *map(str, words)]
    start = time.perf_counter()
    with log.open("wb") as file:
        try:
            result = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=HUNG)
            exit_code = result.returncode
        except subprocess.TimeoutExpired:
            exit_code = None
    return {
        "exit_code": exit_code,
        "wall_seconds": time.perf_counter() - start,
        **statistics_of(run_dir / "stats.jsonl"),
        "output": log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:],
    }


def statistics_of(file: Path) -> Figures:
    """Statistics of each resolution's last tick, which is stable; skipped updates of all ticks.

    Values that were not finite are missing in the file.
    """
    if not file.exists():
        return {}
    ticks = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    last = {tick["Progress/resolution"]: tick for tick in ticks}
    shown = ("Timing/images_per_sec", "Timing/data_wait", "Loss/D", "Loss/G")
    by_resolution = {f"{r}x{r}": {key: tick.get(key) for key in shown} for r, tick in last.items()}
    return {
        "kimg": ticks[-1]["Progress/kimg"],
        "skipped": sum(tick["Loss/skipped"] for tick in ticks),
        "last_ticks": by_resolution,
    }


PARTS: dict[str, Callable[[Setup], Measurements]] = {
    "values": values,
    "eager": eager,
    "train": real_run,
    "profile": profiled,
    "images": images,
    "host": host,
    "compiled": compiled,  # last, as it takes longest
}
