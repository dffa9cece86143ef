"""How fast this device is, compared with its peak."""

from functools import cache, partial

import torch
from accelerate import Accelerator

from progan.config.load import load_config
from progan.config.schedule import Schedule
from progan.doctor.finding import GOOD, NOT_HERE, SLOW, Finding
from progan.runtime import machine
from progan.runtime.device import timed
from progan.runtime.numerics import computing_in
from progan.runtime.speeds import measured, resolve_precision
from progan.runtime.text import percent
from progan.training.build import make_loss, make_networks
from progan.training.costs import CostModel
from progan.training.trials import Trials
from progan.training.work import count_work

LONG = 0.01  # seconds of a product in which its launch is a small part
LEAST_OF_PEAK = 0.5  # share of the data sheet that a large product reaches on an idle device
PAPERS_TFLOPS = 5  # enough to do the first three updates, of 16 TFLOP together, in seconds
LEAST_SHARE = 0.1  # share of `tflops` that training reaches at the largest resolution
LEFT_ALONE = "does something else run here, is it hot, or its power limited?"


@cache
def tflops(device: torch.device, precision: str) -> tuple[float, str]:
    """TFLOP/s that the device reaches, and in what: convolutions on a CPU, else products.

    Measured once, so that training is compared with the number printed.
    """
    if rates := measured(device, again=True).get(precision):
        return max(rates) / 1000, "convolutions"
    return product_tflops(device, precision), "products"


def product_tflops(device: torch.device, precision: str) -> float:
    """The best TFLOP/s of products of ever larger square matrices, until one takes long."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rates = []
    with computing_in(precision, device):
        for n in (512, 1024, 2048, 4096, 8192):
            a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
            product = partial(torch.matmul, a, b)
            seconds = min(timed(product, device) for _ in range(3))
            rates.append(2 * n**3 / seconds / 1e12)
            if seconds > LONG:
                break
    return max(rates)


def rate(device: torch.device, precision: str, own: str) -> Finding:
    """The speed in a precision, compared with the data sheet. own: that of run.precision=auto."""
    name, peak = f"speed, {precision}", machine.peak_tflops(device, precision)
    on_cpu = device.type == "cpu"
    if on_cpu and precision not in measured(device):
        says = f"this CPU has no instructions for it; run.precision=auto takes {own}"
        return Finding(name, NOT_HERE, says)
    reached, kind = tflops(device, precision)
    says, figures = f"{human_rate(reached)} in {kind}", {"tflops": reached, "peak_tflops": peak}
    if peak:
        says += f", {percent(reached / peak, 0)} of the data sheet's"
        if reached < LEAST_OF_PEAK * peak:
            return Finding(name, SLOW, says, LEFT_ALONE, figures)
    if on_cpu and precision != own:
        says += f"; run.precision=auto takes {own}"
    return Finding(name, GOOD, says, figures=figures)


def human_rate(tflops: float) -> str:
    return f"{tflops:.3g} TFLOP/s" if tflops >= 1 else f"{1000 * tflops:.3g} GFLOP/s"


def precision_of_auto(accelerator: Accelerator) -> Finding:
    """The precision that `run.precision: auto` takes here, and why."""
    device, own = accelerator.device, resolve_precision("auto", accelerator)
    why = ""
    if device.type == "cpu":
        timed = len(measured(device)) > 1
        why = ", the faster one here" if timed else ", as this CPU has no instructions for bf16"
    return Finding("precision", GOOD, f"run.precision=auto takes {own}{why}")


def training(accelerator: Accelerator, seconds: float) -> Finding:
    """Images/s at three resolutions, uncompiled, in what `run.precision: auto` takes here.

    The paper's networks if the device is fast enough for them, else the demo's; updates without
    Adam's part.
    """
    device, precision = accelerator.device, resolve_precision("auto", accelerator)
    reached, _ = tflops(device, precision)
    large = reached >= PAPERS_TFLOPS
    config = load_config(*(None, ["network.resolution=256"]) if large else ("demo",))
    wanted = (16, 64, 256) if large else (8, 16, 32)
    phases = config.make_schedule().phases
    phases = tuple(p for p in phases if p.resolution in wanted and not p.fading)
    schedule = Schedule(phases, phases[-1].end_nimg)
    G, D = make_networks(config, 0, device)
    loss = make_loss(config)
    costs = CostModel(schedule, count_work(G, D, loss, schedule))
    with computing_in(precision, device):
        Trials(G, D, loss, accelerator).measure(costs, seconds)
    return finding_of(costs, precision, reached, accelerator.num_processes)


def finding_of(costs: CostModel, precision: str, peak: float, processes: int) -> Finding:
    """peak: TFLOP/s that this process's device reaches."""
    figures, parts = {}, []
    for phase, per_image in costs.trials.items():
        rate = 1 / per_image
        share = rate / processes * costs.work[phase].gflops / 1000 / peak
        r = f"{phase.resolution}x{phase.resolution}"
        figures[r] = {"images_per_sec": rate, "share_of_speed": share}
        parts.append(f"{rate:,.0f} at {r} ({percent(share, 0)})")
    says = f"images/s in {precision} (of the speed above): {', '.join(parts)}"
    if len(parts) < len(costs.schedule.phases) or share < LEAST_SHARE:
        more = f"choose smaller networks, or another machine; {LEFT_ALONE}"
        return Finding("training", SLOW, says, more, figures)
    return Finding("training", GOOD, says, figures=figures)
