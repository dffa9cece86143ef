"""The building blocks, compared with naive NumPy loops in float64."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from progan.model.layers import (
    ConvWithMap,
    EqualizedConv2d,
    EqualizedLinear,
    crossfade_reals,
    downsample2x,
    fade,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    upsample2x,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_same(ours, reference, tolerance=1e-12):
    np.testing.assert_allclose(ours.detach().numpy(), reference, rtol=tolerance, atol=tolerance)


def naive_conv(x, weight):
    """Same-size convolution with zeros outside, one output pixel at a time."""
    n, _, height, width = x.shape
    size = weight.shape[-1]
    margin = size // 2
    padded = np.pad(x, [(0, 0), (0, 0), (margin, margin), (margin, margin)])
    out = np.empty((n, len(weight), height, width))
    for i in range(height):
        for j in range(width):
            patch = padded[:, None, :, i : i + size, j : j + size]
            out[:, :, i, j] = (patch * weight).sum(axis=(2, 3, 4))
    return out


def naive_up(x):
    n, c, height, width = x.shape
    out = np.empty((n, c, 2 * height, 2 * width), x.dtype)
    for i in range(2 * height):
        for j in range(2 * width):
            out[:, :, i, j] = x[:, :, i // 2, j // 2]
    return out


def naive_down(x):
    n, c, height, width = x.shape
    out = np.empty((n, c, height // 2, width // 2), x.dtype)
    for i in range(height // 2):
        for j in range(width // 2):
            box = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out[:, :, i, j] = box.sum(axis=(2, 3)) / 4
    return out


def conv_layer(*args, seed=0, **kwargs):
    """A float64 layer with a bias that is not 0, so that a lost or misplaced one shows."""
    torch.manual_seed(seed)
    layer = EqualizedConv2d(*args, **kwargs).double()
    torch.nn.init.normal_(layer.bias)
    return layer


# Equalized learning rate ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "channels_in, channels_out, size, gain",
    [(3, 5, 3, 2**0.5), (5, 2, 3, 0.7), (6, 4, 1, 1.0), (1, 1, 1, 2**0.5)],
)
def test_conv_equals_explicit_convolution(channels_in, channels_out, size, gain):
    """Reference: one pixel at a time in NumPy, weights times gain / sqrt(in * k * k), the bias as
    it is. Fails for another fan-in, a scaled bias, or other padding."""
    layer = conv_layer(channels_in, channels_out, size, gain=gain)
    x = noise(2, channels_in, 4, 6)
    weight = layer.weight.detach().numpy() * gain / np.sqrt(channels_in * size * size)
    reference = naive_conv(x.numpy(), weight) + layer.bias.detach().numpy()[:, None, None]
    assert_same(layer(x), reference)


@pytest.mark.parametrize("gain", [2**0.5, 2**0.5 / 4, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_explicit_product(gain, bias):
    """Reference: the sum over inputs, weights times gain / sqrt(in), the bias as it is."""
    torch.manual_seed(0)
    layer = EqualizedLinear(7, 3, gain=gain, bias=bias).double()
    reference = np.zeros((5, 3))
    x = noise(5, 7)
    for n in range(5):
        for o in range(3):
            for i in range(7):
                reference[n, o] += x[n, i].item() * layer.weight[o, i].item() * gain / 7**0.5
    if bias:
        torch.nn.init.normal_(layer.bias)
        reference += layer.bias.detach().numpy()
    else:
        assert layer.bias is None
    assert_same(layer(x), reference)


@pytest.mark.parametrize(
    "make",
    [
        lambda **gain: EqualizedConv2d(9, 4, 3, **gain),
        lambda **gain: EqualizedConv2d(9, 4, 3, resample="up", **gain),
        lambda **gain: EqualizedConv2d(9, 4, 3, resample="down", **gain),
        lambda **gain: EqualizedLinear(9, 4, **gain),
    ],
)
def test_default_gain_is_he(make):
    """Reference: the same layer, same weights, with the gain √2 spelt out."""
    torch.manual_seed(0)
    default = make()
    torch.manual_seed(0)
    explicit = make(gain=2**0.5)
    x = torch.randn(2, 9, 4, 4) if default.weight.ndim == 4 else torch.randn(2, 9)
    assert torch.equal(default(x), explicit(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: EqualizedConv2d(64, 96, 3),
        lambda: EqualizedConv2d(64, 96, 3, gain=1, resample="up"),
        lambda: EqualizedConv2d(64, 96, 3, gain=3, resample="down"),
        lambda: EqualizedLinear(256, 200, gain=1),
    ],
)
def test_initial_weights_are_standard_normal(make):
    """Reference: moments of N(0, 1), within 4 standard errors of n samples: mean 0 ± 4/√n,
    mean square 1 ± 4√(2/n), mean 4th power 3 ± 4√(96/n) (a uniform distribution has 1.8).
    Fails if the scale went into the stored weights."""
    torch.manual_seed(0)
    layer = make()
    w = layer.weight.detach().double()
    n = w.numel()
    assert abs(w.mean().item()) < 4 / n**0.5
    assert abs(w.square().mean().item() - 1) < 4 * (2 / n) ** 0.5
    assert abs(w.pow(4).mean().item() - 3) < 4 * (96 / n) ** 0.5
    assert torch.count_nonzero(layer.bias) == 0


# 2x resampling, alone and fused -----------------------------------------------------------------

SIZES = [(2, 2), (4, 4), (4, 8), (8, 6)]


@pytest.mark.parametrize("height, width", [(1, 1), (3, 5), *SIZES])
def test_upsample_is_nearest(height, width):
    """Reference: pixel (i, j) is pixel (i // 2, j // 2), by loops; exact."""
    x = noise(2, 3, height, width)
    assert_same(upsample2x(x), naive_up(x.numpy()), tolerance=0)


@pytest.mark.parametrize("height, width", SIZES)
def test_downsample_is_box_average(height, width):
    """Reference: the mean of each 2x2 box, by loops."""
    x = noise(2, 3, height, width)
    assert_same(downsample2x(x), naive_down(x.numpy()))


@pytest.mark.parametrize("height, width", [(1, 1), (3, 5), *SIZES])
@pytest.mark.parametrize("channels_in, channels_out", [(3, 5), (4, 2)])
def test_fused_up_is_upsampling_then_convolution(height, width, channels_in, channels_out):
    """Reference: nearest upsampling, then a 3x3 convolution, by loops, borders included. Fails for
    a kernel that is not flipped, swapped channels, wrong padding, or a scale by the 4x4 fan-in."""
    layer = conv_layer(channels_in, channels_out, 3, resample="up")
    x = noise(2, channels_in, height, width)
    weight = layer.weight.detach().numpy() * np.sqrt(2 / (channels_in * 9))
    reference = naive_conv(naive_up(x.numpy()), weight)
    assert_same(layer(x), reference + layer.bias.detach().numpy()[:, None, None])


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("channels_in, channels_out", [(3, 5), (4, 2)])
def test_fused_down_is_convolution_then_average(height, width, channels_in, channels_out):
    """Reference: a 3x3 convolution, then the 2x2 box average, by loops, borders included.

    Fails like the one above, and if the average were a sum."""
    layer = conv_layer(channels_in, channels_out, 3, resample="down")
    x = noise(2, channels_in, height, width)
    weight = layer.weight.detach().numpy() * np.sqrt(2 / (channels_in * 9))
    reference = naive_down(naive_conv(x.numpy(), weight))
    assert_same(layer(x), reference + layer.bias.detach().numpy()[:, None, None])


@pytest.mark.parametrize("resample", [None, "up", "down"])
def test_conv_gradients_of_first_and_second_order(resample):
    """Reference: finite differences, with respect to images, weights and bias; the penalty needs
    the second order. The values are held by the tests above, so these are the unfused gradients
    too."""
    layer = conv_layer(2, 3, 3, resample=resample)
    x = noise(1, 2, 4, 2).requires_grad_()
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()

    def run(x, weight, bias):
        return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = (x, weight.requires_grad_(), bias.requires_grad_())
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


# Activations and norms --------------------------------------------------------------------------


def test_leaky_relu_has_slope_02():
    """Reference: the paper's slope on both sides of 0."""
    x = torch.tensor([-10.0, -1.0, 0.0, 1.0, 10.0], dtype=torch.float64)
    assert_same(leaky_relu(x), [-2.0, -0.2, 0.0, 1.0, 10.0])


@pytest.mark.parametrize("shape", [(3, 5, 2, 4), (4, 7), (1, 1, 1, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 100.0])
def test_pixel_norm_by_loops(all_float64, shape, scale):
    """Reference: each pixel's vector over sqrt(mean square + 1e-8), one pixel at a time.

    At scale 1e-4 the mean square is as small as ε, so that another ε, or one outside of the root,
    shows."""
    x = scale * noise(*shape)
    reference = x.numpy().copy()
    for place in np.ndindex(shape[0], *shape[2:]):
        vector = (place[0], slice(None), *place[1:])
        squares = sum(v * v for v in reference[vector])
        reference[vector] = reference[vector] / np.sqrt(squares / shape[1] + 1e-8)
    assert_same(pixel_norm(x), reference)


def naive_stddev(x, groups):
    """The mean deviation of each image's group; `groups` are lists of image indices."""
    n, c, height, width = x.shape
    feature = np.empty((n, 1, 1, 1))
    for group in groups:
        total = 0.0
        for place in np.ndindex(c, height, width):
            values = [x[(i, *place)] for i in group]
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)
            total += np.sqrt(variance + 1e-8)
        feature[group] = total / (c * height * width)
    return feature


@pytest.mark.parametrize(
    "n, group_size",
    [(4, 4), (8, 4), (12, 4), (3, 4), (2, 4), (1, 4), (6, 2), (16, 16), (32, 16), (8, 16), (4, 1)],
)
@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_minibatch_stddev_by_loops(all_float64, n, group_size, scale):
    """Reference: contiguous runs of min(group, N) images, biased variance + 1e-8, square root, mean
    over C, H, W, by loops. Images differ in spread, so that a wrong group shows; scale 1e-4 shows a
    wrong ε."""
    x = scale * noise(n, 2, 3, 2) * torch.arange(1, n + 1).reshape(n, 1, 1, 1)
    group = min(group_size, n)
    groups = np.arange(n).reshape(-1, group)
    assert_same(minibatch_stddev(x, group_size), naive_stddev(x.numpy(), groups))


def test_minibatch_stddev_groups_four_images():
    """Reference: the paper's group size, as the default."""
    x = torch.randn(8, 2, 2, 2)
    assert torch.equal(minibatch_stddev(x), minibatch_stddev(x, 4))
    assert not torch.equal(minibatch_stddev(x), minibatch_stddev(x, 8))


@pytest.mark.parametrize("n, group", [(8, 4), (12, 4), (32, 16)])
def test_contiguous_groups_are_the_official_strided_ones_permuted(all_float64, n, group):
    """Reference: the official grouping, in which image i belongs with i + M, i + 2M, … for M
    groups. With the images put in the order of their groups, both give each image the same
    statistic; without, they do not."""
    x = noise(n, 2, 2, 2) * torch.arange(1, n + 1).reshape(n, 1, 1, 1)
    count = n // group
    strided = [[first + count * k for k in range(group)] for first in range(count)]
    official = naive_stddev(x.numpy(), strided)
    order = [image for members in strided for image in members]
    assert_same(minibatch_stddev(x[order], group), official[order])
    assert not np.allclose(minibatch_stddev(x, group), official)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [300.0, 2e-4])
