"""Are imported networks equal to those of other projects? Images, scores and losses, side by side.

    python benchmarks/imports.py --zoo pytorch_GAN_zoo --progan-pth pro_gan_pytorch \
        --progan-pth-2 pro_gan_pytorch-v2 --mmgen mmgeneration

Takes checkouts of the projects, and runs their own code on random weights, biases included:
facebookresearch/pytorch_GAN_zoo, akanimax/pro_gan_pytorch (8f892f6, as the newest does not import,
and 126a953 for version 2), open-mmlab/mmgeneration (needs mmcv 1.x). What they save is imported,
and both draw images of the same latents, in float32 and float64. Prints the largest differences, as
shares of the images' range (scores and losses: of the largest), and JSON. Minutes on two cores.
"""

import argparse
import importlib
import json
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from progan.config.settings import NetworkConfig
from progan.interop import gan_zoo, mmgen, pro_gan_pth
from progan.interop.imported import Imported
from progan.interop.torch_files import read_torch
from progan.model.networks import Critic, Generator
from progan.training.losses import wgan_gp

N = 4  # images; as many as in a group of minibatch stddev
SMALL = {4: 16, 8: 16, 16: 12, 32: 8}
FULL = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256}
IN_FULL = ("stable", "fading", "labels", "grey")  # the other cases in small widths only
ALPHA = 0.3
WEIGHTS = {"penalty": 10.0, "drift": 0.001}


@dataclass
class Theirs:
    """A network of another project, as its own code runs it.

    Args:
        images: latents and labels to images, as RGB.
        critic: images to what their critic gives for each, the score first; None: not imported.
        loss: reals, fakes and the fakes' shares in mixes to their loss of the critic.
        networks: to be set to float64.
    """

    case: str
    content: Any
    images: Callable[[Tensor, Tensor | None], Tensor]
    networks: list[nn.Module]
    critic: Callable[[Tensor], Tensor] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    old_format: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def randomize(*networks: nn.Module) -> None:
    """Biases from N(0, 0.3): networks begin with zeros, which would hide what becomes of them."""
    for network in networks:
        for name, parameter in network.named_parameters():
            if "bias" in name:
                nn.init.normal_(parameter, std=0.3)


def of_zoo(checkout: Path, widths: dict[int, int]) -> Iterator[Theirs]:
    sys.path.insert(0, str(checkout))
    from models.loss_criterions import gradient_losses
    from models.progressive_gan import ProgressiveGAN

    def adam(model: Any) -> torch.optim.Optimizer:  # theirs has an int among floats for betas
        return torch.optim.Adam([*model.netG.parameters(), *model.netD.parameters()])

    ProgressiveGAN.getOptimizerD = ProgressiveGAN.getOptimizerG = adam
    one = {"Digit": {"order": 0, "values": ["a", "b", "c"]}}
    two = one | {"Sex": {"order": 1, "values": ["F", "M"]}}
    cases: dict[str, dict[str, Any]] = {
        "stable": {},
        "fading": {"alpha": 1 - ALPHA},
        "labels": {"attribKeysOrder": one},
        "attributes": {"attribKeysOrder": two},
        "grey": {"dimOutput": 1},
        "tanh, fading": {"lossMode": "DCGAN", "alpha": 1 - ALPHA},
        "no stddev": {"miniBatchStdDev": False},
        "not equalized": {"equalizedlR": False},
        "first fade": {"alpha": 1 - ALPHA, "depths": list(widths.values())[:2]},
    }
    for case, settings in cases.items():
        settings = dict(settings)
        alpha = settings.pop("alpha", 0)
        depths = settings.pop("depths", list(widths.values()))
        model = ProgressiveGAN(
            **{
                "dimLatentVector": depths[0],
                "depthScale0": depths[0],
                "miniBatchStdDev": True,
                "lambdaGP": WEIGHTS["penalty"],
                "useGPU": False,
            }
            | settings
        )
        for depth in depths[1:]:
            model.addScale(depth)
        randomize(model.netG, model.avgG, model.netD)
        for network in (model.netG, model.avgG, model.netD):
            network.setNewAlpha(alpha)
        model.config.alpha = alpha

        def images(z: Tensor, c: Tensor | None, model: Any = model) -> Tensor:
            return model.test(z if c is None else torch.cat([z, c], dim=1), getAvG=True)

        def loss(reals: Tensor, fakes: Tensor, model: Any = model) -> Tensor:
            real, fake = model.netD(reals), model.netD(fakes)
            of_scores = model.lossCriterion.getCriterion(real, True)
            of_scores = of_scores + model.lossCriterion.getCriterion(fake, False)
            torch.manual_seed(1)
            penalty = gradient_losses.WGANGPGradientPenalty(
                reals, fakes, model.netD, WEIGHTS["penalty"], backward=False
            )
            drift = WEIGHTS["drift"] * real[:, 0].square().sum()
            return (of_scores + penalty + drift) / len(reals)  # theirs are sums

        yield Theirs(
            case,
            model.getStateDict(),
            images,
            [model.netG, model.avgG, model.netD],
            model.netD,
            None if "lossMode" in settings else loss,
            old_format=widths is SMALL,
        )


