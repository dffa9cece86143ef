"""Updates, compared with formulas by hand, finite differences and a separate Adam."""

import weakref

import pytest
import torch
from phases import a_phase

from progan.model.networks import Critic, Generator
from progan.training import ema
from progan.training.feed import Batch, split
from progan.training.optimizers import Optimizer
from progan.training.updates import (
    LossSettings,
    accumulate,
    critic_gradients,
    generator_gradients,
    gradients,
)
from progan.training.work import work_per_image


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def networks(c_dim=0, channel_max=4):
    """A tiny float64 pair with biases that are not 0."""
    torch.manual_seed(0)
    widths = {"channel_base": 32, "channel_max": channel_max}
    G = Generator(8, z_dim=3, c_dim=c_dim, **widths)
    D = Critic(8, c_dim=c_dim, **widths)
    for network in (G, D):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.3)
    return G.double(), D.double()


def make_batch(n=4, c_dim=0, seed=0):
    c = torch.eye(c_dim, dtype=torch.float64)[torch.arange(n) % c_dim] if c_dim else None
    reals = noise(n, 3, 8, 8, seed=seed + 1) * torch.linspace(0.5, 2, n).reshape(n, 1, 1, 1)
    mix = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Batch(noise(n, 3, seed=seed), c, reals, mix)


def active(network, alpha):
    return list(network.active_parameters(8, fading=alpha is not None).values())


def tensor(alpha):
    return None if alpha is None else torch.tensor(alpha, dtype=torch.float64)


# The formulas by hand ---------------------------------------------------------------------------


def cross_entropy(logits, c):
    return -(c * (logits - logits.exp().sum(dim=1, keepdim=True).log())).sum(dim=1)


def label_loss(logits, c, loss):
    """Softmax cross-entropy of classes, mean binary cross-entropy of attributes."""
    if loss.labels == "classes":
        return cross_entropy(logits, c)
    p = 1 / (1 + (-logits).exp())
    return -(c * p.log() + (1 - c) * (1 - p).log()).mean(dim=1)


