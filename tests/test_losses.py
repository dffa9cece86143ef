"""Losses and penalties, compared with closed forms and NumPy."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.func import functional_call

from progan.config.settings import LossConfig
from progan.model.networks import Critic
from progan.training.losses import ADVERSARIAL, LABELS, PENALTIES, r1, wgan_gp


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear(a):
    """The critic x → a·x, whose gradient is `a` everywhere."""
    return lambda images: (a * images).sum(dim=(1, 2, 3))


def quadratic(q):
    """The critic x → ½ x·(q x), whose gradient at x is q x."""
    return lambda images: 0.5 * (q * images * images).sum(dim=(1, 2, 3))


def naive_norms(gradients):
    """‖g‖ over C, H and W of each image, by loops."""
    return [math.sqrt(sum(v * v for v in g.flatten().tolist())) for g in gradients]


def assert_same(ours, expected, tolerance=1e-12):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)


# Adversarial losses -----------------------------------------------------------------------------

REAL = [-30.0, -0.5, 0.0, 2.0]
FAKE = [3.0, 0.25, -40.0, -1.0]


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def mean(values):
    return sum(values) / len(values)


CLOSED_FORMS = {
    "wgan": (lambda real, fake: fake - real, lambda real, fake: -fake),
    # -log σ(real) - log(1 - σ(fake)), and -log σ(fake)
    "logistic": (
        lambda real, fake: softplus(-real) + softplus(fake),
        lambda real, fake: softplus(-fake),
    ),
    "hinge": (
        lambda real, fake: max(0, 1 - real) + max(0, 1 + fake),
        lambda real, fake: -fake,
    ),
    # a = 0, b = c = 1
    "lsgan": (
        lambda real, fake: 0.5 * (real - 1) ** 2 + 0.5 * fake**2,
        lambda real, fake: 0.5 * (fake - 1) ** 2,
    ),
    # -log σ(real - fake), and -log σ(fake - real)
    "relativistic": (
        lambda real, fake: softplus(-(real - fake)),
        lambda real, fake: softplus(-(fake - real)),
    ),
    # -log σ(real - E fake) - log(1 - σ(fake - E real)), and with reals and fakes exchanged
    "relativistic-average": (
        lambda real, fake: softplus(-(real - mean(FAKE))) + softplus(fake - mean(REAL)),
        lambda real, fake: softplus(-(fake - mean(REAL))) + softplus(real - mean(FAKE)),
    ),
}


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
def test_adversarial_losses_by_closed_form(name):
    """Reference: the formula on Python floats, one value an image. A wrong sign, a swap of reals
    and fakes or a mean would show. Every loss in the dictionary needs a form here."""
    real, fake = torch.tensor(REAL).double(), torch.tensor(FAKE).double()
    critic, generator = CLOSED_FORMS[name]
    near = 1e-9  # torch's softplus(x) is x from 20 on
    assert_same(ADVERSARIAL[name].critic(real, fake), list(map(critic, REAL, FAKE)), near)
    seen = real if ADVERSARIAL[name].relativistic else None
    assert_same(ADVERSARIAL[name].generator(seen, fake), list(map(generator, REAL, FAKE)), near)


def test_settings_know_which_loss_needs_the_whole_batch():
    """Reference: the loss of two batches together. Only a mean over images makes it another."""
    real, fake = torch.tensor(REAL).double(), torch.tensor(FAKE).double()
    for name, loss in ADVERSARIAL.items():
        parts = torch.cat([loss.critic(real[k], fake[k]) for k in (slice(0, 2), slice(2, 4))])
        depends = not torch.allclose(parts, loss.critic(real, fake))
        assert depends == loss.whole == LossConfig(adversarial=name).whole, name


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
def test_adversarial_losses_pull_the_right_way(name):
    """Reference: the game itself. The critic's loss falls when reals score higher or fakes lower;
    the generator's falls when fakes score higher."""
    real = torch.tensor([0.3], requires_grad=True)
    fake = torch.tensor([0.7], requires_grad=True)
    by_real, by_fake = torch.autograd.grad(ADVERSARIAL[name].critic(real, fake).sum(), (real, fake))
    generator = ADVERSARIAL[name].generator(real.detach(), fake)
    (by_fake_in_G,) = torch.autograd.grad(generator.sum(), fake)
    assert by_real < 0
    assert by_fake > 0
    assert by_fake_in_G < 0


