"""How far images are from a target: what projection makes small."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from progan.model.networks import Critic

VGG_RESOLUTION = 256


def as_images(target: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [C, s, s] -> [1, C, s, s] in [-1, 1], as reals are."""
    return torch.tensor(target[None], device=device).float() / 127.5 - 1


def pixels(target: np.ndarray, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The mean square of differences between pixels.

    Values beyond white are shown as white: where the target is white (or black), they are right.

    Args:
        target: uint8 [C, s, s]; box averages of larger images are compared with it.
    """
    wanted = as_images(target, device)
    low = wanted.where(wanted > -1, -torch.inf)
    high = wanted.where(wanted < 1, torch.inf)

    def distance(images: Tensor) -> Tensor:
        small = F.avg_pool2d(images, images.shape[-1] // wanted.shape[-1])
        return (small - small.clamp(low, high)).square().mean(dim=(1, 2, 3))

    return distance


def critic(target: np.ndarray, D: Critic, alpha: float | None) -> Callable[[Tensor], Tensor]:
    """How much the critic's features differ, from its first layer to 4x4.

    The similarity that a discriminator has learned (Larsen et al. 2016, "Autoencoding beyond pixels
    using a learned similarity metric", Sec. 3.1), over all its layers: of each, the mean square of
    differences, as a share of the target's mean square; then the mean over layers.

    Args:
        target: uint8 [C, r, r].
        D: as `load_critic` gives it.
        alpha: weight of its newest block while that fades in, else None.
    """
    device = next(D.parameters()).device
    weight = None if alpha is None else torch.tensor(alpha, device=device)
    with torch.no_grad():
        wanted = features(D, as_images(target, device), weight)

    def distance(images: Tensor) -> Tensor:
        layers = [
            (found - right).square().mean(dim=(1, 2, 3)) / right.square().mean()
            for found, right in zip(features(D, images, weight), wanted, strict=True)
        ]
        return torch.stack(layers).mean(dim=0)

    return distance


def features(D: Critic, images: Tensor, alpha: Tensor | None) -> list[Tensor]:
    """What each of the critic's blocks is given, [N, C, r, r] and smaller, the last at 4x4."""
    found: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        for block in D.blocks.values()
    ]
    try:
        D(images, alpha, batches=len(images))  # each on its own
    finally:
        for hook in hooks:
            hook.remove()
    return found


def lpips(target: np.ndarray, network: nn.Module) -> Callable[[Tensor], Tensor]:
    """LPIPS (Zhang et al. 2018), as `load_lpips` gives it.

    Images of more than 256 pixels are reduced to 256, the size of what the network learned from, as
    in the projector of StyleGAN2 (Karras et al. 2020, Appendix D).

    Args:
        target: uint8 [C, r, r].
    """

    def prepared(images: Tensor) -> Tensor:
        small = F.avg_pool2d(images, max(1, images.shape[-1] // VGG_RESOLUTION))
        return small.expand(-1, 3, -1, -1).clamp(-1, 1)

    wanted = prepared(as_images(target, next(network.parameters()).device))

    def distance(images: Tensor) -> Tensor:
        return network(prepared(images), wanted.expand(len(images), -1, -1, -1)).flatten()

    return distance
