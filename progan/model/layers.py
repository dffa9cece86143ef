"""The paper's building blocks: equalized layers, pixel norm, minibatch stddev, 2x resampling, fade.

"Sec. N" in comments is a section of Karras et al., *Progressive Growing of GANs* (ICLR 2018).
"""

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.2
SQRT2 = math.sqrt(2)  # He's gain, used everywhere unless a layer says otherwise


def at_least_float32(x: Tensor) -> Tensor:
    """bfloat16 as float32; float64, in which tests check the maths, stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def upsample2x(x: Tensor) -> Tensor:
    """Nearest neighbour: [N, C, H, W] -> [N, C, 2H, 2W], in the dtype of x.

    CUDA's autocast, unlike the CPU's, would do this in float32, though it only copies.
    """
    device = x.device.type  # the meta device, which computes nothing, has no autocast
    with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
        return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample2x(x: Tensor) -> Tensor:
    """2x2 box average: [N, C, H, W] -> [N, C, H/2, W/2]."""
    return F.avg_pool2d(x, 2)


def fade(old: Tensor, new: Tensor, alpha: Tensor | float) -> Tensor:
    """`old` at alpha 0, `new` at alpha 1 (Sec. 2, Figure 2)."""
    return torch.lerp(old, new, torch.as_tensor(alpha, dtype=old.dtype, device=old.device))


def crossfade_reals(reals: Tensor, alpha: Tensor | None) -> Tensor:
    """Reals as sharp as the fading networks can be: the resolution below fades into this one.

    [N, C, H, W] -> [N, C, H, W]; `alpha=None` (nothing fades) returns `reals` itself.
    """
    if alpha is None:
        return reals
    return fade(upsample2x(downsample2x(reals)), reals, alpha)


def pixel_norm(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Each pixel's feature vector (dim 1) to unit mean square, in float32 (Sec. 4.2)."""
    exact = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact)  # makes no copy of x
    scale = (norm.square() / x.shape[1] + eps).rsqrt()
    return x * scale.to(x.dtype)


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """`pixel_norm` with its epsilon outside the root, as mmgeneration has it."""
    exact = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact)
    return x * (norm / math.sqrt(x.shape[1]) + eps).reciprocal().to(x.dtype)


