"""What every importer gives: the networks of another project, in our names and our scale."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from progan.config.value_types import MOST_WIDTH
from progan.runtime.errors import UserError
from progan.runtime.text import printable

PROJECTS = {  # by the names that `progan import --from` takes
    "tf": "the official code",
    "zoo": "pytorch_GAN_zoo",
    "progan-pth": "pro_gan_pytorch",
    "mmgen": "mmgeneration",
}
MOST_SHOWN = 200  # characters of a value or a name


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


def names_among(inputs: int, labels: int) -> tuple[str, ...]:
    """Names of labels that have none in a file: 0, 1, 2, …

    Args:
        inputs: of the generator's first layer: labels, and a latent of at least one number.

    Raises:
        UserError: there are more labels than that, or than progan's networks take.
    """
    if not 0 <= labels <= min(inputs - 1, MOST_WIDTH):
        raise UserError(
            f"its generator takes {inputs:,} numbers, so {labels:,} of them cannot be labels; "
            f"0 to {min(inputs - 1, MOST_WIDTH):,} can"
        )
    return tuple(map(str, range(labels)))


def shown(value: Any) -> str:
    """A value in a message; containers, which may be of any depth and length, by their type."""
    simple = isinstance(value, str | bool | int | float | None)
    return printable(str(value)[:MOST_SHOWN]) if simple else f"a {type(value).__name__}"
