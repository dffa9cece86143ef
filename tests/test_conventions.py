"""What imported networks compute otherwise: each convention by plain operations, and in configs."""

import pytest
import torch
from test_networks import (
    STAGES,
    critic,
    generator,
    labels,
    noise,
    ref_conv,
    ref_critic,
    ref_dense,
    ref_lrelu,
    ref_up,
)

from progan.config.load import load_config
from progan.model.networks import Critic, Generator
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot
from progan.runtime.errors import UserError

ALL = {
    "widths": {4: 7, 8: 5},
    "start_bias": "position",
    "start_norm": False,
    "norm": "rms",
    "label_norm": False,
    "output": "tanh",
    "hidden": 9,
    "stddev_variance": "unbiased",
    "first_fade": False,
}
OF_G = {key: ALL[key] for key in list(ALL)[:6]}
OF_D = {key: ALL[key] for key in ("widths", "hidden", "stddev_variance", "first_fade")}


def rms_norm(x, eps=1e-5):
    return x / (x.square().mean(dim=1, keepdim=True).sqrt() + eps)


def foreign_generator(state, z, c, resolution, alpha):
    """`test_networks.ref_generator` with all conventions at once."""
    x = torch.cat([rms_norm(z, 1e-6), c], dim=1)
    x = ref_dense(x, state, "blocks.4.dense", gain=2**0.5 / 4) + state["blocks.4.bias"]
    x = ref_lrelu(x).reshape(len(z), -1, 4, 4)
    x = rms_norm(ref_lrelu(ref_conv(x, state, "blocks.4.conv")))
    r = 4
    while r < resolution:
        r, below = 2 * r, x
        x = rms_norm(ref_lrelu(ref_conv(ref_up(x), state, f"blocks.{r}.conv_up")))
        x = rms_norm(ref_lrelu(ref_conv(x, state, f"blocks.{r}.conv")))
    images = ref_conv(x, state, f"image_layers.{r}", gain=1)
    if alpha is not None:
        old = ref_up(ref_conv(below, state, f"image_layers.{r // 2}", gain=1))
        images = (1 - alpha) * old + alpha * images
    return torch.tanh(images)


@pytest.mark.parametrize("resolution, alpha", STAGES)
def test_a_generator_with_all_conventions(all_float64, resolution, alpha):
    """Reference: `foreign_generator`. Latents are small, so that the place of the epsilon shows."""
    G = generator(c_dim=4, **OF_G)
    z, c = 1e-4 * noise(3, 5), labels(3, 4)
    at = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    reference = foreign_generator(G.state_dict(), z, c, resolution, alpha)
    images = G(z, c, resolution=resolution, alpha=at)
    torch.testing.assert_close(images, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("key", list(OF_G)[1:])
def test_each_convention_of_the_generator_counts(all_float64, key):
    """Reference: the same weights without it draw other images."""
    own = OF_G if key != "start_bias" else OF_G | {"start_bias": "channel"}
    one = generator(c_dim=4, **own)
    other = generator(c_dim=4, **{k: v for k, v in own.items() if k != key})
    state = one.state_dict()
    if key == "start_bias":
        other = generator(c_dim=4, **OF_G)
        state |= {"blocks.4.bias": noise(7 * 16)}
    other.load_state_dict(state)
    z, c = 1e-4 * noise(3, 5), labels(3, 4)
    images = [G(z, c, resolution=8) for G in (one, other)]
    assert not torch.allclose(*images, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("resolution, alpha", [*STAGES[:2], (8, 0.3), (16, 0.3)])
def test_a_critic_with_all_conventions(all_float64, resolution, alpha):
    """Reference: `ref_critic`, whose stddev is scaled from n images to n - 1; at 8x8 nothing fades.
    One image has no deviation (and none of `ref_critic`'s 1e-8)."""
    D = critic(c_dim=2, fused_scale=False, **OF_D)
    images = noise(8, 3, resolution, resolution)
    at = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    scores, logits = D(images, at)
    fading = None if resolution == 8 else alpha
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_networks.ref_stddev", unbiased_stddev)
        reference = ref_critic(D.state_dict(), images, fading, fused=False)
        alone = ref_critic(D.state_dict(), images[:1], fading, fused=False)
    torch.testing.assert_close(torch.cat([scores[:, None], logits], dim=1), reference)
    torch.testing.assert_close(D(images[:1], at)[0], alone[:, 0])
    assert D.blocks["4"].dense.weight.shape[0] == 9


def unbiased_stddev(x, group):
    """torch's own unbiased variance."""
    group = min(group, len(x))
    variances = [part.var(dim=0) if group > 1 else 0 * part[0] - 1e-8 for part in x.split(group)]
    maps = [(v + 1e-8).sqrt().mean().expand(group, 1, 4, 4) for v in variances]
    return torch.cat([x, torch.cat(maps)], dim=1)


def test_without_a_first_fade_the_old_layer_is_not_in_use():
    """Reference: the names of the layers that a backward pass at 8x8 reaches."""
    D = critic(first_fade=False)
    D(noise(2, 3, 8, 8), torch.tensor(0.3))[0].sum().backward()
    reached = [name for name, p in D.named_parameters() if p.grad is not None]
    assert list(D.active_parameters(8, fading=True)) == reached
    assert not any(name.startswith("image_layers.4") for name in reached)


def test_without_conventions_networks_are_the_paper_s():
    """Reference: networks made without any of these arguments; names and shapes."""
    config = load_config(None, ["network.resolution=16", "network.conventions={}"])
    assert Generator(**config.network.generator_settings()).state_dict().keys() == (
        Generator(16).state_dict().keys()
    )
    shapes = [p.shape for p in Critic(**config.network.critic_settings()).parameters()]
    assert shapes == [p.shape for p in Critic(16).parameters()]


def test_a_snapshot_keeps_them(tmp_path):
    """Reference: the images before it was written."""
    conventions = ", ".join(f"{k}: {str(v).lower()}" for k, v in ALL.items())
    sizes = ["network.resolution=8", "network.z_dim=5", "network.channel_base=64"]
    config = load_config(None, [*sizes, f"network.conventions={{{conventions}}}"])
    G = Generator(**config.network.generator_settings()).eval()
    save_snapshot(Snapshot(tmp_path / "a.safetensors", G, config, 0, 8, 0.4))
    read = load_snapshot(tmp_path / "a.safetensors")
    assert read.config.network.conventions.model_dump() == ALL
    z = noise(2, 5).float()
    at = {"resolution": 8, "alpha": torch.tensor(0.4)}
    assert torch.equal(read.G(z, **at), G(z, **at))


@pytest.mark.parametrize(
    "given, words",
    [
        ("{start_bias: pixel}", ["network.conventions.start_bias", "'channel' or 'position'"]),
        ("{widths: {8: 5}}", ["network.conventions.widths", "must have the width at 4"]),
        ("{start_nrom: true}", ["start_nrom", "did you mean 'start_norm'?"]),
        ("5", ["network.conventions: 5", "must be a map of keys: widths"]),
    ],
)
def test_conventions_that_do_not_exist(given, words):
    """Reference: the setting's place, and what is allowed."""
    with pytest.raises(UserError) as error:
        load_config(None, [f"network.conventions={given}"])
    assert all(word in str(error.value) for word in words)