def faded_reals(images, alpha):
    """The official code's `lerp(box-down-then-nearest-up(x), x, alpha)`."""
    if alpha is None:
        return images
    n, c, h, w = images.shape
    boxes = images.reshape(n, c, h // 2, 2, w // 2, 2)
    low = boxes.mean(dim=(3, 5), keepdim=True).expand_as(boxes).reshape(images.shape)
    return (1 - alpha) * low + alpha * images


def judged(D, images, c, alpha, loss):
    """Scores and logits; with projection the score is ψ(φ) + yᵀ(Vφ + b), from the last layer's
    input and weights."""
    seen, out = [], D.blocks["4"].out
    hook = out.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    scores, logits = D(images, tensor(alpha))
    hook.remove()
    if c is None or loss.labels != "projection":
        return scores, logits
    projected = out.scale * seen[0] @ out.weight[1:].T + out.bias[1:]
    return scores + torch.stack([y @ row for y, row in zip(c, projected, strict=True)]), None


def critic_loss(G, D, batch, alpha, loss):
    """Per image: adversarial + λ penalty + ε real² + weight (labels of reals + labels of fakes)."""
    reals = faded_reals(batch.reals, alpha)
    fakes = G(batch.z, batch.c, resolution=8, alpha=tensor(alpha)).detach()
    real, real_logits = judged(D, reals, batch.c, alpha, loss)
    fake, fake_logits = judged(D, fakes, batch.c, alpha, loss)
    if loss.adversarial == "wgan":
        total = fake - real
    elif loss.adversarial == "relativistic":
        total = (1 + (fake - real).exp()).log()
    else:
        total = (1 + fake.exp()).log() + (1 + (-real).exp()).log()
    u = batch.mix.reshape(-1, 1, 1, 1)
    places = {"r1": [reals], "r1_r2": [reals, fakes]}.get(
        loss.penalty, [(1 - u) * reals + u * fakes]
    )
    penalty = 0.0
    for at in places:
        at = at.clone().requires_grad_()
        (slope,) = torch.autograd.grad(
            judged(D, at, batch.c, alpha, loss)[0].sum(), at, create_graph=True
        )
        squares = (slope**2).sum(dim=(1, 2, 3))
        if loss.penalty in ("r1", "r1_r2"):
            penalty = penalty + squares / 2
        else:
            penalty = (squares.sqrt() - loss.target) ** 2 / loss.target**2
    total = total + loss.penalty_weight * penalty + loss.drift * real**2
    if batch.c is not None and loss.labels != "projection":
        crossed = label_loss(real_logits, batch.c, loss) + label_loss(fake_logits, batch.c, loss)
        total = total + loss.label * crossed
    return total


def generator_loss(G, D, batch, alpha, loss):
    """Loss per image: adversarial + weight · labels of fakes."""
    fakes = G(batch.z, batch.c, resolution=8, alpha=tensor(alpha))
    fake, logits = judged(D, fakes, batch.c, alpha, loss)
    if loss.adversarial == "relativistic":
        real, _ = judged(D, faded_reals(batch.reals, alpha), batch.c, alpha, loss)
        total = (1 + (real - fake).exp()).log()
    else:
        total = -fake if loss.adversarial == "wgan" else (1 + (-fake).exp()).log()
    if batch.c is not None and loss.labels != "projection":
        total = total + loss.label * label_loss(logits, batch.c, loss)
    return total


def ours(update, G, D, batch, alpha, loss, parameters=None):
    """Gradients and statistics of the package for the critic's or the generator's update."""
    if update == "critic":
        parameters = active(D, alpha) if parameters is None else parameters
        return critic_gradients(G, D, parameters, batch, tensor(alpha), loss)
    parameters = active(G, alpha) if parameters is None else parameters
    return generator_gradients(G, D, parameters, batch, tensor(alpha), loss, 8)


BY_HAND = {"critic": critic_loss, "generator": generator_loss}
LOSSES = [
    LossSettings(),
    LossSettings(penalty_weight=3.0, target=750.0, drift=0.2, label=0.7),
    LossSettings(adversarial="logistic", penalty="r1", penalty_weight=5.0, drift=0.0),
    LossSettings(label=0.7, labels="attributes"),
    LossSettings(adversarial="relativistic", penalty="r1_r2", penalty_weight=0.5),
    LossSettings(adversarial="relativistic", penalty="r1", labels="projection"),
]
IDS = ["paper", "cifar10", "logistic-r1", "attributes", "relativistic-r1_r2", "projection"]


def test_default_loss_is_the_papers():
    """Reference: the paper: WGAN-GP, λ 10, γ 1, ε 0.001, label weight 1."""
    assert LossSettings() == LossSettings("wgan", "wgan_gp", 10.0, 1.0, 0.001, 1.0)


@pytest.mark.parametrize("update", ["critic", "generator"])
@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
@pytest.mark.parametrize("alpha", [None, 0.3])
@pytest.mark.parametrize("c_dim", [0, 3])
def test_gradients_equal_backward_of_the_formula(all_float64, update, loss, alpha, c_dim):
    """Reference: the loss put together above from outputs of G and D, and `loss.backward()`.

    A term lost, doubled, with another weight, on fakes instead of reals, or reals not crossfaded
    changes the value and the gradients."""
    G, D = networks(c_dim)
    batch = make_batch(c_dim=c_dim)
    grads, stats = ours(update, G, D, batch, alpha, loss)
    total = BY_HAND[update](G, D, batch, alpha, loss).mean()
    total.backward()
    reported = stats["Loss/D" if update == "critic" else "Loss/G"]
    torch.testing.assert_close(reported, total.detach(), rtol=1e-10, atol=1e-10)
    expected = [p.grad for p in active(D if update == "critic" else G, alpha)]
    torch.testing.assert_close(grads, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_critic_statistics_by_hand(all_float64, alpha):
    """Reference: means over the batch of scores, penalty and label losses of their own, and of the
    norm that penalties with two targets have. They are scalars without a graph, so that keeping
    them keeps no memory."""
    G, D = networks(3)
    batch = make_batch(c_dim=3)
    _, stats = ours("critic", G, D, batch, alpha, LossSettings())
    fakes = G(batch.z, batch.c, resolution=8, alpha=tensor(alpha))
    real, real_logits = D(faded_reals(batch.reals, alpha), tensor(alpha))
    fake, fake_logits = D(fakes, tensor(alpha))
    crossed = cross_entropy(real_logits, batch.c) + cross_entropy(fake_logits, batch.c)
    without = LossSettings(penalty_weight=0.0)
    rest = critic_loss(G, D, batch, alpha, without)
    penalty = (critic_loss(G, D, batch, alpha, LossSettings()) - rest) / 10
    halves = (critic_loss(G, D, batch, alpha, LossSettings(target=2.0)) - rest) / 10
    norms = (3 + penalty - 4 * halves) / 2  # of (n - 1)² and (n - 2)² / 4
    expected = {
        "Loss/D": critic_loss(G, D, batch, alpha, LossSettings()),
        "Loss/scores/real": real,
        "Loss/scores/fake": fake,
        "Loss/gradient_penalty": penalty,
        "Loss/gradient_norm": norms,
        "Loss/labels/D": crossed,
    }
    assert stats.keys() == expected.keys()
    assert not any(value.requires_grad for value in stats.values())
    torch.testing.assert_close(stats, {k: v.detach().mean() for k, v in expected.items()})


@pytest.mark.parametrize("update", ["critic", "generator"])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_gradients_are_values(all_float64, update, alpha):
    """Reference: weights from before. Nothing moves, no `.grad` appears, nothing of the batch
    changes, and a second call gives the same."""
    G, D = networks(3)
    batch = make_batch(c_dim=3)
    before = [value.clone() for network in (G, D) for value in network.state_dict().values()]
    reals = batch.reals.clone()
    first, _ = ours(update, G, D, batch, alpha, LossSettings())
    second, _ = ours(update, G, D, batch, alpha, LossSettings())
    after = [value for network in (G, D) for value in network.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for network in (G, D) for p in network.parameters())
    assert torch.equal(batch.reals, reals)
    assert not batch.reals.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(grad.requires_grad for grad in first)


def difference(evaluate, parameter, place, step=1e-6):
    """Central difference of a scalar in one entry of a parameter."""
    value = parameter.data[place].item()
    ends = []
    for sign in (1, -1):
        parameter.data[place] = value + sign * step
        ends.append(evaluate().item())
    parameter.data[place] = value
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("update", ["critic", "generator"])
@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_gradients_by_finite_differences(all_float64, update, loss, alpha):
    """Reference: differences of the hand-made loss, in the first, middle and last entry of each
    parameter. For the critic this checks the penalty's double backward independently: only the
    inner gradient comes from autograd there."""
    G, D = networks(3, channel_max=2)
    batch = make_batch(c_dim=3)
    network = D if update == "critic" else G
    parameters = active(network, alpha)
    grads, _ = ours(update, G, D, batch, alpha, loss)

    def evaluate():
        return BY_HAND[update](G, D, batch, alpha, loss).mean()

    for parameter, grad in zip(parameters, grads, strict=True):
        last = parameter.numel() - 1
        for flat in {0, last // 2, last}:
            place = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), parameter.shape))
            expected = difference(evaluate, parameter, place)
            assert grad[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


# Several passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["critic", "generator"])
@pytest.mark.parametrize("alpha", [None, 0.3])
@pytest.mark.parametrize("passes", [1, 2, 4])
def test_accumulated_passes_equal_one(all_float64, update, alpha, passes):
    """Reference: all 16 images in one pass. Passes hold whole stddev groups of 4, so gradients and
    statistics are the same means."""
    G, D = networks(3)
    batch = make_batch(16, c_dim=3)

    def gradients_of(part):
        return ours(update, G, D, part, alpha, LossSettings())

    grads, stats = accumulate(map(gradients_of, split(batch, 16 // passes)))
    expected, expected_stats = gradients_of(batch)
    torch.testing.assert_close(grads, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(stats, expected_stats, rtol=1e-9, atol=1e-11)


def test_passes_that_cut_groups_are_another_loss(all_float64):
    """Reference: one pass. With 2 images a pass the stddev groups of 4 are cut, which must be
    visible: otherwise the test above would not show that groups matter."""
    G, D = networks()
    batch = make_batch(8)

    def gradients_of(part):
        return ours("critic", G, D, part, None, LossSettings())

    grads, _ = accumulate(map(gradients_of, split(batch, 2)))
    expected, _ = gradients_of(batch)
    assert not torch.allclose(grads[0], expected[0], rtol=1e-3)


def test_one_pass_is_held_besides_the_sum():
    """Reference: weak references. A rehearsal has two passes, so more passes must not need more
    memory."""
    made: list[weakref.ref] = []

    def passes():
        for _ in range(4):
            alive = [number for number, grad in enumerate(made) if grad() is not None]
            assert alive in ([], [0])
            grad = torch.ones(3)
            made.append(weakref.ref(grad))
            yield [grad], {"Loss/D": torch.ones(())}
            del grad

    grads, means = accumulate(passes())
    assert torch.equal(grads[0], torch.ones(3)) and means == {"Loss/D": 1.0}
    assert len(made) == 4


# Adam -------------------------------------------------------------------------------------------


def written_adam(start, grads, rate):
    """Kingma & Ba's Adam with β1 0, β2 0.99, ε 1e-8, on Python floats: all steps of one weight."""
    value, second = start, 0.0
    for step, grad in enumerate(grads, 1):
        second = 0.99 * second + 0.01 * grad * grad
        corrected = second / (1 - 0.99**step)
        value -= rate * grad / (corrected**0.5 + 1e-8)
    return value


def paper_adam(parameters, rate=0.001):
    adam = Optimizer(parameters)
    adam.set(rate, {"beta1": 0.0, "beta2": 0.99, "eps": 1e-8})
    return adam


LAYOUTS = {
    "as the parameter": lambda x: x.contiguous(),
    "in and out swapped": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "height and width swapped": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


@pytest.mark.parametrize("shape", [(3, 4, 3, 3), (3, 4, 1, 1)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_lie_in_memory_as_their_parameters(layout, shape):
    """Reference: the weights of a linear loss, which are its gradient, and a parameter's own
    strides: of its sides of one pixel, too, which `is_contiguous` does not look at."""
    parameter, weights = torch.nn.Parameter(noise(*shape)), LAYOUTS[layout](noise(*shape, seed=1))
    change = LAYOUTS[layout](parameter)  # so that its gradient comes back in this order
    (grad,), _ = gradients((change * weights).sum(dim=(1, 2, 3)), [parameter], {})
    assert grad.stride() == parameter.stride()
    torch.testing.assert_close(grad, weights / 3, rtol=1e-12, atol=0)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "as the parameter"])
def test_apply_refuses_other_strides(layout):
    """Reference: the weight from before. The fused Adam reads the memory of a gradient in the
    parameter's order, so it would move the wrong elements, silently."""
    parameter = torch.nn.Parameter(noise(3, 4, 3, 3))
    adam = paper_adam({"": parameter})
    with pytest.raises(AssertionError, match="laid out"):
        adam.apply([parameter], [LAYOUTS[layout](noise(3, 4, 3, 3, seed=1))])
    assert torch.equal(parameter, noise(3, 4, 3, 3))


def test_apply_is_adam():
    """Reference: Adam written out on Python floats, three steps."""
    start = noise(3, 4, 3, 3)
    grads = [noise(3, 4, 3, 3, seed=seed) * 10.0**-seed for seed in (1, 2, 3)]
    parameter = torch.nn.Parameter(start.clone())
    adam = paper_adam({"": parameter}, 0.01)
    for grad in grads:
        assert adam.apply([parameter], [grad]) == 0
    flat = zip(*(grad.flatten().tolist() for grad in grads), strict=True)
    expected = [
        written_adam(value, history, 0.01)
        for value, history in zip(start.flatten().tolist(), flat, strict=True)
    ]
    expected = torch.tensor(expected, dtype=torch.float64).reshape(start.shape)
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-10, atol=1e-12)


def test_apply_follows_a_real_critic_update():
    """Reference: as above, for the gradients that a critic update returns; also: what takes no
    part keeps its value."""
    G, D = (network.float() for network in networks())
    batch = make_batch()
    batch = Batch(batch.z.float(), None, batch.reals.float(), batch.mix.float())
    parameters = active(D, None)
    start = [p.detach().clone() for p in parameters]
    idle = D.image_layers["4"].weight
    idle_before = idle.detach().clone()
    adam = paper_adam(dict(D.named_parameters()))
    grads, _ = critic_gradients(G, D, parameters, batch, None, LossSettings())
    grads = [grad.clone() for grad in grads]
    adam.apply(parameters, grads)
    for parameter, before, grad in zip(parameters, start, grads, strict=True):
        expected = before - 0.001 * grad / (grad.abs() + 1e-8)  # the first step
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(idle, idle_before)


def test_apply_keeps_and_changes_no_gradient():
    """Reference: the gradients from before. What is kept from one update to the next would take
    memory as large as the weights."""
    parameter = torch.nn.Parameter(noise(3, 4))
    adam = paper_adam({"": parameter})
    first, second = noise(3, 4, seed=1), noise(3, 4, seed=2)
    kept = first.clone()
    adam.apply([parameter], [first])
    adam.apply([parameter], [second])
    assert torch.equal(first, kept)
    assert parameter.grad is None


# The average ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999, 1.0])
def test_average_by_formula(decay):
    """Reference: decay · average + (1 - decay) · parameter, in place; parameters stay."""
    averages, parameters = [noise(2, 3), noise(4)], [noise(2, 3, seed=1), noise(4, seed=2)]
    expected = [decay * a + (1 - decay) * p for a, p in zip(averages, parameters, strict=True)]
    kept = [p.clone() for p in parameters]
    addresses = [a.data_ptr() for a in averages]
    ema.update(averages, parameters, [decay] * 2)
    torch.testing.assert_close(averages, expected, rtol=1e-12, atol=1e-12)
    assert [a.data_ptr() for a in averages] == addresses
    assert all(torch.equal(p, k) for p, k in zip(parameters, kept, strict=True))


def test_average_of_a_networks_parameters():
    """Reference: the formula; given generators of `Parameter`s, as a network has them."""
    average, network = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    expected = 0.9 * average.weight.detach() + 0.1 * network.weight.detach()
    ema.update(average.parameters(), network.parameters(), [0.9] * 2)
    torch.testing.assert_close(average.weight.detach(), expected)
    assert average.weight.grad_fn is None


def test_official_decay():
    """Reference: the official 0.999 per update at batch 16, a half-life of about 11 kimg."""
    assert ema.decay(16, 11.1) == pytest.approx(0.999, abs=2e-6)


@pytest.mark.parametrize("batch_size, half_life_kimg", [(16, 0.16), (8, 0.16), (10, 1.0)])
def test_half_life(batch_size, half_life_kimg):
    """Reference: the definition. After one half-life half of the old value is left, whatever the
    batch size."""
    average, parameter = [torch.ones(1, dtype=torch.float64)], [torch.zeros(1).double()]
    for _ in range(round(half_life_kimg * 1000 / batch_size)):
        ema.update(average, parameter, [ema.decay(batch_size, half_life_kimg)])
    assert average[0].item() == pytest.approx(0.5, rel=1e-9)


# Costs ------------------------------------------------------------------------------------------

PLAIN = {4: 1.5, 8: 12, 16: 56, 32: 230, 64: 491, 128: 752, 256: 1013, 512: 1274, 1024: 1536}
FUSED = {4: 1.5, 8: 9, 16: 41, 32: 166, 64: 331, 128: 495, 256: 660, 512: 824, 1024: 990}


def forward_gflops(resolution, fused):
    """Of one image through G and through D, by hand: 2 · in · out · taps · positions per layer."""
    widths = {r: min(16384 // r, 512) for r in (4, 8, 16, 32, 64, 128, 256, 512, 1024)}
    G = 512 * 512 * 16 + 512 * 512 * 9 * 16 + 512 * 3
    D = 513 * 512 * 9 * 16 + 8192 * 512 + 512
    r = 4
    while r < resolution:
        r, above, new = 2 * r, widths[r], widths[2 * r]
        resampled = 16 * (r // 2) ** 2 if fused else 9 * r**2
        G += above * new * resampled + new * new * 9 * r**2
        D += above * new * resampled + new * new * 9 * r**2
    image = 3 * widths[r] * r**2
    return 2 * (G + image) / 1e9, 2 * (D + image) / 1e9


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "fused"])
def paper_networks(request):
    """The paper's widths, without numbers, and whether resampling is fused."""
    with torch.device("meta"):
        G = Generator(1024, fused_scale=request.param)
        D = Critic(1024, fused_scale=request.param)
    return G, D, request.param


@pytest.mark.parametrize("resolution", PLAIN)
def test_cost_of_an_update(paper_networks, resolution):
    """Reference: the tables above, which are rounded (hence ± 1, and half of a tenth at 4); and
    forward passes by hand. An update is 4 of G (forward twice, backward to its weights
    and features once) and 14 of D: 3 for reals, 3 for fakes, 6 for the penalty (forward, to the
    images, back through both), 2 in G's update (forward, to the images). Fused kernels are made
    from the weights once a pass, which at 4 images adds up to 1.6 %. Fails if a part is not
    counted or counted twice."""
    G, D, fused = paper_networks
    phase = a_phase(resolution, False, 0, 4, 4, None, 0.001)
    gflops = work_per_image(G, D, LossSettings(), phase).gflops
    table = FUSED if fused else PLAIN
    assert gflops == pytest.approx(table[resolution], rel=0.01, abs=0.05 if resolution == 4 else 1)
    per_G, per_D = forward_gflops(resolution, fused)
    assert gflops == pytest.approx(4 * per_G + 14 * per_D, rel=0.02)
