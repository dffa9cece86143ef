"""What the generator and the critic share: blocks for each resolution, and which are in use."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from progan.config.resolutions import START_RESOLUTION, at_resolution, resolutions_to


def channels_at(
    resolution: int, channel_base: int, channel_max: int, widths: Mapping[int, int] | None = None
) -> int:
    """Feature maps at a resolution: `min(channel_base // resolution, channel_max)`.

    Args:
        widths: of an imported network, in place of that rule; each holds from its key upward.
    """
    if widths:
        return at_resolution(widths, resolution)
    return min(channel_base // resolution, channel_max)


def channels_last(x: Tensor) -> Tensor:
    """[N, C, H, W] with the channels of a pixel side by side in memory; convolutions keep it so."""
    return x.contiguous(memory_format=torch.channels_last)


class GrowingNetwork(nn.Module):
    """What the generator and the critic share: blocks and 1x1 image layers for each resolution."""

    blocks: nn.ModuleDict  # by resolution, from START_RESOLUTION up
    image_layers: nn.ModuleDict  # to_rgb or from_rgb, by resolution
    frozen: frozenset[int] = frozenset()  # resolutions whose block and image layer do not change

    def __init__(
        self,
        resolution: int,
        channels: int,
        channel_base: int,
        channel_max: int,
        widths: Mapping[int, int] | None,
    ):
        super().__init__()
        self.resolution = resolution
        self.channels = channels
        self.channel_base = channel_base
        self.channel_max = channel_max
        self.widths = widths

    def width(self, resolution: int) -> int:
        """Feature maps at a resolution."""
        return channels_at(resolution, self.channel_base, self.channel_max, self.widths)

    def active_parameters(self, resolution: int, fading: bool) -> dict[str, nn.Parameter]:
        """The named parameters that are in use at a resolution; the others have no gradient there.

        While the block of `resolution` fades in, the image layer of the resolution below is in use
        too. The order is that of `named_parameters()`, the same for every resolution. What is
        frozen is not among them.
        """
        blocks = {str(r) for r in resolutions_to(resolution) if r not in self.frozen}
        shown = {resolution, resolution // 2} if fading else {resolution}
        images = {str(r) for r in shown - self.frozen}

        def active(name: str) -> bool:
            group, _, rest = name.partition(".")
            key = rest.partition(".")[0]
            return key in {"blocks": blocks, "image_layers": images}.get(group, {key})

        return {name: p for name, p in self.named_parameters() if active(name)}


def resolution_of(parameter: str) -> int:
    """The resolution of the block or image layer that a named parameter belongs to."""
    group, _, rest = parameter.partition(".")
    key = rest.partition(".")[0]
    return int(key) if group in ("blocks", "image_layers") else START_RESOLUTION


def check_finite(weights: Mapping[str, Tensor], above: str = "") -> None:
    """Raises ValueError if a weight is NaN or infinite. above: stands before its name."""
    for name, weight in weights.items():
        if wrong := int((~weight.isfinite()).sum()):
            raise ValueError(f"{wrong} of {weight.numel()} numbers in {above}{name} are not finite")