def of_version_3(checkout: Path, widths: dict[int, int]) -> Iterator[Theirs]:
    sys.path.insert(0, str(checkout))
    networks: Any = importlib.import_module("pro_gan_pytorch.networks")
    losses = importlib.import_module("pro_gan_pytorch.losses")
    networks.nf = lambda stage: widths[2 ** (stage + 1)]
    first = networks.GenInitialBlock.__init__.__globals__["EqualizedConvTranspose2d"]
    first._output_padding = lambda *_: [0, 0]  # torch's has another signature since 1.11
    cases: dict[str, dict[str, Any]] = {
        "stable": {},
        "fading": {"alpha": ALPHA},
        "grey": {"num_channels": 1},
        "conditional critic": {"num_classes": 5},
        "not equalized": {"use_eql": False},
        "half grown": {"depth": 4},
    }
    full_depth = len(widths) + 1
    for case, settings in cases.items():
        settings = {"latent_size": widths[4], "use_eql": True, "num_channels": 3} | settings
        alpha, depth = settings.pop("alpha", 1.0), settings.pop("depth", full_depth)
        classes = settings.pop("num_classes", None)
        G, average = (networks.Generator(full_depth, **settings) for _ in range(2))
        D = networks.Discriminator(full_depth, **settings, num_classes=classes)
        randomize(G, average, D)
        for layer in average.rgb_converters[depth - 1 :]:  # as they are before they grow
            nn.init.zeros_(layer.bias)
        content = {"generator": G.get_save_info(), "discriminator": D.get_save_info()}
        content |= {"gen_optim": torch.optim.Adam(G.parameters()).state_dict(), "dis_optim": {}}
        content |= {"shadow_generator": average.get_save_info()}

        def images(
            z: Tensor, c: Tensor | None, G: Any = average, depth: int = depth, alpha: float = alpha
        ) -> Tensor:
            return G(z, depth=depth, alpha=alpha)

        def scores(x: Tensor, D: Any = D, depth: int = depth, alpha: float = alpha) -> Tensor:
            return D(x, depth, alpha)[:, None]

        def loss(
            reals: Tensor, fakes: Tensor, D: Any = D, depth: int = depth, alpha: float = alpha
        ) -> Tensor:
            torch.manual_seed(1)
            return losses.WganGP(WEIGHTS["drift"]).dis_loss(D, reals, fakes, depth, alpha)

        own = {} if alpha == 1 else {"alpha": alpha}  # their files do not say it
        yield Theirs(
            case,
            content,
            images,
            [G, average, D],
            None if classes else scores,
            None if classes else loss,
            extra=own,
        )


