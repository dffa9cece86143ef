"""The generator and the critic, compared with functional ones written here from the paper."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F

from progan.config.load import load_config
from progan.config.resolutions import resolutions_to
from progan.model.growing import channels_at
from progan.model.networks import Critic, Generator, conditions, quantized
from progan.training.build import make_networks

TINY = {"channel_base": 64, "channel_max": 6}  # 6 channels at 4 and 8, 4 at 16


def with_biases(network):
    """Float64, and biases that are not 0, so that a lost or misplaced one shows."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    return network.double()


def generator(resolution=16, seed=0, **settings):
    torch.manual_seed(seed)
    return with_biases(Generator(resolution, **{"z_dim": 5, **TINY, **settings}))


def critic(resolution=16, seed=0, **settings):
    torch.manual_seed(seed)
    return with_biases(Critic(resolution, **{**TINY, **settings}))


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(n, c_dim):
    return torch.eye(c_dim, dtype=torch.float64)[torch.arange(n) % c_dim] if c_dim else None


def count(network):
    return sum(p.numel() for p in network.parameters())


# The reference ----------------------------------------------------------------------------------


def ref_norm(x):
    return x / torch.sqrt((x * x).mean(dim=1, keepdim=True) + 1e-8)


def ref_lrelu(x):
    return torch.where(x > 0, x, 0.2 * x)


