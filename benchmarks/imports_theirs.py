"""The networks of other projects for `imports.py`, made by their own code: what a project gives,
then those of the official code, pytorch_GAN_zoo and mmgeneration."""

import importlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

TESTS = Path(__file__).parents[1] / "tests"  # the official equations are there
Widths = Mapping[int, int]  # channels by resolution
SMALL: Widths = {4: 16, 8: 16, 16: 12, 32: 8}
FULL: Widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256}  # the paper's
ALPHA = 0.3
WEIGHTS = {"penalty": 10.0, "drift": 0.001}


class Theirs(NamedTuple):
    """Networks of another project, as its own code runs them.

    Args:
        save: writes their file.
        images: latents [N, z_dim] and labels [N, c_dim] to images, as RGB.
        networks: to be set to float64; the official equations are always in it.
        critic: images to scores and logits, [N, 1 + c_dim]; None: not imported.
        loss: reals and fakes to their loss of the critic, with the shares in mixes that torch draws
            after seed 1.
        alpha: where their file does not say it.
        labels: likewise.
    """

    save: Callable[[Path], Any]
    images: Callable[[Tensor, Tensor | None], Tensor]
    networks: Iterable[nn.Module] = ()
    critic: Callable[[Tensor], Tensor] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    alpha: float | None = None
    labels: int | None = None


class Kind(NamedTuple):
    """A project.

    Args:
        modules: its code, from a checkout.
        make: the networks of a case, from the code, widths and the case's settings.
        cases: settings by name.
    """

    modules: Callable[[Path], Any]
    make: Callable[..., Theirs]
    cases: dict[str, dict[str, Any]]


def randomize(*networks: nn.Module) -> None:
    """Biases from N(0, 0.3): networks begin with zeros, which would hide what becomes of them."""
    for network in networks:
        for name, parameter in network.named_parameters():
            if "bias" in name:
                nn.init.normal_(parameter, std=0.3)


def saver(content: Any, old_format: bool = False) -> Callable[[Path], None]:
    """Their file, by `torch.save`. old_format: that of torch before 1.6."""
    zipped = not old_format
    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=zipped)


# The official code, by its published equations in NumPy ------------------------------------------


def tf_modules(_: Path) -> Any:
    sys.path.insert(0, str(TESTS))
    return importlib.import_module("official")


def of_tf(official: Any, widths: Widths, lod: float = 0, older: bool = False, **own: Any) -> Theirs:
    """The official networks. older: as their branch in Theano saves them."""
    settings = official.OPTIONS | {
        "resolution": max(widths),
        "fmap_base": max(r * width for r, width in widths.items()) // 2,
        "fmap_max": widths[4],
        "latent_size": widths[4],
        **({"fused_scale": False, "mbstd_group_size": 16} if older else {}),
        **own,
    }
    drawn = [official.drawn(role, settings, lod, seed) for seed, role in enumerate("GDG")]
    state = official.older_state if older else official.state
    states = [state(role, settings, each) for role, each in zip("GDG", drawn, strict=True)]
    module, protocol = ("network", 2) if older else ("tfutil", 4)

    def images(z: Tensor, c: Tensor | None) -> Tensor:
        labels = np.zeros((len(z), 0)) if c is None else c.double().numpy()
        latents = z.double().numpy()
        return torch.from_numpy(official.images(settings, drawn[2], latents, labels))

    return Theirs(
        lambda path: path.write_bytes(official.pickled(*states, module=module, protocol=protocol)),
        images,
        critic=lambda x: torch.from_numpy(official.scores(settings, drawn[1], x.numpy())),
    )


TF_CASES: dict[str, dict[str, Any]] = {
    "stable": {},
    "fading": {"lod": 1 - ALPHA},
    "labels": {"label_size": 3},
    "grey": {"num_channels": 1},
    "unfused, fading": {"fused_scale": False, "lod": 1 - ALPHA},
    "older branch": {"older": True},
    "older branch, fading": {"older": True, "lod": 1 - ALPHA},
    "half grown": {"lod": 1},
}


# pytorch_GAN_zoo ----------------------------------------------------------------------------------


def zoo_modules(checkout: Path) -> Any:
    sys.path.insert(0, str(checkout))
    from models.loss_criterions import gradient_losses
    from models.progressive_gan import ProgressiveGAN

    def adam(model: Any) -> torch.optim.Optimizer:  # theirs has an int among floats for betas
        return torch.optim.Adam([*model.netG.parameters(), *model.netD.parameters()])

    ProgressiveGAN.getOptimizerD = ProgressiveGAN.getOptimizerG = adam
    return ProgressiveGAN, gradient_losses.WGANGPGradientPenalty


