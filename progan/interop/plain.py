"""A snapshot's generator as an ordinary network: what is in use, weights scaled and fused.

This is what others are given: it needs nothing of equalized learning rates to be understood.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from progan.config.resolutions import resolutions_to
from progan.model.layers import EqualizedConv2d
from progan.model.networks import quantized
from progan.runs.snapshot import Snapshot


class PlainGenerator(nn.Module):
    """Images of latents, at the resolution and alpha that a snapshot has reached.

    Args:
        dtype: of the images: "uint8", [N, r, r, C]; or "float32", [N, C, r, r], about [-1, 1].
    """

    alpha: Tensor | None

    def __init__(self, snapshot: Snapshot, dtype: str = "float32"):
        super().__init__()
        self.resolution = snapshot.resolution
        self.dtype = dtype
        self.G = deepcopy(snapshot.G).cpu()
        fading = snapshot.alpha is not None
        self.register_buffer("alpha", torch.tensor(snapshot.alpha) if fading else None)
        shown = {self.resolution, self.resolution // 2} if fading else {self.resolution}
        keep_only(self.G.blocks, {*resolutions_to(self.resolution)})
        keep_only(self.G.image_layers, shown)
        for parent in [*self.G.modules()]:
            for name, layer in parent.named_children():
                if isinstance(layer, EqualizedConv2d):
                    setattr(parent, name, plain_convolution(layer))
        self.eval().requires_grad_(False)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.G(latents, labels, resolution=self.resolution, alpha=self.alpha)
        return quantized(images).permute(0, 2, 3, 1) if self.dtype == "uint8" else images


def keep_only(layers: nn.ModuleDict, resolutions: set[int]) -> None:
    for name in [*layers]:
        if int(name) not in resolutions:
            del layers[name]


@torch.no_grad()
def plain_convolution(layer: EqualizedConv2d) -> nn.Module:
    """torch's own layer that computes the same; with upsampling, a transposed convolution."""
    plain: nn.Conv2d | nn.ConvTranspose2d
    if layer.resample:
        assert layer.resample == "up", "only critics shrink images"
        weight = layer.kernel().transpose(0, 1).contiguous()
        ins, outs, side, _ = weight.shape
        plain = nn.ConvTranspose2d(ins, outs, side, stride=2, padding=1)
    else:
        weight = layer.kernel()
        outs, ins, side, _ = weight.shape
        plain = nn.Conv2d(ins, outs, side, padding=side // 2)
    plain.weight.copy_(weight)
    plain.bias.copy_(layer.bias)  # type: ignore[union-attr]  # both have one
    return plain