def of_version_2(checkout: Path, widths: dict[int, int]) -> Iterator[Theirs]:
    for name in [name for name in sys.modules if name.startswith("pro_gan_pytorch")]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    gan = importlib.import_module("pro_gan_pytorch.PRO_GAN")
    depth, latents = len(widths), widths[4]  # widths of its own: halved from 64x64 up
    for case, alpha, equalized in [
        ("stable", 1.0, True),
        ("fading", ALPHA, True),
        ("not equalized", 1.0, False),
    ]:
        G = gan.Generator(depth, latents, use_eql=equalized)
        randomize(G)

        def images(z: Tensor, c: Tensor | None, G: Any = G, alpha: float = alpha) -> Tensor:
            z = z / z.norm(dim=1, keepdim=True) * latents**0.5  # as its scripts do
            return G(z, depth - 1, alpha)

        own = {} if alpha == 1 else {"alpha": alpha}
        state = {f"module.{name}": tensor for name, tensor in G.state_dict().items()}
        yield Theirs(case, state, images, [G], old_format=True, extra=own)


def of_mmgen(checkout: Path, widths: dict[int, int]) -> Iterator[Theirs]:
    sys.path.insert(0, str(checkout))
    for package in ("mmgen", "mmgen.models", "mmgen.models.architectures"):  # without the rest
        sys.modules[package] = module = types.ModuleType(package)
        module.__path__ = [str(checkout / package.replace(".", "/"))]
    pggan = importlib.import_module("mmgen.models.architectures.pggan.generator_discriminator")
    small = {"base_channels": 64, "max_channels": 16} if widths is SMALL else {}
    resolution = max(widths)
    cases: dict[str, dict[str, Any]] = {
        "stable": {},
        "fading": {"alpha": ALPHA},
        "labels": {"label_size": 3},
        "unfused": {"fused_upconv": False},
        "half grown, fading": {"scale": 16, "alpha": ALPHA},
    }
    for case, settings in cases.items():
        settings = dict(settings)
        alpha, scale = settings.pop("alpha", 1.0), settings.pop("scale", resolution)
        labels = settings.get("label_size", 0)
        noise = small.get("max_channels", 512)
        G = pggan.PGGANGenerator(noise_size=noise, out_scale=resolution, **small, **settings)
        D = pggan.PGGANDiscriminator(in_scale=resolution, label_size=labels, **small)
        randomize(G, D)
        state = {f"generator_ema.{name}": tensor for name, tensor in G.state_dict().items()}
        state |= {f"generator.{name}": tensor for name, tensor in G.state_dict().items()}
        state |= {f"discriminator.{name}": tensor for name, tensor in D.state_dict().items()}
        state |= {
            "shown_nkimg": torch.tensor(0.0),
            "_curr_transition_weight": torch.tensor(alpha),
            "_next_scale_int": torch.tensor(scale, dtype=torch.int32),
            "_curr_scale_int": torch.tensor(scale, dtype=torch.int32),
        }

        def images(
            z: Tensor, c: Tensor | None, G: Any = G, alpha: float = alpha, scale: int = scale
        ) -> Tensor:
            return G(z, c, transition_weight=alpha, curr_scale=scale).flip(1)  # theirs are BGR

        yield Theirs(case, {"meta": {"mmcv_version": "1"}, "state_dict": state}, images, [G])


KINDS: dict[str, tuple[Any, Callable[[Path, dict[int, int]], Iterator[Theirs]]]] = {
    "zoo": (gan_zoo, of_zoo),
    "progan-pth": (pro_gan_pth, of_version_3),
    "progan-pth-2": (pro_gan_pth, of_version_2),
    "mmgen": (mmgen, of_mmgen),
}


def imported(importer: Any, theirs: Theirs) -> Imported:
    """Their networks, saved as they save them and read back."""
    with tempfile.TemporaryFile() as file:
        torch.save(theirs.content, file, _use_new_zipfile_serialization=not theirs.old_format)
        file.seek(0)
        content = read_torch(file)
    assert importer.recognize(content)
    return importer.convert(content)


