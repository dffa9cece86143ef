"""The older branch of the official code, in Theano: its parameters under the later names."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from progan.config.resolutions import resolutions_to
from progan.runtime.errors import UserError

RELU, LINEAR, FIRST = math.sqrt(2), 1.0, math.sqrt(2) / 4  # gains


def older_variables(
    role: str, options: dict[str, Any], state: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """The variables of a network, which the file has without names, in the order of its layers.

    After the order and layouts in legacy.py of tkarras/progressive_growing_of_gans. Theano turns
    kernels round when it convolves, and keeps convolutions as [out, in, height, width].

    Raises:
        UserError: there are more, or fewer, than the layers take.
    """
    parameters = iter(state["param_values"])
    layers = generator(options) if role == "G" else critic(options)
    try:
        for name, gain in layers:
            weight = laid_out(name, array(next(parameters)))
            if options["use_wscale"]:  # Weights are scaled there by a number that is stored.
                own = float(array(next(parameters)).reshape(()))
                weight = weight * np.float32(own * math.sqrt(math.prod(weight.shape[:-1])) / gain)
            yield f"{name}/weight", weight
            yield f"{name}/bias", array(next(parameters))
    except StopIteration:
        raise UserError("its network has fewer parameters than its options need") from None
    if left := sum(1 for _ in parameters):
        raise UserError(f"its network has {left} parameters more than its options need")
    yield "lod", array(state["toplevel_params"]["cur_lod"]).reshape(())


def array(value: Any) -> np.ndarray:
    """A parameter; raises ValueError if it is something else than an array, or a number."""
    if not isinstance(value, np.ndarray | np.floating | float | int):
        raise ValueError("a parameter is no array of numbers")
    return np.asarray(value, np.float32)


def generator(options: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and gains of its layers."""
    sizes = resolutions_to(options["resolution"])
    yield from (("4x4/Dense", FIRST), ("4x4/Conv", RELU))
    for r in sizes[1:]:
        yield from ((f"{r}x{r}/Conv0", RELU), (f"{r}x{r}/Conv1", RELU))
    for lod in range(len(sizes)):
        yield f"ToRGB_lod{lod}", LINEAR


def critic(options: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and gains of its layers."""
    yield "FromRGB_lod0", RELU
    for lod, r in enumerate(reversed(resolutions_to(options["resolution"])[1:]), 1):
        yield from ((f"{r}x{r}/Conv0", RELU), (f"{r}x{r}/Conv1", RELU))
        yield f"FromRGB_lod{lod}", RELU
    yield from (("4x4/Conv", RELU), ("4x4/Dense0", RELU), ("4x4/Dense1", LINEAR))


def laid_out(name: str, weight: np.ndarray) -> np.ndarray:
    """A weight as the later code has it: [height, width, in, out], or [in, out]."""
    if name == "4x4/Dense":  # a convolution of one pixel, whose kernel is turned round twice
        return weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)
    if name == "4x4/Dense0":
        return weight[:, :, ::-1, ::-1].reshape(len(weight), -1).T
    if name.startswith(("ToRGB", "FromRGB")):
        return weight[None, None]
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)[::-1, ::-1]
    return weight
