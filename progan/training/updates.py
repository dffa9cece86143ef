"""The gradients of one critic update and one generator update.

Gradients are values: `critic_gradients` and `generator_gradients` change nothing and return what
`torch.autograd.grad` gives, the penalty inside. `Optimizer.apply` is the only place where weights
move.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from progan.model.layers import at_least_float32, crossfade_reals
from progan.model.networks import Critic, Generator
from progan.training.augment import augment
from progan.training.feed import Batch, Latents
from progan.training.losses import ADVERSARIAL, LABELS, PENALTIES

Weight = float | Tensor  # 0-dim where it varies within a phase, as compiled functions need it


@dataclass(frozen=True)
class LossSettings:
    """Which loss, and the weights of its terms (see `config.LossConfig`)."""

    adversarial: str = "wgan"
    penalty: str | None = "wgan_gp"
    penalty_weight: Weight = 10.0
    target: float = 1.0
    drift: Weight = 0.001
    label: Weight = 1.0
    augment: tuple[str, ...] = ()  # of what the critic sees (see `progan.training.augment`)
    augment_strength: Weight = 1.0  # the share of images that are augmented
    labels: str = "classes"  # or attributes, depending on the data; or projection
    adaptive: bool = False  # whether the signs of scores are needed, for `AdaptiveStrength`

    @property
    def relativistic(self) -> bool:
        """Whether the generator's update compares its fakes with reals."""
        return ADVERSARIAL[self.adversarial].relativistic


Means = dict[str, Tensor]  # 0-dim, means over the batch
Gradients = tuple[list[Tensor], Means]


def critic_gradients(
    G: Generator,
    D: Critic,
    parameters: Sequence[Tensor],
    batch: Batch,
    alpha: Tensor | None,
    loss: LossSettings,
) -> Gradients:
    """Gradients of the critic's loss with respect to `parameters`, and statistics.

    `D(fake) - D(real) + λ/γ² (‖∇‖ - γ)² + ε D(real)²` for the paper's WGAN-GP (App. A.1). With
    augmentation the critic sees augmented images only, in the penalty too.
    """
    reals = augmented(crossfade_reals(batch.reals, alpha), batch.real_draws, loss)
    with torch.no_grad():
        fakes = at_least_float32(G(batch.z, batch.c, resolution=reals.shape[-1], alpha=alpha))
        fakes = augmented(fakes, batch.fake_draws, loss)
    c = None if batch.c is None else batch.c.repeat(2, 1)
    both = torch.cat([reals, fakes])  # the critic scales its weights once
    scores, logits = judged(D, both, c, alpha, loss, batches=2)
    real_scores, fake_scores = scores.chunk(2)
    total = ADVERSARIAL[loss.adversarial].critic(real_scores, fake_scores)
    total = total + loss.drift * real_scores.square()
    stats = {"Loss/scores/real": real_scores, "Loss/scores/fake": fake_scores}
    if loss.adaptive:
        stats["Loss/signs/real"] = real_scores.sign()
    if c is not None and logits is not None:
        labels = LABELS[loss.labels](logits, c).reshape(2, -1).sum(dim=0)
        total = total + loss.label * labels
        stats["Loss/labels/D"] = labels
    grads, stats = gradients(total, parameters, {"Loss/D": total, **stats})

    if loss.penalty is None:
        return grads, stats

    # The penalty's graph is built after that of the scores is freed: memory holds one of them.
    penalty, norm = PENALTIES[loss.penalty](
        lambda images: judged(D, images, batch.c, alpha, loss)[0],
        reals,
        fakes,
        batch.mix,
        loss.target,
    )
    more_stats = {"Loss/gradient_penalty": penalty, "Loss/gradient_norm": norm}
    more, more_stats = gradients(loss.penalty_weight * penalty, parameters, more_stats)
    torch._foreach_add_(grads, more)
    stats["Loss/D"] = stats["Loss/D"] + loss.penalty_weight * more_stats["Loss/gradient_penalty"]
    return grads, stats | more_stats


def generator_gradients(
    G: Generator,
    D: Critic,
    parameters: Sequence[Tensor],
    batch: Latents,
    alpha: Tensor | None,
    loss: LossSettings,
    resolution: int,
) -> Gradients:
    """Gradients of the generator's loss (`-D(fake)`) with respect to `parameters`."""
    fakes = at_least_float32(G(batch.z, batch.c, resolution=resolution, alpha=alpha))
    seen = augmented(fakes, batch.fake_draws, loss)
    scores, logits = judged(D, seen, batch.c, alpha, loss)
    real_scores = None
    if loss.relativistic:
        assert batch.reals is not None
        with torch.no_grad():  # they do not depend on the generator
            reals = augmented(crossfade_reals(batch.reals, alpha), batch.real_draws, loss)
            real_scores, _ = judged(D, reals, batch.c, alpha, loss)
    total = ADVERSARIAL[loss.adversarial].generator(real_scores, scores)
    stats = {}
    if batch.c is not None and logits is not None:
        labels = LABELS[loss.labels](logits, batch.c)
        total = total + loss.label * labels
        stats["Loss/labels/G"] = labels
    return gradients(total, parameters, {"Loss/G": total, **stats})


def judged(
    D: Critic,
    images: Tensor,
    c: Tensor | None,
    alpha: Tensor | None,
    loss: LossSettings,
    batches: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """Scores [N], and label logits [N, c_dim] if there is a loss on them.

    The projection critic's score is ψ(φ(x)) + c · Vφ(x) (Miyato & Koyama 2018, Eq. 3), where Vφ is
    what AC-GAN has for logits, so both have the same weights. V's bias is one more score a label.
    """
    scores, logits = D(images, alpha, batches)
    if c is None or loss.labels != "projection":
        return scores, logits
    return scores + (c * logits).sum(dim=1), None


def augmented(images: Tensor, draws: Tensor | None, loss: LossSettings) -> Tensor:
    """Images as the critic sees them."""
    return augment(images, draws, loss.augment, loss.augment_strength)


def gradients(total: Tensor, parameters: Sequence[Tensor], stats: Means) -> Gradients:
    """Gradients of the mean over the images, and means of the statistics, cut off the graph.

    Zero for a parameter that has no part in it, as the score's own bias has none in a penalty.
    """
    grads = torch.autograd.grad(total.mean(), parameters, materialize_grads=True)
    # Convolutions and a double backward give some of them in other orders of memory. Inside the
    # traced function, compiled kernels write them in their parameters' order at once. A single one
    # in another order would send torch's operations on whole lists down their slow path.
    pairs = zip(grads, parameters, strict=True)
    means = {name: values.detach().mean() for name, values in stats.items()}
    return [laid_out(grad, parameter) for grad, parameter in pairs], means


def laid_out(grad: Tensor, parameter: Tensor) -> Tensor:
    """The gradient with the strides of its contiguous parameter, also for sides of one pixel."""
    return grad if grad.stride() == parameter.stride() else grad.flatten().view_as(parameter)


def accumulate(passes: Iterable[Gradients]) -> Gradients:
    """The mean over forward passes of equal size, as if all had been one.

    One pass is held at a time besides the sum, so that more passes take no more memory than two.
    """
    passes = iter(passes)
    grads, means = next(passes)
    n = 1
    for more, more_means in passes:
        torch._foreach_add_(grads, more)
        means = {name: value + more_means[name] for name, value in means.items()}
        n += 1
        del more
    if n > 1:
        torch._foreach_div_(grads, n)
        means = {name: value / n for name, value in means.items()}
    return grads, means