def test_norms_compute_in_float32(dtype, size):
    """Reference: closed forms at ±300, whose square no float16 holds, and at ±2e-4, where ε counts.

    The result keeps its own type."""
    signs = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 3, 2, 2)
    x = (signs * size).to(dtype)
    exact = x.double()
    normed, deviation = pixel_norm(x), minibatch_stddev(x)
    assert normed.dtype == deviation.dtype == dtype
    root = (exact.square() + 1e-8).sqrt()
    torch.testing.assert_close(normed.double(), exact / root, rtol=1e-2, atol=0)
    torch.testing.assert_close(deviation.double(), root[:, :1, :1, :1], rtol=1e-2, atol=0)


def test_convolution_with_a_map_is_that_of_the_map_appended(all_float64):
    """Reference: `EqualizedConv2d` on the features and a map full of each image's value, appended:
    what it gives, its gradients, and those of the norm of the inputs' gradients."""
    apart, appended = ConvWithMap(5, 4, 3).double(), EqualizedConv2d(5, 4, 3).double()
    with torch.no_grad():
        apart.bias.copy_(noise(4, seed=1))
    appended.load_state_dict(apart.state_dict())

    def computed(layer, inputs):
        features, value = noise(6, 4, 4, 4).requires_grad_(), noise(6, 1, 1, 1, seed=2)
        value.requires_grad_()
        out = layer(*inputs(features, value))
        of_inputs = torch.autograd.grad(out.tanh().sum(), (features, value), create_graph=True)
        total = out.square().sum() + sum(grad.square().sum() for grad in of_inputs)
        return out, *torch.autograd.grad(total, (features, value, layer.weight, layer.bias))

    ours = computed(apart, lambda features, value: (features, value))
    expected = computed(
        appended, lambda features, value: [torch.cat([features, value.expand(6, 1, 4, 4)], dim=1)]
    )
    for one, other in zip(ours, expected, strict=True):
        assert_same(one, other.detach().numpy())