# Gradient penalties -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [1.0, 750.0, 0.5])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_wgan_gp_of_a_linear_critic(target, scale):
    """Reference: (‖a‖ - γ)² / γ², the same at every image wherever it lies. Fails without the
    division by γ², with a norm not over all of C, H, W, or with a mean over images."""
    a = scale * noise(3, 4, 4)
    (norm,) = naive_norms([a])
    penalty, seen = wgan_gp(
        linear(a), noise(5, 3, 4, 4, seed=1), noise(5, 3, 4, 4, seed=2), mix5(), target
    )
    assert_same(penalty, [(norm - target) ** 2 / target**2] * 5)
    assert_same(seen, [norm] * 5)


def mix5():
    return torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("target", [1.0, 750.0])
def test_wgan_gp_looks_between_reals_and_fakes(target):
    """Reference: a critic whose gradient at x is q x, so the norm shows where it was taken: at
    (1 - u) real + u fake, u each image's own; the real itself at 0, the fake at 1."""
    reals, fakes, q = noise(5, 2, 3, 3, seed=1) + 2, noise(5, 2, 3, 3, seed=2) - 3, noise(2, 3, 3)
    points = [real + u * (fake - real) for real, fake, u in zip(reals, fakes, mix5(), strict=True)]
    norms = naive_norms([q * point for point in points])
    penalty, seen = wgan_gp(quadratic(q), reals, fakes, mix5(), target)
    assert_same(seen, norms)
    assert_same(penalty, [(norm - target) ** 2 / target**2 for norm in norms])


@pytest.mark.parametrize("target", [1.0, 9.0])
def test_wgan_lp_is_one_sided(target):
    """Reference: the critic's norms between reals and fakes by loops, some above the target and
    some below, where it is 0; its gradient there is 0 too, for a norm of 0 as well."""
    reals, fakes, q = noise(5, 2, 3, 3, seed=1) + 2, noise(5, 2, 3, 3, seed=2), noise(2, 3, 3)
    reals[0] = fakes[0] = 0.0
    q.requires_grad_()
    points = [real + u * (fake - real) for real, fake, u in zip(reals, fakes, mix5(), strict=True)]
    norms = naive_norms([q * point for point in points])
    assert min(norms) < target < max(norms)
    penalty, seen = PENALTIES["wgan_lp"](quadratic(q), reals, fakes, mix5(), target)
    assert_same(seen, norms)
    assert_same(penalty, [max(0, norm - target) ** 2 / target**2 for norm in norms])
    below = torch.tensor(norms) < target
    assert_same(torch.autograd.grad(penalty[below].sum(), q)[0], torch.zeros_like(q))


@pytest.mark.parametrize("name", ["r1", "r2", "r1_r2"])
def test_r1_looks_at_the_reals_and_r2_at_the_fakes(name):
    """Reference: ‖∇‖² / 2 of that critic at the reals, at the fakes, and their sum, by loops; of
    the norms the mean; whatever the other images, mix and target are."""
    images = {"r1": noise(5, 2, 3, 3, seed=1) + 2, "r2": noise(5, 2, 3, 3, seed=2) - 3}
    q = noise(2, 3, 3)
    seen = {key: x if key in name else torch.full_like(x, math.nan) for key, x in images.items()}
    mix = torch.rand(5).double()
    penalty, found = PENALTIES[name](quadratic(q), *seen.values(), mix, math.nan)
    norms = [naive_norms([q * x for x in images[key]]) for key in name.split("_")]
    assert_same(penalty, [sum(norm**2 for norm in each) / 2 for each in zip(*norms, strict=True)])
    assert_same(found, np.mean(norms, axis=0))