def ref_up(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def ref_down(x):
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def ref_conv(x, state, name, gain=2**0.5, bias=True):
    weight = state[f"{name}.weight"]
    fan_in = weight.shape[1] * weight.shape[2] * weight.shape[3]
    x = F.conv2d(x, weight * gain / fan_in**0.5, padding=weight.shape[2] // 2)
    return x + state[f"{name}.bias"].reshape(1, -1, 1, 1) if bias else x


def ref_dense(x, state, name, gain=2**0.5):
    weight = state[f"{name}.weight"]
    return x @ weight.T * (gain / weight.shape[1] ** 0.5)


def ref_generator(state, z, c, resolution, alpha=None):
    """Dense and convolution at 4x4, then upsampling and two convolutions a resolution; bias, leaky
    ReLU, pixel norm after each. The fade is between images."""
    x = ref_norm(z if c is None else torch.cat([z, c], dim=1))
    x = ref_dense(x, state, "blocks.4.dense", gain=2**0.5 / 4).reshape(len(z), -1, 4, 4)
    x = ref_norm(ref_lrelu(x + state["blocks.4.bias"].reshape(1, -1, 1, 1)))
    x = ref_norm(ref_lrelu(ref_conv(x, state, "blocks.4.conv")))
    r = 4
    while r < resolution:
        r, below = 2 * r, x
        x = ref_norm(ref_lrelu(ref_conv(ref_up(x), state, f"blocks.{r}.conv_up")))
        x = ref_norm(ref_lrelu(ref_conv(x, state, f"blocks.{r}.conv")))
    images = ref_conv(x, state, f"image_layers.{r}", gain=1)
    if alpha is None:
        return images
    old = ref_up(ref_conv(below, state, f"image_layers.{r // 2}", gain=1))
    return (1 - alpha) * old + alpha * images


def ref_stddev(x, group):
    group = min(group, len(x))
    maps = []
    for part in x.split(group):
        variance = ((part - part.mean(dim=0)) ** 2).sum(dim=0) / group
        maps.append(torch.sqrt(variance + 1e-8).mean().expand(group, 1, 4, 4))
    return torch.cat([x, torch.cat(maps)], dim=1)


def ref_critic(state, images, alpha=None, fused=True, group=4):
    """Two convolutions and an average a resolution, at 4x4 the stddev map, a convolution and two
    dense layers. The fade is between features. Fused: bias and activation after the average."""
    r = images.shape[-1]
    x = ref_lrelu(ref_conv(images, state, f"image_layers.{r}"))
    while r > 4:
        x = ref_lrelu(ref_conv(x, state, f"blocks.{r}.conv"))
        if fused:
            x = ref_down(ref_conv(x, state, f"blocks.{r}.conv_down", bias=False))
            x = ref_lrelu(x + state[f"blocks.{r}.conv_down.bias"].reshape(1, -1, 1, 1))
        else:
            x = ref_down(ref_lrelu(ref_conv(x, state, f"blocks.{r}.conv_down")))
        r //= 2
        if alpha is not None and 2 * r == images.shape[-1]:
            old = ref_lrelu(ref_conv(ref_down(images), state, f"image_layers.{r}"))
            x = (1 - alpha) * old + alpha * x
    x = ref_lrelu(ref_conv(ref_stddev(x, group), state, "blocks.4.conv"))
    x = ref_dense(x.reshape(len(x), -1), state, "blocks.4.dense")
    x = ref_lrelu(x + state["blocks.4.dense.bias"])
    return ref_dense(x, state, "blocks.4.out", gain=1) + state["blocks.4.out.bias"]


STAGES = [(4, None), (8, None), (8, 0.3), (16, None), (16, 0.3)]


@pytest.mark.parametrize("resolution, alpha", STAGES)
@pytest.mark.parametrize("c_dim, channels", [(0, 3), (0, 1), (4, 3), (4, 1)])
@pytest.mark.parametrize("fused", [True, False])
def test_generator_equals_functional_reference(
    all_float64, resolution, alpha, c_dim, channels, fused
):
    """Reference: `ref_generator`, plain float64 operations on the same weights.

    Holds the order of layers and of bias, activation and norm, the gains, the fade in RGB, and that
    z and labels are normalized as one vector. Fused and unfused are one function."""
    G = generator(c_dim=c_dim, channels=channels, fused_scale=fused)
    z, c = noise(3, 5), labels(3, c_dim)
    at = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    images = G(z, c, resolution=resolution, alpha=at)
    assert images.shape == (3, channels, resolution, resolution)
    reference = ref_generator(G.state_dict(), z, c, resolution, alpha)
    torch.testing.assert_close(images, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("resolution, alpha", STAGES)
@pytest.mark.parametrize("c_dim, channels", [(0, 3), (0, 1), (4, 3), (4, 1)])
@pytest.mark.parametrize("fused", [True, False])
def test_critic_equals_functional_reference(all_float64, resolution, alpha, c_dim, channels, fused):
    """Reference: `ref_critic`, plain float64 operations on the same weights.

    Holds the order of layers, the gains, the fade in feature space, and that bias and activation
    come after the average if fused, before it if not."""
    D = critic(c_dim=c_dim, channels=channels, fused_scale=fused)
    images = noise(8, channels, resolution, resolution)
    at = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    scores, logits = D(images, at)
    reference = ref_critic(D.state_dict(), images, alpha, fused)
    torch.testing.assert_close(scores, reference[:, 0], rtol=1e-10, atol=1e-10)
    if c_dim:
        torch.testing.assert_close(logits, reference[:, 1:], rtol=1e-10, atol=1e-10)
    else:
        assert logits is None


@pytest.mark.parametrize("n, group", [(6, 2), (3, 4), (16, 16)])
def test_critic_groups_images_as_told(all_float64, n, group):
    """Reference: `ref_critic` with that group size; another would give other scores."""
    D = critic(stddev_group=group)
    images = noise(n, 3, 8, 8) * torch.arange(1, n + 1).reshape(n, 1, 1, 1)
    reference = ref_critic(D.state_dict(), images, group=group)
    torch.testing.assert_close(D(images)[0], reference[:, 0], rtol=1e-10, atol=1e-10)


def test_fused_and_unfused_critic_are_two_functions():
    """Reference: the same weights unfused; equal scores would mean that the stored setting is not
    used. With slope 1 instead of 0.2 they would be equal."""
    fused, unfused = critic(fused_scale=True), critic(fused_scale=False)
    images = noise(4, 3, 16, 16)
    assert not torch.allclose(fused(images)[0], unfused(images)[0], rtol=1e-3)


def test_labels_and_latents_are_normalized_together():
    """Reference: scaling z and c by one factor changes nothing; scaling z alone does, as it would
    not if each were normalized by itself."""
    G = generator(c_dim=4)
    z, c = noise(3, 5), labels(3, 4)
    images = G(z, c, resolution=4)
    torch.testing.assert_close(G(7 * z, 7 * c, resolution=4), images, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(G(7 * z, c, resolution=4), images, rtol=1e-2)
    assert not torch.allclose(G(z, c.roll(1, dims=1), resolution=4), images, rtol=1e-2)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (torch.tensor([2, 0, 2]), [[0, 0, 1], [1, 0, 0], [0, 0, 1]]),
        (torch.tensor([[1, 1, 0], [0, 0, 0]], dtype=torch.uint8), [[1, 1, 0], [0, 0, 0]]),
    ],
    ids=["classes", "attributes"],
)
def test_labels_as_the_networks_take_them(labels, expected):
    """Reference: written out; an image may have several attributes, or none."""
    c = conditions(labels, 3)
    assert c.dtype == torch.float32
    assert c.tolist() == expected


# Shapes and sizes -------------------------------------------------------------------------------


def sum_of_widths(resolution):
    """Feature maps, summed over all resolutions."""
    widths = [512, 512, 512, 512, 256, 128, 64, 32, 16]
    return sum(widths[: resolution.bit_length() - 2])


PARAMETERS = {
    1024: (23_079_115, 23_087_249),
    128: (22_933_394, 22_941_313),
    32: (20_719_628, 20_726_785),
}


@pytest.mark.parametrize("resolution", PARAMETERS)
@pytest.mark.parametrize("channels, c_dim", [(3, 0), (1, 0), (3, 10), (1, 10)])
@pytest.mark.parametrize("fused", [True, False])
def test_parameter_counts(resolution, channels, c_dim, fused):
    """Reference: the counts of the official networks, for RGB without labels.

    Two channels fewer take from each to_rgb two rows of weights and two biases, from each from_rgb
    two columns. Ten labels add ten inputs to G's dense layer of 512·4·4 outputs, and ten outputs,
    each with 512 weights and a bias, to D's last layer."""
    G_count, D_count = PARAMETERS[resolution]
    images = resolution.bit_length() - 2  # image layers
    G_count -= (3 - channels) * (sum_of_widths(resolution) + images)
    D_count -= (3 - channels) * sum_of_widths(resolution)
    G_count += c_dim * 512 * 4 * 4
    D_count += c_dim * (512 + 1)
    settings = {"channels": channels, "c_dim": c_dim, "fused_scale": fused}
    with torch.device("meta"):
        assert count(Generator(resolution, **settings)) == G_count
        assert count(Critic(resolution, **settings)) == D_count


PAPER_WIDTHS = [
    (4, 512),
    (8, 512),
    (16, 512),
    (32, 512),
    (64, 256),
    (128, 128),
    (256, 64),
    (512, 32),
    (1024, 16),
]


@pytest.mark.parametrize("resolution, width", PAPER_WIDTHS)
def test_widths_are_the_papers(resolution, width):
    """Reference: Table 2 of the paper; the features that each image layer and block sees."""
    with torch.device("meta"):
        G, D = Generator(1024), Critic(1024)
    key = str(resolution)
    assert channels_at(resolution, 16384, 512) == width
    assert G.image_layers[key].weight.shape == (3, width, 1, 1)
    assert D.image_layers[key].weight.shape == (width, 3, 1, 1)
    assert G.blocks[key].conv.weight.shape == (width, width, 3, 3)
    if resolution == 4:
        assert D.blocks[key].conv.weight.shape == (512, 513, 3, 3)
    else:
        above = dict(PAPER_WIDTHS)[resolution // 2]
        assert G.blocks[key].conv_up.weight.shape == (width, above, 3, 3)
        assert D.blocks[key].conv.weight.shape == (width, width, 3, 3)
        assert D.blocks[key].conv_down.weight.shape == (above, width, 3, 3)


@pytest.mark.parametrize(
    "resolution, base, widest, width",
    [(4, 8192, 128, 128), (32, 8192, 128, 128), (128, 8192, 128, 64), (1024, 4096, 512, 4)],
)
def test_widths_by_formula(resolution, base, widest, width):
    """Reference: min(base // resolution, max), worked out by hand for the paper's other presets."""
    assert channels_at(resolution, base, widest) == width


@pytest.mark.parametrize(
    "resolution, expected", [(4, [4]), (16, [4, 8, 16]), (64, [4, 8, 16, 32, 64])]
)
def test_resolutions(resolution, expected):
    """Reference: written out."""
    assert resolutions_to(resolution) == expected


@pytest.fixture(scope="module")
def thin():
    """Networks of every resolution, 8 channels wide or less."""
    torch.manual_seed(0)
    widths = {"channel_base": 64 * 64, "channel_max": 8}
    return Generator(1024, z_dim=8, **widths), Critic(1024, **widths)


@pytest.mark.parametrize(
    "resolution, alpha",
    [(2**k, alpha) for k in range(2, 11) for alpha in (None, 0.5) if alpha is None or k > 2],
)
def test_every_resolution_runs(thin, resolution, alpha):
    """Reference: the shape alone, and finite numbers; at 4x4 nothing can fade."""
    G, D = thin
    at = None if alpha is None else torch.tensor(alpha)
    with torch.no_grad():
        images = G(torch.randn(2, 8), resolution=resolution, alpha=at)
        scores, logits = D(images, at)
    assert images.shape == (2, 3, resolution, resolution)
    assert images.dtype == scores.dtype == torch.float32
    assert scores.shape == (2,)
    assert logits is None
    assert images.isfinite().all()
    assert scores.isfinite().all()


# Fading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [8, 16])
@pytest.mark.parametrize("fused", [True, False])
def test_generator_at_the_ends_of_a_fade(resolution, fused):
    """Reference: exactly the nearest-upsampled image of the resolution below at alpha 0, exactly
    the stable network at alpha 1."""
    G = generator(fused_scale=fused)
    z = noise(3, 5)
    start = G(z, resolution=resolution, alpha=torch.tensor(0.0))
    end = G(z, resolution=resolution, alpha=torch.tensor(1.0))
    assert torch.equal(start, ref_up(G(z, resolution=resolution // 2)))
    assert torch.equal(end, G(z, resolution=resolution))
    assert not torch.allclose(start, end, rtol=1e-2)


@pytest.mark.parametrize("resolution", [8, 16])
@pytest.mark.parametrize("fused", [True, False])
def test_critic_at_the_ends_of_a_fade(all_float64, resolution, fused):
    """Reference: the score of the box-averaged image at alpha 0 (but for the rounding of the
    average), exactly the stable network at alpha 1."""
    D = critic(fused_scale=fused)
    images = noise(4, 3, resolution, resolution)
    start, _ = D(images, torch.tensor(0.0))
    end, _ = D(images, torch.tensor(1.0))
    torch.testing.assert_close(start, D(ref_down(images))[0], rtol=1e-12, atol=1e-12)
    assert torch.equal(end, D(images)[0])
    assert not torch.allclose(start, end, rtol=1e-2)


@pytest.mark.parametrize("resolution, alpha", [(4, None), (8, 0.5), (16, None)])
def test_images_are_not_squashed(resolution, alpha):
    """Reference: to_rgb of weights 0 and bias 3 gives exactly 3; with a tanh or a clamp, 1."""
    G = generator()
    for layer in G.image_layers.values():
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, 3.0)
    at = None if alpha is None else torch.tensor(alpha)
    images = G(noise(2, 5), resolution=resolution, alpha=at)
    assert torch.equal(images, torch.full_like(images, 3.0))


# What takes part --------------------------------------------------------------------------------


def with_gradient(network):
    return [name for name, p in network.named_parameters() if p.grad is not None]


@pytest.mark.parametrize("resolution, alpha", STAGES)
@pytest.mark.parametrize("c_dim", [0, 3])
def test_active_parameters_are_those_with_gradient(resolution, alpha, c_dim):
    """Reference: the parameters that a backward pass at that resolution reaches, in the order of
    `named_parameters()`. One too many has no gradient, one too few would never train."""
    G, D = generator(c_dim=c_dim), critic(c_dim=c_dim)
    at = None if alpha is None else torch.tensor(alpha)
    images = G(noise(2, 5), labels(2, c_dim), resolution=resolution, alpha=at)
    scores, logits = D(images, at)
    total = scores.sum() if logits is None else scores.sum() + logits.square().sum()
    total.backward()
    for network in (G, D):
        active = network.active_parameters(resolution, fading=alpha is not None)
        assert list(active) == with_gradient(network)
        assert all(active[name] is p for name, p in network.named_parameters() if name in active)


# Statistics at initialization -------------------------------------------------------------------


def sizes(network, run):
    """Root mean squares of what enters and what leaves each convolution and dense layer."""
    entering, leaving = {}, {}

    def watch(name):
        def hook(module, inputs, output):
            entering[name] = inputs[0].square().mean().sqrt().item()
            leaving[name] = output.square().mean().sqrt().item()

        return hook

    for name, module in network.named_modules():
        if hasattr(module, "scale"):
            module.register_forward_hook(watch(name))
    with torch.no_grad():
        run()
    return entering, leaving


@pytest.mark.parametrize("fused", [True, False])
def test_initial_critic_keeps_the_scale_of_its_input(fused):
    """Reference: He's constants, which keep the size of activations near 1 through all layers
    (zeros at the borders and averages take some of it). Without √2 or with another fan-in the error
    would be multiplied layer by layer, 8 of them."""
    torch.manual_seed(0)
    D = Critic(16, channel_base=1024, channel_max=64, fused_scale=fused)
    images = ref_up(ref_up(torch.randn(16, 3, 4, 4)))
    entering, leaving = sizes(D, lambda: D(images))
    assert len(entering) == 8
    assert all(0.35 < size < 1.3 for size in entering.values()), entering
    assert 0.15 < leaving["blocks.4.out"] < 2


@pytest.mark.parametrize("fused", [True, False])
def test_initial_generator_layers_have_their_gains(fused):
    """Reference: closed form. Pixel norm makes each input 1 in mean square, so a convolution gives
    its gain times the share of its 3x3 taps that lie inside, ((3R - 2) / 3R)² of them at R x R, in
    the root mean square; a dense layer and a 1x1 convolution just their gain."""
    torch.manual_seed(0)
    settings = {"z_dim": 64, "channel_base": 1024, "channel_max": 64, "fused_scale": fused}
    G = Generator(16, channels=64, **settings)  # 64 only for a steadier mean
    z = torch.randn(64, 64)
    entering, leaving = sizes(G, lambda: G(z, resolution=16))
    assert list(entering.values()) == pytest.approx([1] * len(entering), abs=1e-3)
    he = 2**0.5
    expected = {
        "blocks.4.dense": he / 4,
        "blocks.4.conv": he * 10 / 12,
        "blocks.8.conv_up": he * 22 / 24,
        "blocks.8.conv": he * 22 / 24,
        "blocks.16.conv_up": he * 46 / 48,
        "blocks.16.conv": he * 46 / 48,
        "image_layers.16": 1,
    }
    assert leaving == pytest.approx(expected, rel=0.15)


def test_ablations_start_as_the_paper_s_networks():
    """Reference: weights scaled once and scaled at every use are one function, before training."""
    z = torch.randn(4, 8)
    settings = ["network.resolution=16", "network.channel_base=64", "network.z_dim=8"]
    outputs = []
    for more in ([], ["network.equalized=false"], ["network.pixel_norm=false"]):
        G, D = make_networks(load_config(None, [*settings, *more]), 0, "cpu")
        images = G(z, resolution=16)
        outputs.append((images, D(images)[0]))
        weights = G.blocks["16"].conv.weight
        assert weights.std().item() == pytest.approx(
            0.24 if "equalized" in str(more) else 1, rel=0.1
        )
    assert torch.allclose(outputs[0][0], outputs[1][0], atol=1e-5)
    assert torch.allclose(outputs[0][1], outputs[1][1], atol=1e-5)
    assert not torch.allclose(outputs[0][0], outputs[2][0], atol=1e-2)


def saved_and_loaded(network):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network)), saved_and_loaded]
)
def test_networks_can_be_copied_and_pickled(copied):
    """Reference: the network itself: the same keys, images and scores; weights of its own."""
    for network, inputs in (
        (generator(c_dim=2), {"z": noise(2, 5), "c": labels(2, 2), "resolution": 16}),
        (critic(c_dim=2), {"images": noise(2, 3, 16, 16)}),
    ):
        other = copied(network)
        assert list(other.state_dict()) == list(network.state_dict())
        before, after = network(**inputs), other(**inputs)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        for parameter in other.parameters():
            parameter.data.zero_()
        assert not torch.equal(network(**inputs)[0], other(**inputs)[0])


def test_quantizing_inverts_reading():
    """Reference: every grey level, through pixel / 127.5 - 1 and back; beyond is clamped."""
    levels = torch.arange(256).float()
    assert quantized(levels / 127.5 - 1).tolist() == list(range(256))
    assert quantized(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
