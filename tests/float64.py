"""Runs in float64, where rounding does not make two correct programs differ within a test.

In float32 it may: if one feature of 3e-7 changes its sign, the gradient is another.
"""

import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from progan.training import build, step, updates, work
from progan.training.feed import Batch, Latents


def in_type(batch: Batch | Latents, dtype: torch.dtype) -> Batch | Latents:
    """Convert all numbers of a batch to this type."""

    def turned(x):
        return None if x is None else x.detach().to(dtype).requires_grad_(x.requires_grad)

    return replace(batch, **{name: turned(x) for name, x in vars(batch).items()})


def compute_in_float64(patch: Callable = setattr) -> None:
    """Make a run use float64 in all its networks and in what their updates receive."""
    make_networks = build.make_networks

    def made(*arguments):
        G, D = (network.double() for network in make_networks(*arguments))
        G.register_forward_pre_hook(
            lambda module, given: tuple(None if x is None else x.double() for x in given)
        )
        return G, D

    def of_doubles(gradients):
        def of(G, D, parameters, batch, *more, **named):
            return gradients(G, D, parameters, in_type(batch, torch.float64), *more, **named)

        return of

    patch(build, "make_networks", made)
    for name in ("critic_gradients", "generator_gradients"):
        for module in (step, work):
            patch(module, name, of_doubles(getattr(updates, name)))


if __name__ == "__main__":
    from progan.cli.main import main

    compute_in_float64()
    sys.exit(main())
