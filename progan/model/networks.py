"""The generator and the critic: all blocks exist from the start and come into use as they grow.

Layer by layer the networks of Table 2 in Karras et al. (ICLR 2018), with 23.1M parameters each at
1024x1024.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.config.resolutions import START_RESOLUTION, resolutions_to
from progan.model.growing import GrowingNetwork, channels_at, channels_last
from progan.model.layers import (
    SQRT2,
    ConvWithMap,
    EqualizedConv2d,
    EqualizedLinear,
    at_least_float32,
    downsample2x,
    fade,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    rms_norm,
    scale_once,
    unchanged,
    upsample2x,
)
from progan.model.sharing import SharedNetwork

Norm = Callable[[Tensor], Tensor]
NORMS: dict[str, tuple[Norm, Norm]] = {  # of latents, and of features
    "mean-square": (pixel_norm, pixel_norm),
    "rms": (partial(rms_norm, eps=1e-6), partial(rms_norm, eps=1e-5)),  # as mmcv builds the latter
}


class GeneratorBlock(nn.Module):
    """Upsample, then two 3x3 convolutions: [N, in, H, W] -> [N, out, 2H, 2W]."""

    def __init__(self, in_channels: int, out_channels: int, fused_scale: bool, norm: Norm):
        super().__init__()
        self.fused_scale = fused_scale
        self.norm = norm
        resample = "up" if fused_scale else None
        self.conv_up = EqualizedConv2d(in_channels, out_channels, 3, resample=resample)
        self.conv = EqualizedConv2d(out_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_up(x if self.fused_scale else upsample2x(x))
        x = self.norm(leaky_relu(x))
        return self.norm(leaky_relu(self.conv(x)))


class GeneratorStart(nn.Module):
    """From the normalized latent to the first 4x4 features: [N, in] -> [N, out, 4, 4]."""

    def __init__(
        self, in_features: int, out_channels: int, norm: Norm, first_norm: Norm, bias_side: int
    ):
        super().__init__()
        self.norm = norm
        self.first_norm = first_norm
        self.bias_shape = out_channels, bias_side, bias_side
        # The official code divides this layer's gain by 4; the paper does not mention it.
        self.dense = EqualizedLinear(
            in_features, out_channels * START_RESOLUTION**2, gain=SQRT2 / 4, bias=False
        )
        # One number a channel, as in a convolution; other projects' may have one a position.
        self.bias = nn.Parameter(torch.zeros(out_channels * bias_side**2))
        self.conv = EqualizedConv2d(out_channels, out_channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dense(z).reshape(z.shape[0], -1, START_RESOLUTION, START_RESOLUTION)
        x = channels_last(x)
        x = self.first_norm(leaky_relu(x + self.bias.to(x.dtype).reshape(self.bias_shape)))
        return self.norm(leaky_relu(self.conv(x)))


class Generator(SharedNetwork):
    """Latents (and labels) to images.

    Args:
        resolution: of the largest images, a power of two from 4 to 1024.
        channels: of the images, 3 or 1.
        z_dim: size of a latent.
        c_dim: number of classes or attributes; 0 is unconditional.
        channel_base, channel_max: widths, see `channels_at`; 16384 and 512 in the paper.
        fused_scale: one strided convolution for upsampling and the convolution after it (the same
            function, faster).
        equalized, pixel_norm: True in the paper; False in its ablations (`layers.scale_once`, and
            features are not normalized; latents always are).
        widths, start_bias, start_norm, norm, label_norm, output: the paper's, unless the network
            comes from another project; see `config.conventions`.
    """

    def __init__(
        self,
        resolution: int,
        channels: int = 3,
        z_dim: int = 512,
        c_dim: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
        fused_scale: bool = True,
        equalized: bool = True,
        pixel_norm: bool = True,
        widths: Mapping[int, int] | None = None,
        start_bias: Literal["channel", "position"] = "channel",
        start_norm: bool = True,
        norm: Literal["mean-square", "rms"] = "mean-square",
        label_norm: bool = True,
        output: Literal["linear", "tanh"] = "linear",
    ):
        super().__init__(resolution, channels, channel_base, channel_max, widths)
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.latent_norm, feature_norm = NORMS[norm]
        self.label_norm = label_norm
        self.tanh = output == "tanh"
        of_features = feature_norm if pixel_norm else unchanged
        of_start = of_features if start_norm else unchanged
        bias_side = START_RESOLUTION if start_bias == "position" else 1
        self.blocks = nn.ModuleDict()
        self.image_layers = nn.ModuleDict()
        for r in resolutions_to(resolution):
            self.blocks[str(r)] = (
                GeneratorStart(z_dim + c_dim, self.width(r), of_features, of_start, bias_side)
                if r == START_RESOLUTION
                else GeneratorBlock(self.width(r // 2), self.width(r), fused_scale, of_features)
            )
            self.image_layers[str(r)] = EqualizedConv2d(self.width(r), channels, 1, gain=1)
        if not equalized:
            scale_once(self)

    def inputs(self, z: Tensor, c: Tensor | None) -> Tensor:
        """What the first layer takes, [N, z_dim + c_dim]: normalized latents, with labels."""
        if c is None:
            return self.latent_norm(z)
        if self.label_norm:
            return self.latent_norm(torch.cat([z, c], dim=1))
        return torch.cat([self.latent_norm(z), c], dim=1)

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        resolution: int | None = None,
        alpha: Tensor | None = None,
    ) -> Tensor:
        """[N, z_dim], labels [N, c_dim] -> [N, channels, resolution, resolution], about [-1, 1].

        `alpha` (a 0-dim tensor) is the weight of the newest block while it fades in, else `None`.
        Without a resolution both are what a snapshot has reached; of a new network the largest.
        """
        if resolution is None:
            resolution, fade_in = self.reached or (self.resolution, None)
            alpha = None if fade_in is None else z.new_tensor(fade_in)
        x = below = self.inputs(z, c)
        for r in resolutions_to(resolution):
            below, x = x, self.blocks[str(r)](x)
        images = self.image_layers[str(resolution)](x)
        if alpha is not None:
            # The fade is in image space, between two images (Sec. 2, Figure 2b).
            images = fade(upsample2x(self.image_layers[str(resolution // 2)](below)), images, alpha)
        return images.tanh() if self.tanh else images


class CriticBlock(nn.Module):
    """Two 3x3 convolutions and a 2x2 box average: [N, in, H, W] -> [N, out, H/2, W/2].

    Fused, the second bias and activation come after the average, unfused before it, as in the
    official code: two different functions, so `fused_scale` belongs to a trained network.
    """

    def __init__(self, in_channels: int, out_channels: int, fused_scale: bool):
        super().__init__()
        self.fused_scale = fused_scale
        resample = "down" if fused_scale else None
        self.conv = EqualizedConv2d(in_channels, in_channels, 3)
        self.conv_down = EqualizedConv2d(in_channels, out_channels, 3, resample=resample)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv_down(leaky_relu(self.conv(x))))
        return x if self.fused_scale else downsample2x(x)


class CriticEnd(nn.Module):
    """From 4x4 features to the score (and label logits): [N, in, 4, 4] -> [N, 1 + c_dim]."""

    def __init__(
        self, in_channels: int, hidden: int, c_dim: int, stddev_group: int, unbiased: bool
    ):
        super().__init__()
        self.stddev_group = stddev_group
        self.unbiased = unbiased
        self.conv = ConvWithMap(in_channels + 1, in_channels, 3)
        self.dense = EqualizedLinear(in_channels * START_RESOLUTION**2, hidden)
        self.out = EqualizedLinear(hidden, 1 + c_dim, gain=1)

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        group = min(self.stddev_group, len(x) // batches)
        x = leaky_relu(self.conv(x, minibatch_stddev(x, group, unbiased=self.unbiased)))
        return self.out(leaky_relu(self.dense(x.flatten(1))))


class Critic(GrowingNetwork):
    """Images to scores (and label logits).

    Args:
        stddev_group: group size of minibatch stddev (Sec. 3); 1 turns it off.
        hidden, stddev_variance, first_fade: the paper's, unless the network comes from another
            project; see `config.conventions`.

    The others are as in `Generator`.
    """

    def __init__(
        self,
        resolution: int,
        channels: int = 3,
        c_dim: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
        fused_scale: bool = True,
        stddev_group: int = 4,
        equalized: bool = True,
        widths: Mapping[int, int] | None = None,
        hidden: int | None = None,
        stddev_variance: Literal["biased", "unbiased"] = "biased",
        first_fade: bool = True,
    ):
        super().__init__(resolution, channels, channel_base, channel_max, widths)
        self.c_dim = c_dim
        self.stddev_group = stddev_group
        self.first_fade = first_fade
        hidden = hidden or channels_at(START_RESOLUTION // 2, channel_base, channel_max)
        unbiased = stddev_variance == "unbiased"
        self.blocks = nn.ModuleDict()
        self.image_layers = nn.ModuleDict()
        for r in resolutions_to(resolution):
            self.blocks[str(r)] = (
                CriticEnd(self.width(r), hidden, c_dim, stddev_group, unbiased)
                if r == START_RESOLUTION
                else CriticBlock(self.width(r), self.width(r // 2), fused_scale)
            )
            self.image_layers[str(r)] = EqualizedConv2d(channels, self.width(r), 1)
        if not equalized:
            scale_once(self)

    def forward(
        self, images: Tensor, alpha: Tensor | None = None, batches: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """[N, channels, r, r] -> scores [N] and label logits [N, c_dim] (`None` if unconditional).

        The resolution is that of the images; `alpha` as in `Generator.forward`. Several `batches`
        of equal size may follow one another: minibatch stddev keeps them apart.
        """
        resolution = images.shape[-1]
        alpha = alpha if self.fades(resolution) else None
        x = self.seen(images)
        for r in reversed(resolutions_to(resolution)[1:]):
            x = self.blocks[str(r)](x)
            if r == resolution and alpha is not None:
                # The fade is in feature space, before the next block (Sec. 2, Figure 2b).
                x = fade(self.seen(downsample2x(images)), x, alpha)
        out = at_least_float32(self.blocks[str(START_RESOLUTION)](x, batches))
        return out[:, 0], out[:, 1:] if self.c_dim else None

    def fades(self, resolution: int) -> bool:
        """Whether a block that is new at a resolution fades in."""
        return self.first_fade or resolution > 2 * START_RESOLUTION

    def active_parameters(self, resolution: int, fading: bool) -> dict[str, nn.Parameter]:
        return super().active_parameters(resolution, fading and self.fades(resolution))

    def seen(self, images: Tensor) -> Tensor:
        """from_rgb: [N, channels, r, r] -> the first features [N, C, r, r]."""
        x = leaky_relu(self.image_layers[str(images.shape[-1])](channels_last(images)))
        return channels_last(x)  # no copy, unless images are grey: one channel has no order


def conditions(labels: Tensor, c_dim: int) -> Tensor:
    """Labels to the networks' c, float32 [N, c_dim].

    Class indices [N] become one-hot; attributes, 0 or 1 [N, c_dim], stay as they are.
    """
    return (labels if labels.ndim == 2 else F.one_hot(labels, c_dim)).float()


def quantized(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8; the inverse of how reals are read."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).byte()