def compare(importer: Any, theirs: Theirs) -> dict[str, float]:
    """The largest differences between their networks and ours."""
    ours = imported(importer, theirs)
    config = NetworkConfig(**ours.network)
    G = Generator(c_dim=len(ours.labels), **config.generator_settings())
    G.load_state_dict(ours.weights["G_ema"])
    alpha = theirs.extra.get("alpha", ours.alpha)
    z = torch.randn(N, config.z_dim)
    c = torch.eye(len(ours.labels))[torch.arange(N) % len(ours.labels)] if ours.labels else None
    found = {}
    for dtype in (torch.float32, torch.float64):
        for network in [G, *theirs.networks]:
            network.to(dtype)
        fade = None if alpha is None else torch.tensor(alpha, dtype=dtype)
        with torch.no_grad():
            there = theirs.images(z.to(dtype), None if c is None else c.to(dtype))
            here = G(
                z.to(dtype),
                None if c is None else c.to(dtype),
                resolution=ours.resolution,
                alpha=fade,
            )
        assert there.shape == here.shape, (there.shape, here.shape)
        span = there.max() - there.min()
        found[f"images {str(dtype)[6:]}"] = float((there - here).abs().max() / span)
    if "D" in ours.weights and theirs.critic:
        found |= compare_critics(ours, config, theirs, alpha)
    return found


def compare_critics(
    ours: Imported, config: NetworkConfig, theirs: Theirs, alpha: float | None
) -> dict[str, float]:
    """Differences of scores, of logits and of the critic's loss, in float64."""
    assert theirs.critic
    D = Critic(c_dim=len(ours.labels), **config.critic_settings()).double()
    D.load_state_dict(ours.weights["D"])
    size = (N, config.channels, ours.resolution, ours.resolution)
    reals, fakes = torch.randn(size).double(), torch.randn(size).double()
    fade = None if alpha is None else torch.tensor(alpha).double()
    with torch.no_grad():
        there, (scores, logits) = theirs.critic(reals), D(reals, fade)
    span = there.abs().max()
    found = {"scores": float((there[:, 0] - scores).abs().max() / span)}
    if logits is not None:  # theirs begin in the column of the score
        found["logits"] = float((there[:, :-1] - logits).abs().max() / span)
    if theirs.loss:
        torch.manual_seed(1)
        mix = 1 - torch.rand(N, 1)[:, 0].double()
        real, fake = D(reals, fade)[0], D(fakes, fade)[0]
        penalty, _ = wgan_gp(lambda x: D(x, fade)[0], reals, fakes, mix, 1.0)
        of_images = fake - real + WEIGHTS["penalty"] * penalty
        loss = (of_images + WEIGHTS["drift"] * real.square()).mean()
        other = theirs.loss(reals, fakes)
        found["loss"] = float(((other - loss) / other).detach().abs())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, help="a checkout of pytorch_GAN_zoo")
    parser.add_argument("--progan-pth", type=Path, help="of pro_gan_pytorch")
    parser.add_argument("--progan-pth-2", type=Path, help="of its version 2")
    parser.add_argument("--mmgen", type=Path, help="of mmgeneration")
    parser.add_argument("--small", action="store_true", help="small widths only")
    options = vars(parser.parse_args())
    found: dict[str, dict[str, float]] = {}
    torch.manual_seed(0)
    for kind, (importer, make) in KINDS.items():
        checkout = options[kind.replace("-", "_")]
        for widths in [SMALL] if options["small"] else [SMALL, FULL]:
            for theirs in make(checkout.resolve(), widths) if checkout else ():
                if widths is FULL and theirs.case not in IN_FULL:
                    continue
                name = f"{kind}, {'small' if widths is SMALL else 'full'}, {theirs.case}"
                found[name] = compare(importer, theirs)
                cells = ", ".join(f"{what} {value:.1e}" for what, value in found[name].items())
                print(f"{name}: {cells}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