def of_zoo(
    modules: Any, widths: Widths, alpha: float = 0, scales: int | None = None, **own: Any
) -> Theirs:
    """Their networks. alpha: of the old path, as they count it. scales: how many there are."""
    model_of, penalty_of = modules
    first, *others = list(widths.values())[:scales]
    usual: dict[str, Any] = {"dimLatentVector": first, "depthScale0": first}
    usual |= {"miniBatchStdDev": True, "lambdaGP": WEIGHTS["penalty"], "useGPU": False}
    model = model_of(**usual | own)
    for depth in others:
        model.addScale(depth)
    networks = [model.netG, model.avgG, model.netD]
    randomize(*networks)
    for network in networks:
        network.setNewAlpha(alpha)
    model.config.alpha = alpha

    def images(z: Tensor, c: Tensor | None) -> Tensor:
        return model.test(z if c is None else torch.cat([z, c], dim=1), getAvG=True)

    def critic(x: Tensor) -> Tensor:  # logits begin in the column of the score
        out = model.netD(x)
        return torch.cat([out[:, :1], out[:, :-1]], dim=1)

    def loss(reals: Tensor, fakes: Tensor) -> Tensor:
        real, fake = model.netD(reals), model.netD(fakes)
        of_scores = model.lossCriterion.getCriterion(real, True)
        of_scores = of_scores + model.lossCriterion.getCriterion(fake, False)
        torch.manual_seed(1)
        penalty = penalty_of(reals, fakes, model.netD, WEIGHTS["penalty"], backward=False)
        drift = WEIGHTS["drift"] * real[:, 0].square().sum()
        return (of_scores + penalty + drift) / len(reals)  # theirs are sums

    save = saver(model.getStateDict(), old_format=widths is SMALL)
    return Theirs(save, images, networks, critic, None if "lossMode" in own else loss)


ONE = {"Digit": {"order": 0, "values": ["a", "b", "c"]}}
ZOO_CASES: dict[str, dict[str, Any]] = {
    "stable": {},
    "fading": {"alpha": 1 - ALPHA},
    "labels": {"attribKeysOrder": ONE},
    "attributes": {"attribKeysOrder": ONE | {"Sex": {"order": 1, "values": ["F", "M"]}}},
    "grey": {"dimOutput": 1},
    "tanh, fading": {"lossMode": "DCGAN", "alpha": 1 - ALPHA},
    "no stddev": {"miniBatchStdDev": False},
    "not equalized": {"equalizedlR": False},
    "first fade": {"alpha": 1 - ALPHA, "scales": 2},
}


# mmgeneration -------------------------------------------------------------------------------------


def mmgen_modules(checkout: Path) -> Any:
    sys.path.insert(0, str(checkout))
    for package in ("mmgen", "mmgen.models", "mmgen.models.architectures"):  # without the rest
        sys.modules[package] = module = types.ModuleType(package)
        module.__path__ = [str(checkout / package.replace(".", "/"))]
    return importlib.import_module("mmgen.models.architectures.pggan.generator_discriminator")


def of_mmgen(
    pggan: Any, widths: Widths, alpha: float = 1.0, scale: int | None = None, **own: Any
) -> Theirs:
    """Their networks. scale: the resolution reached."""
    size = {"base_channels": max(r * width for r, width in widths.items()) // 2}
    size |= {"max_channels": widths[4]}
    largest, scale = max(widths), scale or max(widths)
    G = pggan.PGGANGenerator(noise_size=widths[4], out_scale=largest, **size, **own)
    D = pggan.PGGANDiscriminator(in_scale=largest, label_size=own.get("label_size", 0), **size)
    randomize(G, D)
    networks = {"generator_ema": G, "generator": G, "discriminator": D}
    state = {
        f"{start}.{name}": tensor
        for start, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    state |= {"shown_nkimg": torch.tensor(0.0), "_curr_transition_weight": torch.tensor(alpha)}
    for name in ("_next_scale_int", "_curr_scale_int"):
        state[name] = torch.tensor(scale, dtype=torch.int32)

    def images(z: Tensor, c: Tensor | None) -> Tensor:
        return G(z, c, transition_weight=alpha, curr_scale=scale).flip(1)  # theirs are BGR

    return Theirs(saver({"meta": {"mmcv_version": "1"}, "state_dict": state}), images, [G])


MMGEN_CASES: dict[str, dict[str, Any]] = {
    "stable": {},
    "fading": {"alpha": ALPHA},
    "labels": {"label_size": 3},
    "unfused": {"fused_upconv": False},
    "half grown, fading": {"scale": 16, "alpha": ALPHA},
}