def minibatch_stddev(
    x: Tensor, group_size: int = 4, eps: float = 1e-8, unbiased: bool = False
) -> Tensor:
    """How much the images of a group differ: one number for each image (Sec. 3).

    [N, C, H, W] -> [N, 1, 1, 1], in the dtype of x; `ConvWithMap` takes it as one more feature
    map, constant over the image. Groups are *contiguous* runs of min(group_size, N) images; the
    official code strides them. The statistics are the same (images are independent), and each
    group stays on one process. N must be a multiple of the group.

    Args:
        unbiased: divide by one image less, as pytorch_GAN_zoo does; of a single one it is 0 there.
    """
    n, c, h, w = x.shape
    group = min(group_size, n)
    if unbiased and group == 1:
        return x.new_zeros(n, 1, 1, 1)
    y = at_least_float32(x)  # [NCHW]
    y = y.reshape(n // group, group, c, h, w)  # [MGCHW] M groups of G images
    y = y - y.mean(dim=1, keepdim=True)  # [MGCHW] deviation from the group's mean
    y = y.square().mean(dim=1)  # [MCHW]  biased variance over the group
    if unbiased:
        y = y * (group / (group - 1))  # [MCHW]
    y = (y + eps).sqrt()  # [MCHW]  standard deviation
    y = y.mean(dim=(1, 2, 3))  # [M]     mean over features and pixels
    y = y.repeat_interleave(group)  # [N]     each image gets its group's value
    return y.reshape(n, 1, 1, 1).to(x.dtype)  # [N111]


class EqualizedConv2d(nn.Module):
    """Same-size convolution with a run-time weight scale, optionally fused with 2x resampling.

    Weights are drawn from N(0, 1) and multiplied by `gain / sqrt(fan_in)` at every use, so that
    Adam moves all of them at the same relative speed (Sec. 4.1). Biases start at 0, unscaled.

    Args:
        resample: `None`; `"up"`: nearest 2x upsampling first; `"down"`: 2x2 box average afterwards
            (and the bias after it). Both are fused with the 3x3 convolution into one strided 4x4
            convolution: exactly the same function with a third fewer multiply-adds.
    """

    initial = 1.0  # standard deviation of the initial weights
    smear: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        gain: float = SQRT2,
        resample: str | None = None,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)
        self.resample = resample
        if resample:
            self.register_buffer("smear", smearing(resample), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W], with H and W doubled or halved by `resample`."""
        kernel = self.kernel()
        if not self.resample:
            return F.conv2d(x, kernel, self.bias, padding=kernel.shape[-1] // 2)
        if self.resample == "up":  # a transposed convolution takes [in, out]
            return F.conv_transpose2d(x, kernel.transpose(0, 1), self.bias, stride=2, padding=1)
        return F.conv2d(x, kernel, self.bias, stride=2, padding=1)

    def kernel(self) -> Tensor:
        """The weights as they are used, [out, in, k, k]: scaled, and 4x4 where `resample` fuses."""
        weight = self.weight * self.scale
        if not self.resample:
            return weight
        return (weight.flatten(2) @ self.smear).unflatten(2, (4, 4))


class ConvWithMap(EqualizedConv2d):
    """A convolution of features and one more map, whose value is one number for each image.

    The same function as with the map appended to the features. But 513 channels, which fit no
    tensor core or wide register, would slow the whole convolution. Here the map adds its value
    times the convolution of ones with its weights.
    """

    def forward(  # type: ignore[override]  # the map comes separately
        self, features: Tensor, value: Tensor
    ) -> Tensor:
        """[N, in - 1, H, W], [N, 1, 1, 1] -> [N, out, H, W]."""
        weights = (self.weight * self.scale).split([features.shape[1], 1], dim=1)
        padding = self.weight.shape[-1] // 2
        of_ones = F.conv2d(torch.ones_like(features[:1, :1]), weights[1], padding=padding)
        return F.conv2d(features, weights[0], self.bias, padding=padding) + value * of_ones


def smearing(resample: str) -> Tensor:
    """[9, 16]: the matrix that turns a 3x3 kernel into a fused 4x4 one, both flattened.

    The fused kernel is summed over a 2x2 box of pixels, A w Aᵀ. As one product with A ⊗ A for all
    pairs of channels, it is several times as fast on a CPU as two products or a pooling.
    """
    a = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]])
    boxes = torch.kron(a, a).T
    # A transposed convolution turns its kernel round; downsampling averages.
    return boxes.flip(1).contiguous() if resample == "up" else boxes.contiguous() / 4


class EqualizedLinear(nn.Module):
    """Dense layer with the run-time weight scale of `EqualizedConv2d`: [N, in] -> [N, out]."""

    initial = 1.0

    def __init__(
        self, in_features: int, out_features: int, *, gain: float = SQRT2, bias: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.scale = gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.scale, self.weight, self.bias)  # fewer numbers than the weights


def scale_once(network: nn.Module) -> None:
    """Replace the run-time weight scale by scaled initial weights: He's initialization.

    The paper's ablation of equalized learning rates (Table 1): Adam moves weights of different
    sizes by steps of one size.
    """
    for layer in network.modules():
        if isinstance(layer, EqualizedConv2d | EqualizedLinear):
            layer.initial, layer.scale = layer.scale, 1.0
            layer.weight.data *= layer.initial


def unchanged(x: Tensor) -> Tensor:
    """Replaces `pixel_norm` in its ablation."""
    return x


def leaky_relu(x: Tensor) -> Tensor:
    """Slope 0.2 below zero, as everywhere in the paper (Tables 2 and 3)."""
    return F.leaky_relu(x, LEAKY_SLOPE)
