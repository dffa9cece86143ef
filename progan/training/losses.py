"""Adversarial losses and gradient penalties, as pure functions of tensors.

To add one: write the function, add it to its dictionary, name it in `config.LossConfig`.
Each returns one unweighted value an image.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Scores = Callable[[Tensor], Tensor]  # images [N, C, H, W] -> scores [N]


class Adversarial(NamedTuple):
    """Two losses: `critic(real_scores, fake_scores)` and `generator(fake_scores)`, all [N]."""

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


ADVERSARIAL = {
    # Wasserstein: Arjovsky et al. 2017; the paper's.
    "wgan": Adversarial(
        critic=lambda real, fake: fake - real,
        generator=lambda fake: -fake,
    ),
    # Non-saturating logistic: Goodfellow et al. 2014.
    "logistic": Adversarial(
        critic=lambda real, fake: F.softplus(fake) + F.softplus(-real),
        generator=lambda fake: F.softplus(-fake),
    ),
}


def squared_norm(scores_of: Scores, images: Tensor) -> Tensor:
    """‖∇ score‖² at each image, over C, H and W, differentiable in the critic's weights: [N].

    In a compiled graph the images must already require a gradient (see `Batch.mix`).
    """
    if not images.requires_grad:
        images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(scores_of(images).sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def wgan_gp(scores_of: Scores, reals: Tensor, fakes: Tensor, mix: Tensor, target: float) -> Tensor:
    """(‖∇‖ - γ)² / γ² at a random point between each real and fake: [N] (Gulrajani et al. 2017).

    `mix` [N] in [0, 1] is each fake's share; `target` is γ: 1, for CIFAR-10 750 (App. D).
    """
    mixed = torch.lerp(reals, fakes, mix[:, None, None, None])
    return (squared_norm(scores_of, mixed).sqrt() - target).square() / target**2


def r1(scores_of: Scores, reals: Tensor, fakes: Tensor, mix: Tensor, target: float) -> Tensor:
    """‖∇‖² / 2 at the reals: [N] (Mescheder et al. 2018).

    Of `mix` only `requires_grad` is used, which the reals take over from it.
    """
    return squared_norm(scores_of, reals + 0 * mix[:, None, None, None]) / 2


PENALTIES = {"wgan_gp": wgan_gp, "r1": r1}


def class_loss(logits: Tensor, c: Tensor) -> Tensor:
    """Softmax cross-entropy of class logits against one-hot labels: [N] (AC-GAN, Odena et al.)."""
    return F.cross_entropy(logits, c, reduction="none")


def attribute_loss(logits: Tensor, c: Tensor) -> Tensor:
    """Binary cross-entropy of each attribute's logit, the mean over attributes: [N].

    Not the paper's, which has no attributes. A mean, so that the label loss keeps about the same
    weight relative to the adversarial one for any number of attributes.
    """
    return F.binary_cross_entropy_with_logits(logits, c, reduction="none").mean(dim=1)


LABELS = {"classes": class_loss, "attributes": attribute_loss}  # the data decide, not the config
