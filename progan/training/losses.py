"""Adversarial losses and gradient penalties, as pure functions of tensors.

To add one: write the function, add it to its dictionary, name it in `config.LossConfig`.
Each returns one unweighted value an image; a penalty also returns the norm of its gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Scores = Callable[[Tensor], Tensor]  # images [N, C, H, W] -> scores [N]
Penalty = tuple[Tensor, Tensor]  # [N], and the gradient norms [N] that it was made of, no graph


class Adversarial(NamedTuple):
    """Two losses of scores: `critic(real, fake)` and `generator(real, fake)`, all [N].

    The generator's gets the scores of reals only if `relativistic`, else `None`. `whole`: the loss
    of an image depends on the means of all scores, so the whole batch must be one forward pass.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Any, Tensor], Tensor]
    relativistic: bool = False
    whole: bool = False


def against_means(better: Tensor, worse: Tensor) -> Tensor:
    """Logistic loss of each score against the mean of the others (Jolicoeur-Martineau 2019)."""
    return F.softplus(worse.mean() - better) + F.softplus(worse - better.mean())


ADVERSARIAL = {
    # Wasserstein: Arjovsky et al. 2017; the paper's.
    "wgan": Adversarial(
        critic=lambda real, fake: fake - real,
        generator=lambda real, fake: -fake,
    ),
    # Non-saturating logistic: Goodfellow et al. 2014.
    "logistic": Adversarial(
        critic=lambda real, fake: F.softplus(fake) + F.softplus(-real),
        generator=lambda real, fake: F.softplus(-fake),
    ),
    # Lim & Ye 2017.
    "hinge": Adversarial(
        critic=lambda real, fake: F.relu(1 + fake) + F.relu(1 - real),
        generator=lambda real, fake: -fake,
    ),
    # Least squares: Mao et al. 2017, reals aim at 1 and fakes at 0.
    "lsgan": Adversarial(
        critic=lambda real, fake: (fake.square() + (real - 1).square()) / 2,
        generator=lambda real, fake: (fake - 1).square() / 2,
    ),
    # Each fake against one real: Jolicoeur-Martineau 2019; R3GAN (Huang et al. 2024) adds r1_r2.
    "relativistic": Adversarial(
        critic=lambda real, fake: F.softplus(fake - real),
        generator=lambda real, fake: F.softplus(real - fake),
        relativistic=True,
    ),
    "relativistic-average": Adversarial(
        critic=against_means,
        generator=lambda real, fake: against_means(fake, real),
        relativistic=True,
        whole=True,
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


def wgan_gp(scores_of: Scores, reals: Tensor, fakes: Tensor, mix: Tensor, target: float) -> Penalty:
    """(‖∇‖ - γ)² / γ² at a random point between each real and fake (Gulrajani et al. 2017).

    `mix` [N] in [0, 1] is each fake's share; `target` is γ: 1, for CIFAR-10 750 (App. D).
    """
    mixed = torch.lerp(reals, fakes, mix[:, None, None, None])
    norm = squared_norm(scores_of, mixed).sqrt()
    return (norm - target).square() / target**2, norm.detach()


def wgan_lp(scores_of: Scores, reals: Tensor, fakes: Tensor, mix: Tensor, target: float) -> Penalty:
    """`wgan_gp` where ‖∇‖ > γ, else 0: one-sided (Petzka et al. 2018)."""
    mixed = torch.lerp(reals, fakes, mix[:, None, None, None])
    squared = squared_norm(scores_of, mixed)
    # Clamped before the root, whose derivative at 0 is infinite.
    norm = squared.clamp(min=target**2).sqrt()
    return (norm - target).square() / target**2, squared.detach().sqrt()


def r1(scores_of: Scores, reals: Tensor, fakes: Tensor, mix: Tensor, target: float) -> Penalty:
    """‖∇‖² / 2 at the reals (Mescheder et al. 2018).

    Of `mix` only `requires_grad` is used, which the reals take over from it.
    """
    squared = squared_norm(scores_of, reals + 0 * mix[:, None, None, None])
    return squared / 2, squared.detach().sqrt()


def r2(scores_of: Scores, reals: Tensor, fakes: Tensor, mix: Tensor, target: float) -> Penalty:
    """‖∇‖² / 2 at the fakes (Mescheder et al. 2018)."""
    return r1(scores_of, fakes, reals, mix, target)


def r1_r2(scores_of: Scores, reals: Tensor, fakes: Tensor, mix: Tensor, target: float) -> Penalty:
    """`r1` and `r2` together (R3GAN, Huang et al. 2024); of their norms the mean."""
    at_reals, real_norm = r1(scores_of, reals, fakes, mix, target)
    at_fakes, fake_norm = r2(scores_of, reals, fakes, mix, target)
    return at_reals + at_fakes, (real_norm + fake_norm) / 2


PENALTIES = {"wgan_gp": wgan_gp, "wgan_lp": wgan_lp, "r1": r1, "r2": r2, "r1_r2": r1_r2}


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