@pytest.mark.parametrize(
    "function, shape",
    [
        (pixel_norm, (2, 3, 2, 1)),
        (pixel_norm, (2, 3)),
        (lambda x: minibatch_stddev(x, 2), (4, 2, 2, 1)),
        (minibatch_stddev, (3, 1, 1, 2)),
        (lambda x: fade(x[:2], x[2:], torch.tensor(0.3)), (4, 2, 1, 1)),
        (lambda x: crossfade_reals(x, torch.tensor(0.3)), (1, 1, 2, 4)),
    ],
)
def test_gradients_of_first_and_second_order(all_float64, function, shape):
    """Reference: finite differences; the penalty differentiates twice through all of these."""
    x = noise(*shape).requires_grad_()
    assert gradcheck(function, (x,))
    assert gradgradcheck(function, (x,))


# Fading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tensor", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_fade_weights_the_new_image_by_alpha(alpha, as_tensor):
    """Reference: (1 - alpha) old + alpha new; exactly `old` at 0 and exactly `new` at 1."""
    old, new = noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=1)
    faded = fade(old, new, torch.tensor(alpha) if as_tensor else alpha)
    ends = {0.0: old, 1.0: new}
    exact = (1 - alpha) * old.numpy() + alpha * new.numpy()
    assert_same(faded, exact, tolerance=0 if alpha in ends else 1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 4, 6)])
def test_crossfade_of_reals_by_loops(alpha, shape):
    """Reference: the official code's `lerp(box-down-then-nearest-up(x), x, alpha)`, by loops."""
    x = noise(*shape)
    low = naive_up(naive_down(x.numpy()))
    assert_same(crossfade_reals(x, torch.tensor(alpha)), low + alpha * (x.numpy() - low))


def test_crossfade_of_reals_without_a_fade_is_the_same_tensor():
    """Reference: identity; nothing is computed at all while stable."""
    x = noise(2, 3, 8, 8)
    assert crossfade_reals(x, None) is x