@pytest.mark.parametrize("target", [1.0, 750.0])
def test_gradient_of_wgan_gp_in_the_critics_weights(target):
    """Reference: of (‖a‖ - γ)² / γ² by calculus, 2 (‖a‖ - γ) / γ² · a / ‖a‖. Zero or an error if
    the graph of the inner gradient were not kept."""
    a = noise(3, 4, 4).requires_grad_()
    images = noise(5, 3, 4, 4, seed=1)
    penalty, _ = wgan_gp(linear(a), images, images + 1, mix5(), target)
    (gradient,) = torch.autograd.grad(penalty.mean(), a)
    norm = a.detach().square().sum().sqrt()
    assert_same(gradient, 2 * (norm - target) / target**2 * a.detach() / norm)


def test_gradient_of_r1_in_the_critics_weights():
    """Reference: of ‖a‖² / 2 by calculus: a."""
    a = noise(3, 4, 4).requires_grad_()
    images = noise(5, 3, 4, 4, seed=1)
    penalty, _ = r1(linear(a), images, images, mix5(), 1.0)
    assert_same(torch.autograd.grad(penalty.mean(), a)[0], a.detach())


@pytest.mark.parametrize("name", sorted(PENALTIES))
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_penalties_differentiate_through_the_critic(name, fused, alpha):
    """Reference: finite differences in every weight of a whole tiny critic, through convolutions,
    fade and minibatch stddev. This is the double backward that training needs."""
    torch.manual_seed(0)
    D = Critic(8, channels=1, channel_base=8, channel_max=2, fused_scale=fused).double()
    names = list(D.active_parameters(8, fading=alpha is not None))
    weights = [dict(D.named_parameters())[name] for name in names]
    at = None if alpha is None else torch.tensor(alpha)
    reals, fakes = noise(2, 1, 8, 8, seed=1), noise(2, 1, 8, 8, seed=2)
    mix = torch.tensor([0.3, 0.8], dtype=torch.float64)

    def penalty(*values):
        def scores_of(images):
            return functional_call(D, dict(zip(names, values, strict=True)), (images, at))[0]

        return PENALTIES[name](scores_of, reals, fakes, mix, 1.0)[0]

    assert penalty(*weights).shape == (2,)
    assert gradcheck(penalty, weights, fast_mode=True)


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_penalties_leave_images_and_weights_alone(name):
    """Reference: a snapshot from before. No weight has a `.grad`, no image asks for one."""
    torch.manual_seed(0)
    D = Critic(8, channel_base=16, channel_max=2)
    before = {key: value.clone() for key, value in D.state_dict().items()}
    reals, fakes = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    PENALTIES[name](lambda x: D(x)[0], reals, fakes, torch.rand(2), 1.0)
    assert not reals.requires_grad
    assert not fakes.requires_grad
    assert all(p.grad is None for p in D.parameters())
    assert all(torch.equal(before[key], value) for key, value in D.state_dict().items())


# Labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_class_loss_is_softmax_cross_entropy(scale):
    """Reference: minus the log-softmax of each image's own class, in NumPy, one value an image. At
    scale 300 a softmax without its shift would overflow."""
    logits = scale * noise(6, 4)
    classes = np.array([0, 3, 1, 1, 2, 0])
    values = logits.numpy()
    shifted = values - values.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    expected = [-log_softmax[i, k] for i, k in enumerate(classes)]
    one_hot = torch.from_numpy(np.eye(4)[classes])
    assert_same(LABELS["classes"](logits, one_hot), expected)


ROWS = [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0]]


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_attribute_loss_is_binary_cross_entropy(scale):
    """Reference: -log σ(logit) where the attribute is 1, else -log(1 - σ(logit)), by NumPy's
    logaddexp in float64; the mean over attributes, one value an image. A softmax over attributes, a
    sum, or an overflow would show."""
    logits = scale * noise(4, 4)
    values, rows = logits.numpy(), np.array(ROWS)
    expected = np.logaddexp(0, np.where(rows == 1, -values, values)).mean(axis=1)
    assert_same(LABELS["attributes"](logits, torch.tensor(ROWS).double()), expected)


def test_attribute_loss_has_one_weight_for_any_number():
    """Reference: the same attributes ten times over. And at logits of 0, as at the start: log 2."""
    logits, c = noise(4, 4), torch.tensor(ROWS).double()
    loss = LABELS["attributes"]
    assert_same(loss(logits.repeat(1, 10), c.repeat(1, 10)), loss(logits, c))
    assert_same(loss(torch.zeros_like(c), c), [math.log(2)] * 4)
