"""The command `progan bench`: how fast this machine trains, and what takes the time."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.cli.options import CONFIG, JSON, OVERRIDES, CheckedOption, check_target, to_number
from progan.config.batch_rules import check_batches
from progan.config.config import Config
from progan.config.load import load_config
from progan.config.schedule import Phase, Schedule
from progan.runtime.disk import write_json
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, processes
from progan.runtime.secrets import redacted
from progan.runtime.text import aligned, human_time, percent

if TYPE_CHECKING:
    from progan.training.bench import Figures

PARTS = ("data", "critic", "penalty", "generator", "optimizer")
COLUMNS = ("phase", "batch_size", "images/s", "sec/kimg", *PARTS, "memory", "TFLOP/s", "of peak")
WIDTHS = (18, *[10] * (len(COLUMNS) - 1))


@click.command()
@click.option(
    "--resolutions", metavar="4,8,…", help="Measure only these. [default: all in the schedule]"
)
@CONFIG
@OVERRIDES
@JSON
@click.option(
    "--find-batch", is_flag=True, help="Find and use the largest schedule.batch_gpu that fits."
)
@click.option(
    "--peak-tflops",
    type=CheckedOption("number", to_number),
    metavar="X",
    help="Peak of the device. [default: from data sheets for some GPUs; measured on CPUs]",
)
def bench(
    resolutions: str | None,
    config_name: str | None,
    overrides: tuple[str, ...],
    json_file: Path | None,
    find_batch: bool,
    peak_tflops: float | None,
) -> None:
    """Measure how fast this machine trains, phase by phase.

    Trains on noise in memory, with the networks, loss, precision and batch sizes of the config.
    Figures are medians of several repeats, without warm-up and compilation. Memory is the peak of
    this process: of its tensors on a GPU, of all it holds on a CPU.

    \b
    progan bench --config celeba --resolutions 64,128
    progan bench --find-batch -o network.resolution=1024 --json figures.json
    """
    from progan.runtime.numerics import deterministic

    config = load_config(config_name, list(overrides))
    config.check_reach()
    schedule = config.make_schedule()
    check_batches(schedule, processes(), config.network.stddev_group, config.loss.whole)
    phases = chosen_phases(schedule, resolutions)
    figures_in = check_target(json_file)
    with deterministic(config.run.deterministic):
        content = measure(config, phases, find_batch, peak_tflops)
    if not is_main():
        return
    for line in closing_lines(schedule, content, find_batch):
        click.echo(line)
    if json_file:
        write_json(json_file, content)
        click.echo(f"all figures in {figures_in}")


def chosen_phases(schedule: Schedule, resolutions: str | None) -> list[Phase]:
    """The phases at the resolutions asked for, such as "4,8"; all for `None`.

    Raises:
        UserError: this is no list of resolutions of the schedule.
    """
    known = list(dict.fromkeys(phase.resolution for phase in schedule.phases))
    if resolutions is None:
        return list(schedule.phases)
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", resolutions):
        raise UserError(
            f"--resolutions takes numbers such as {','.join(map(str, known[:3]))}; "
            f"got '{resolutions}'"
        )
    wanted = [int(r) for r in resolutions.split(",")]
    for r in wanted:
        if r not in known:
            raise UserError(
                f"--resolutions: {r} is not in the schedule, which has "
                f"{', '.join(map(str, known))}; -o network.resolution=… changes where it ends"
            )
    return [phase for phase in schedule.phases if phase.resolution in wanted]


def measure(
    config: Config, phases: list[Phase], find_batch: bool, peak_tflops: float | None
) -> dict[str, Any]:
    """All figures; prints each phase's when it has been measured."""
    from progan.runtime import machine
    from progan.runtime.accelerator import make_accelerator
    from progan.runtime.device import take_device
    from progan.runtime.speeds import known_peak, resolve_precision
    from progan.training.bench import bench

    taken = take_device(config.run.device)
    accelerator = make_accelerator(Path("."), None, device=taken)
    device = accelerator.device
    precision = resolve_precision(config.run.precision, accelerator)
    peak = peak_tflops
    source: str | None = "given"
    if is_main():
        if peak is None:
            peak, source = known_peak(device, precision)
        count = f", {accelerator.num_processes} processes" if processes() > 1 else ""
        of = f"; peak {peak:.3g} TFLOP/s ({source})" if peak else ""
        click.echo(f"{machine.device_name(device)}{count}, {precision}{of}")
        click.echo(aligned(COLUMNS, WIDTHS, gap=""))
    accelerator.wait_for_everyone()  # or those that wait would slow the measured CPU
    measured = []
    for figures in bench(config, accelerator, phases, find_batch, peak):
        measured.append(figures)
        if is_main():
            click.echo(row(figures))
    return {
        "machine": machine.describe(device),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "processes": accelerator.num_processes,
        "precision": precision,
        "peak_tflops": peak,
        "peak_is": source,
        "config": redacted(config.model_dump(mode="json")),
        "phases": [asdict(figures) for figures in measured],
    }


def row(figures: "Figures") -> str:
    name = f"{figures.resolution}x{figures.resolution} {'fading' if figures.fading else 'stable'}"
    cells = [name, str(figures.batch_size)]
    cells += [f"{figures.images_per_sec:.4g}", f"{figures.sec_per_kimg:.4g}"]
    cells += [percent(figures.shares[part]) for part in PARTS]
    memory, share = figures.peak_memory_gb, figures.share_of_peak
    cells += [
        "-" if memory is None else f"{memory:.2f} GiB",
        f"{figures.tflops:.3g}",
        "-" if share is None else percent(share),
    ]
    return aligned(cells, WIDTHS, gap="")


def closing_lines(schedule: Schedule, content: dict[str, Any], find_batch: bool) -> list[str]:
    """Conclusions from the figures: the time of the whole run, the batches that fit."""
    lines, measured = [], content["phases"]
    if len(measured) == len(schedule.phases):
        seconds = sum(
            (schedule.end_of(phase) - phase.start_nimg) / figures["images_per_sec"]
            for phase, figures in zip(schedule.phases, measured, strict=True)
        )
        kimg = schedule.total_nimg / 1000
        lines.append(f"the whole run of {kimg:,.1f} kimg: about {human_time(seconds)}")
    if find_batch:
        sizes: dict[int, int] = {}
        for figures in measured:
            r, n = figures["resolution"], figures["batch_gpu"]
            sizes[r] = min(n, sizes.get(r, n))  # a fade may need more memory than its stable phase
        text = ", ".join(f"{r}: {n}" for r, n in sizes.items())
        if {phase.resolution for phase in schedule.phases} == set(sizes):
            lines.append(f"what fits into a forward pass: -o 'schedule.batch_gpu={{{text}}}'")
        else:  # no setting: it would hold for larger resolutions, too
            lines.append(f"what fits into a forward pass, by resolution: {text}")
    return lines
