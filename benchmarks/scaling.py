"""How images/s change with resolution, batch size and processes: a table, a plot, a JSON line.

    python benchmarks/scaling.py --plot docs/scaling.png

Every point is a separate `progan bench`. Two processes share the batch and the cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from progan.config.resolutions import resolutions_to
from progan.runtime import machine

WIDTHS = ["network.channel_base=2048", "network.channel_max=128", "network.z_dim=128"]
BATCHES = (4, 8, 16, 32, 64)
AT = 32  # the resolution at which batch sizes are compared
BATCH = 16  # the batch size at which resolutions are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw a plot")
    parser.add_argument("--largest", type=int, default=128, help="resolution [default: 128]")
    arguments = parser.parse_args()
    resolutions = resolutions_to(arguments.largest)
    rates = {
        processes: {
            "resolution": {r: rate(r, BATCH, processes) for r in resolutions},
            "batch": {n: rate(AT, n, processes) for n in BATCHES if n >= 4 * processes},
        }
        for processes in (1, 2)
    }
    print(table(rates))
    if arguments.plot:
        draw(rates, arguments.plot)
    figures = {**machine.describe(torch.device("cpu")), **machine.versions()}
    print(json.dumps(figures | {"commit": machine.commit(), "images/s by processes": rates}))


def rate(resolution: int, batch_size: int, processes: int) -> float:
    """Measure images/s in the stable phase."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        settings = [
            f"network.resolution={resolution}",
            f"schedule.batch_size={batch_size}",
            *WIDTHS,
        ]
        command = [sys.executable, "-m"]
        if processes > 1:
            command += ["torch.distributed.run", "--nproc_per_node", str(processes), "-m"]
        command += ["progan", "bench", "--resolutions", str(resolution), "--json", str(file)]
        command += [part for setting in settings for part in ("-o", setting)]
        subprocess.run(command, check=True, capture_output=True)
        phases = json.loads(file.read_text())["phases"]
    found = next(p["images_per_sec"] for p in phases if not p["fading"])
    where = f"{resolution}x{resolution}, batch {batch_size}, {processes} process(es)"
    print(f"{where}: {found:.1f} images/s", flush=True)
    return found


def table(rates: dict) -> str:
    """The rates as a Markdown table."""
    lines = ["", "| | 1 process | 2 processes | ratio |", "|---|---|---|---|"]
    names = {
        "resolution": f"{{0}}x{{0}}, batch {BATCH}",
        "batch": f"{AT}x{AT}, batch {{0}}",
    }
    for kind, name in names.items():
        for value, one in rates[1][kind].items():
            two = rates[2][kind].get(value)
            cells = ["-", "-"] if two is None else [f"{two:.4g}", f"{two / one:.2f}"]
            lines.append(f"| {name.format(value)} | {one:.4g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rates: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    titles = {"resolution": f"batch {BATCH}", "batch": f"{AT}x{AT}"}
    for axis, (kind, title) in zip(axes, titles.items(), strict=True):
        for processes, by_kind in rates.items():
            label = f"{processes} process{'es' if processes > 1 else ''}"
            axis.plot(*zip(*by_kind[kind].items(), strict=True), "o-", label=label)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        ticks = list(rates[1][kind])
        axis.set_xticks(ticks, [str(t) for t in ticks])
        values = [rate for by_kind in rates.values() for rate in by_kind[kind].values()]
        doubling = [5 * 2**i for i in range(9)]
        axis.set_yticks([v for v in doubling if min(values) / 2 <= v <= max(values) * 2])
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        name = {"resolution": "resolution", "batch": "batch size"}[kind]
        axis.set(xlabel=name, ylabel="images/s", title=title)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
