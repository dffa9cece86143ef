"""One critic update, one generator update: what happens to the weights.

Gradients are values: `critic_gradients` and `generator_gradients` change nothing and return what
`torch.autograd.grad` gives, the penalty inside. `apply` is the only place where weights move.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from progan.model.layers import at_least_float32, crossfade_reals
from progan.model.networks import Critic, Generator
from progan.training.augment import augment
from progan.training.feed import Batch, Latents
from progan.training.losses import ADVERSARIAL, LABELS, PENALTIES


@dataclass(frozen=True)
class LossSettings:
    """Which loss, and the weights of its terms (see `config.LossConfig`)."""

    adversarial: str = "wgan"
    penalty: str | None = "wgan_gp"
    penalty_weight: float = 10.0
    target: float = 1.0
    drift: float = 0.001
    label: float = 1.0
    augment: tuple[str, ...] = ()  # of what the critic sees (see `progan.training.augment`)
    labels: str = "classes"  # or attributes, depending on the data


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
    reals = augment(crossfade_reals(batch.reals, alpha), batch.real_draws, loss.augment)
    with torch.no_grad():
        fakes = at_least_float32(G(batch.z, batch.c, resolution=reals.shape[-1], alpha=alpha))
        fakes = augment(fakes, batch.fake_draws, loss.augment)
    scores, logits = D(torch.cat([reals, fakes]), alpha, batches=2)  # scales its weights once
    real_scores, fake_scores = scores.chunk(2)
    total = ADVERSARIAL[loss.adversarial].critic(real_scores, fake_scores)
    total = total + loss.drift * real_scores.square()
    stats = {"Loss/scores/real": real_scores, "Loss/scores/fake": fake_scores}
    if batch.c is not None:
        labels = LABELS[loss.labels](logits, batch.c.repeat(2, 1)).reshape(2, -1).sum(dim=0)
        total = total + loss.label * labels
        stats["Loss/labels/D"] = labels
    grads, stats = gradients(total, parameters, {"Loss/D": total, **stats})

    if loss.penalty is None:
        return grads, stats

    # The penalty's graph is built after that of the scores is freed: memory holds one of them.
    penalty = PENALTIES[loss.penalty](
        lambda images: D(images, alpha)[0], reals, fakes, batch.mix, loss.target
    )
    more, more_stats = gradients(
        loss.penalty_weight * penalty, parameters, {"Loss/gradient_penalty": penalty}
    )
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
    scores, logits = D(augment(fakes, batch.fake_draws, loss.augment), alpha)
    total = ADVERSARIAL[loss.adversarial].generator(scores)
    stats = {}
    if batch.c is not None:
        labels = LABELS[loss.labels](logits, batch.c)
        total = total + loss.label * labels
        stats["Loss/labels/G"] = labels
    return gradients(total, parameters, {"Loss/G": total, **stats})


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


class Adam(torch.optim.Adam):
    """Fused Adam that checks what it loads: the fused kernels trust shapes and strides."""

    found_inf: Tensor  # 1.0: the fused step does nothing, as with a gradient scaler

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load moments and counts of steps, laid out as the parameters; settings stay.

        Raises:
            ValueError: they are not of these parameters.
        """
        parameters = self.param_groups[0]["params"]
        mine = {}
        for i, given in state["state"].items():
            parameter, found = parameters[i], {}
            for name, shape in MOMENTS.items():
                value, expected = given[name], parameter.shape if shape is None else shape
                if value.dtype != torch.float32 or value.shape != expected:
                    raise ValueError(f"{name} of parameter {i} is not of its shape")
                like = torch.empty(expected, device=parameter.device)
                found[name] = (torch.empty_like(parameter) if shape is None else like).copy_(value)
            mine[parameter] = found
        self.state.clear()
        self.state.update(mine)


MOMENTS = {"exp_avg": None, "exp_avg_sq": None, "step": ()}  # shapes; None: the parameter's


def apply(optimizer: Adam, parameters: Sequence[Tensor], grads: list[Tensor]) -> Tensor:
    """Make one step of Adam, or none if a gradient is not finite; the device is not waited for.

    Returns 1.0 if the step was skipped, else 0.0 (0-dim). No parameter has a `.grad` afterwards.
    """
    skipped = 1 - torch.stack(torch._foreach_norm(grads)).isfinite().all().float()
    optimizer.found_inf = skipped
    try:
        for parameter, grad in zip(parameters, grads, strict=True):
            # The fused Adam ignores strides: other ones would move the wrong elements.
            assert grad.stride() == parameter.stride(), "gradients are not laid out as the weights"
            parameter.grad = grad
        optimizer.step()
    finally:
        for parameter in parameters:
            parameter.grad = None
    return skipped
