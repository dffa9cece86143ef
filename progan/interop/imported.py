"""What every importer gives: the networks of another project, in our names and our scale."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from progan.runtime.text import printable


@dataclass(frozen=True, eq=False)
class Imported:
    """Networks of another project, converted.

    Args:
        kind: the project, as `progan import --from` names it: tf, zoo, progan-pth or mmgen.
        network: settings of `NetworkConfig`. What the other code computes differently is among
            them, under `conventions`; what has an exact conversion is in the weights.
        resolution: reached.
        alpha: weight of the newest block while it fades in; None if nothing fades.
        weights: state dictionaries by network. `G_ema` is always there: the average where the
            file has one, else the live generator. `G` is there if the file has the live one, `D`
            if the critic can be imported. float32, on the CPU.
        labels: names of classes or attributes; numbers as text where the file has none.
        label_kind: what the labels are; None without any.
        notes: sentences on what is different or left out.
        licence: of the weights, where the project states one; None: the file's source says it.
    """

    kind: str
    network: dict[str, Any]
    resolution: int
    alpha: float | None
    weights: dict[str, dict[str, Tensor]]
    labels: tuple[str, ...] = ()
    label_kind: Literal["classes", "attributes"] | None = None
    notes: tuple[str, ...] = ()
    licence: str | None = None


def shown(value: Any) -> str:
    """A value in a message; containers, which may be of any depth and length, by their type."""
    simple = isinstance(value, str | bool | int | float | None)
    return printable(str(value)[:50]) if simple else f"a {type(value).__name__}"
