"""All checks in their order, each run on all processes; a crash is a finding, too."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from progan.doctor import folders, system
from progan.doctor.finding import NOT_HERE, WRONG, Finding, anonymous, worst
from progan.doctor.links import TIMEOUT, links
from progan.doctor.numbers import EAGER, Networks, against_float64, precisions, twice
from progan.doctor.speed import precision_of_auto, rate, training
from progan.runtime import machine
from progan.runtime.accelerator import make_accelerator
from progan.runtime.device import fastest_device
from progan.runtime.errors import UserError, brief
from progan.runtime.speeds import resolve_precision
from progan.training.compile import compiled

Check = tuple[str, Callable[[], Finding]]  # its name, in case it crashes


@dataclass(frozen=True)
class Size:
    """How much to compute, write and time."""

    networks: Networks = field(default_factory=Networks)
    stream_bytes: int = 2**26
    training_seconds: float = 8
    compile_seconds: float = 20  # after that nothing more is compiled


def examine(size: Size = Size()) -> Iterator[Finding]:
    """Yield each finding as soon as it is known, the same ones on all processes."""
    for check in (("versions", system.versions), ("driver", system.driver)):
        yield tried(*check)
    joined: list[Accelerator] = []

    def join() -> Finding:
        joined.append(make_accelerator(Path("."), None, TIMEOUT))
        return system.device(joined[0].device)

    yield tried("device", join)
    device = joined[0].device if joined else torch.device("cpu")
    for check in of_machine(device):
        yield everywhere(joined, *check)
    if joined:
        for check in of_device(joined[0], size):
            yield everywhere(joined, *check)


def tried(name: str, check: Callable[[], Finding]) -> Finding:
    """The check's finding; a crash is `WRONG`."""
    try:
        return check()
    except Exception as error:  # of any kind: finding them is the purpose
        says = f"{type(error).__name__}: {brief(error)}"
        remedy = "" if isinstance(error, UserError) else "report it, with --json"
        return Finding(name, WRONG, says, remedy)


def everywhere(joined: list[Accelerator], name: str, check: Callable[[], Finding]) -> Finding:
    """The worst of the processes' findings."""
    mine = tried(name, check)
    if not joined or joined[0].num_processes == 1:
        return mine
    return tried(name, lambda: worst(gather_object([mine])))


def of_machine(device: torch.device) -> list[Check]:
    return [
        ("memory", partial(system.memory, device)),
        ("shared memory", system.shared_memory),
        ("cache folder", folders.cache),
        ("free disk", folders.disk),
        ("file locks", folders.locks),
        ("file system", folders.file_system),
        ("compiler", partial(system.compiler, device)),
    ]


def of_device(accelerator: Accelerator, size: Size) -> Iterator[Check]:
    """Values before speed: wrong ones need not be fast."""
    device = accelerator.device
    kinds, own = precisions(device), resolve_precision("auto", accelerator)
    for precision in kinds:
        check = partial(against_float64, size.networks, (8, 32), device, precision)
        yield f"gradients, {precision}", check
    begin = time.monotonic()
    for precision in sorted(kinds, key=lambda kind: kind != own):  # training's own first
        check = partial(compiled_gradients, size, device, precision, begin)
        yield f"gradients, {precision}, compiled", check
    yield "determinism", partial(twice, size.networks, 32, device, own)
    yield "precision", partial(precision_of_auto, accelerator)
    for precision in kinds:
        yield f"speed, {precision}", partial(rate, device, precision, own)
    rates: list[Finding] = []

    def train() -> Finding:
        rates.append(training(accelerator, size.training_seconds))
        return rates[0]

    yield "training", train
    yield "links", partial(links, accelerator)

    def stream() -> Finding:
        figures = rates[0].figures if rates else {}
        needed = [each["images_per_sec"] for each in figures.values()][1:2]  # in the middle
        return folders.stream(device, size.stream_bytes, *needed or [None])

    yield "data stream", stream


def compiled_gradients(size: Size, device: torch.device, precision: str, begin: float) -> Finding:
    """Compare compiled gradients with float64; on a CPU only the generator's, as compiling the
    critic takes minutes there."""
    name = f"gradients, {precision}, compiled"
    if (spent := time.monotonic() - begin) > size.compile_seconds:
        return Finding(name, NOT_HERE, f"left out, as compiling took {spent:.0f} s")
    resolutions, names = ((8,), ("G",)) if device.type == "cpu" else ((8, 32), ("D", "G"))
    functions = compiled(*(EAGER[name] for name in names))
    made = dict(zip(names, functions, strict=True))
    try:
        return against_float64(size.networks, resolutions, device, precision, made)
    except Exception as error:  # of any kind: compilers are other programs
        return system.not_compiled(name, error)


def report(findings: list[Finding]) -> dict[str, object]:
    """Values for a bug report, without paths and names of users or hosts."""
    device = fastest_device()
    return anonymous(
        {
            "machine": machine.describe(device),
            "versions": machine.versions(),
            "commit": machine.commit(),
            "findings": [vars(finding) for finding in findings],
        }
    )
