"""The networks of pro_gan_pytorch for `imports.py`, of versions 3 and 2."""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from imports_theirs import ALPHA, FULL, WEIGHTS, Theirs, Widths, randomize, saver
from torch import Tensor, nn


def pth_modules(checkout: Path) -> Any:
    networks: Any = import_from(checkout, "pro_gan_pytorch.networks")
    first = networks.GenInitialBlock.__init__.__globals__["EqualizedConvTranspose2d"]
    first._output_padding = lambda *_: [0, 0]  # torch's has another signature since 1.11
    return networks, networks.nf, importlib.import_module("pro_gan_pytorch.losses")


def import_from(checkout: Path, module: str) -> Any:
    """A module of a checkout, whose package may have been imported from another one."""
    for name in [name for name in sys.modules if name.startswith(module.partition(".")[0])]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    return importlib.import_module(module)


def of_pth(
    modules: Any,
    widths: Widths,
    alpha: float = 1.0,
    unused: int = 0,
    num_classes: int | None = None,
    **own: Any,
) -> Theirs:
    """Version 3, in full with its own widths. unused: resolutions that have not grown."""
    networks, own_widths, losses = modules
    networks.nf = own_widths if widths is FULL else lambda stage: widths[2 ** (stage + 1)]
    full, depth = len(widths) + 1, len(widths) + 1 - unused
    settings = {"latent_size": widths[4], "use_eql": True, "num_channels": 3} | own
    G, average = (networks.Generator(full, **settings) for _ in range(2))
    D = networks.Discriminator(full, **settings, num_classes=num_classes)
    randomize(G, average, D)
    for layer in average.rgb_converters[depth - 1 :]:  # as they are before they grow
        nn.init.zeros_(layer.bias)
    content = {"generator": G.get_save_info(), "discriminator": D.get_save_info()}
    content |= {"gen_optim": torch.optim.Adam(G.parameters()).state_dict(), "dis_optim": {}}
    content |= {"shadow_generator": average.get_save_info()}

    def loss(reals: Tensor, fakes: Tensor) -> Tensor:
        torch.manual_seed(1)
        return losses.WganGP(WEIGHTS["drift"]).dis_loss(D, reals, fakes, depth, alpha)

    return Theirs(
        saver(content),
        lambda z, c: average(z, depth=depth, alpha=alpha),
        [G, average, D],
        None if num_classes else lambda x: D(x, depth, alpha)[:, None],
        None if num_classes else loss,
        alpha=None if alpha == 1 else alpha,
    )


PTH_CASES: dict[str, dict[str, Any]] = {
    "stable": {},
    "fading": {"alpha": ALPHA},
    "grey": {"num_channels": 1},
    "conditional critic": {"num_classes": 5},
    "not equalized": {"use_eql": False},
    "half grown": {"unused": 1},
}


def pth_2_modules(checkout: Path) -> Any:
    return import_from(checkout, "pro_gan_pytorch.PRO_GAN")


def of_pth_2(
    gan: Any, widths: Widths, alpha: float = 1.0, equalized: bool = True, labels: int | None = None
) -> Theirs:
    """Version 2: its widths are those of the latent, halved from 64x64 up. labels: before it."""
    depth, latents = len(widths), widths[4]
    G = gan.Generator(depth, latents, use_eql=equalized)
    randomize(G)

    def images(z: Tensor, c: Tensor | None) -> Tensor:
        z = z / z.norm(dim=1, keepdim=True) * z.shape[1] ** 0.5  # as its scripts do
        return G(z if c is None else torch.cat([c, z], 1), depth - 1, alpha)

    state = {f"module.{name}": tensor for name, tensor in G.state_dict().items()}
    own = None if alpha == 1 else alpha
    return Theirs(saver(state, old_format=True), images, [G], alpha=own, labels=labels)


PTH_2_CASES: dict[str, dict[str, Any]] = {
    "stable": {},
    "fading": {"alpha": ALPHA},
    "labels": {"labels": 3},
    "not equalized": {"equalized": False},
}
