"""How fast this device is, beside what it can do at most."""

import torch
from accelerate import Accelerator

from progan import machine
from progan.bench import timed
from progan.build import make_loss, make_networks
from progan.costs import CostModel, count_gflops, measure
from progan.doctor.finding import GOOD, SLOW, Finding
from progan.precision import computing_in
from progan.schedule import Schedule
from progan.settings import load_config
from progan.speeds import chosen, measured

LONG = 0.01  # seconds of a product, of which starting it is a small part
LEAST_OF_PEAK = 0.5  # of its data sheet, which a large product reaches on a device left alone
LEAST_SHARE = 0.1  # of what a product reached, for training at the largest resolution
LEFT_ALONE = "does something else run here, is it hot, or its power limited?"


def product_tflops(device: torch.device, precision: str) -> float:
    """Of products of ever larger square matrices, until one takes long, the best rate: TFLOP/s."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rates = []
    with computing_in(precision, device):
        for n in (512, 1024, 2048, 4096, 8192):
            a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
            seconds = min(timed(lambda a=a, b=b: a @ b, device) for _ in range(3))
            rates.append(2 * n**3 / seconds / 1e12)
            if seconds > LONG:
                break
    return max(rates)


def product(device: torch.device, precision: str) -> Finding:
    """A product in a precision beside the data sheet, where there is one."""
    reached, peak = product_tflops(device, precision), machine.peak_tflops(device, precision)
    says, figures = f"{reached:.3g} TFLOP/s", {"tflops": reached, "peak_tflops": peak}
    if peak:
        says += f", {100 * reached / peak:.0f} % of the data sheet's"
        if reached < LEAST_OF_PEAK * peak:
            return Finding(f"product, {precision}", SLOW, says, LEFT_ALONE, figures)
    return Finding(f"product, {precision}", GOOD, says, figures=figures)


def precision_of_auto(accelerator: Accelerator) -> Finding:
    """Which one `run.precision: auto` takes here, and by what measurement."""
    rates = {name: max(each) for name, each in measured(accelerator.device).items()}
    says = f"run.precision=auto takes {chosen('auto', accelerator)}"
    if rates:
        figures = ", ".join(f"{rate:.0f} in {name}" for name, rate in rates.items())
        says += f"; convolutions reach {figures} GFLOP/s"
    return Finding("precision", GOOD, says, figures=rates)


def training(accelerator: Accelerator, seconds: float) -> Finding:
    """Images/s at three resolutions, uncompiled, in what `run.precision: auto` takes here.

    The demo's networks on a CPU, elsewhere the paper's; an update without Adam's part.
    """
    device = accelerator.device
    on_cpu = device.type == "cpu"
    config = load_config(*("demo",) if on_cpu else (None, ["network.resolution=256"]))
    wanted = (8, 16, 32) if on_cpu else (16, 64, 256)
    phases = config.make_schedule().phases
    phases = tuple(p for p in phases if p.resolution in wanted and not p.fading)
    schedule = Schedule(phases, phases[-1].end_nimg)
    G, D = make_networks(config, 0, device)
    loss = make_loss(config)
    costs = CostModel(schedule, count_gflops(G, D, loss, schedule))
    precision = chosen(config.run.precision, accelerator)
    with computing_in(precision, device):
        measure(costs, G, D, loss, accelerator, seconds)
    return told(costs, precision, product_tflops(device, precision), accelerator.num_processes)


def told(costs: CostModel, precision: str, peak: float, processes: int) -> Finding:
    """`peak`: TFLOP/s of a product on this process's device."""
    figures, parts = {}, []
    for phase, per_image in costs.seconds.items():
        rate = 1 / per_image
        share = rate / processes * costs.gflops[phase] / 1000 / peak
        r = f"{phase.resolution}x{phase.resolution}"
        figures[r] = {"images_per_sec": rate, "share_of_product": share}
        parts.append(f"{rate:,.0f} at {r} ({100 * share:.0f} %)")
    says = f"images/s in {precision} (of what a product allows): {', '.join(parts)}"
    if len(parts) < len(costs.schedule.phases) or share < LEAST_SHARE:
        more = f"choose smaller networks, or another machine; {LEFT_ALONE}"
        return Finding("training", SLOW, says, more, figures)
    return Finding("training", GOOD, says, figures=figures)
