"""Upper bounds of a GPU's speed with the paper's networks, calculated: no GPU is needed or used.

    python benchmarks/roofline.py                          # an H200
    python benchmarks/roofline.py --tflops 312 --bandwidth 2.0    # an A100 of 80 GB

Each operation of a training step in bfloat16 takes at least the time of its multiply-adds, and at
least the time of its memory traffic. There are three sums: arithmetic alone; with the traffic of
convolutions and products, as if all else were fused into them; with the traffic of every operation,
as in eager code. Measured speeds must lie below the first two. The last line is JSON.
"""

import argparse
import json
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from progan.config.load import load_config
from progan.config.resolutions import resolutions_to
from progan.model.networks import Critic, Generator
from progan.runtime.numerics import computing_in
from progan.training.build import make_loss
from progan.training.work import random_update

# Images/s that this project aims at, on one H200.
AIMS = {32: 2000, 64: 1000, 128: 600, 256: 400, 512: 250, 1024: 160}
ADAM_BYTES = 60  # per parameter: copying its gradient, Adam's two moments, the average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tflops", type=float, default=989, help="dense bfloat16 [default: 989]")
    parser.add_argument("--bandwidth", type=float, default=4.8, help="TB/s [default: 4.8]")
    arguments = parser.parse_args()
    print("| resolution | batch | GFLOP/image | operations | arithmetic | fused | eager | aim |")
    print("|---|---|---|---|---|---|---|---|")
    peaks = arguments.tflops * 1e12, arguments.bandwidth * 1e12
    figures = {r: bounds(r, *peaks) for r in resolutions_to(1024)}
    print(json.dumps({"tflops": arguments.tflops, "TB/s": arguments.bandwidth, **figures}))


class Roofline(TorchDispatchMode):
    """Adds up the least time of each operation that runs while it is active."""

    def __init__(self, flops_per_s: float, bytes_per_s: float):
        super().__init__()
        self.flops_per_s, self.bytes_per_s = flops_per_s, bytes_per_s
        self.flops = self.operations = 0
        self.fused = self.eager = 0.0  # seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        if func.is_view or func.namespace != "aten":
            return out
        counted = flop_registry.get(func._overloadpacket)
        flops = counted(*args, **kwargs or {}, out_val=out) if counted else 0
        moved = sum(map(size, tree_leaves((args, kwargs, out)))) / self.bytes_per_s
        self.operations += 1
        self.flops += flops
        self.eager += max(flops / self.flops_per_s, moved)
        self.fused += max(flops / self.flops_per_s, moved) if flops else 0
        return out


def size(value: Any) -> int:
    """Bytes that reading or writing `value` moves."""
    if not isinstance(value, Tensor):
        return 0
    return min(value.numel() * value.itemsize, value.untyped_storage().nbytes())  # if expanded


def bounds(r: int, flops_per_s: float, bytes_per_s: float) -> dict[str, float | int]:
    """Three upper bounds of images/s in the stable phase at `r`, with the paper's batch."""
    config = load_config(None, [f"network.resolution={r}"])
    phase = next(p for p in config.make_schedule().phases if p.resolution == r and not p.fading)
    n = phase.batch_size
    with FakeTensorMode(), computing_in("bf16", torch.device("cpu")):
        G = Generator(**config.network.generator_settings())
        D = Critic(**config.network.critic_settings())
        with Roofline(flops_per_s, bytes_per_s) as roof:
            random_update(G, D, make_loss(config), phase, n)
    count = sum(p.numel() for net in (G, D) for p in net.parameters())
    adam = ADAM_BYTES * count / bytes_per_s
    figures = {
        "batch": n,
        "GFLOP an image": round(roof.flops / n / 1e9),
        "operations": roof.operations,
        "arithmetic": round(n / (roof.flops / flops_per_s)),
        "fused": round(n / (roof.fused + adam)),
        "eager": round(n / (roof.eager + adam)),
    }
    print(f"| {r} | {' | '.join(map(str, figures.values()))} | {AIMS.get(r, '-')} |", flush=True)
    return figures


if __name__ == "__main__":
    main()
