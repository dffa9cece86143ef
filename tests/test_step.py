"""One training step: when the penalty is due, how passes add up, no waiting for a device."""

import copy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from conftest import assert_identical, flat, load_checkpoint, options
from phases import a_phase
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from progan.cli.main import main
from progan.config.curves import Ramp
from progan.config.load import load_config
from progan.config.schedule import Curve, Phase
from progan.data.labels import Labels
from progan.model.layers import EqualizedConv2d
from progan.model.networks import Critic, Generator
from progan.runtime.stopping import StopRequest
from progan.training.ema import Average, HalfLife
from progan.training.feed import Batch
from progan.training.step import Step
from progan.training.trainer import Trainer
from progan.training.updates import LossSettings, critic_gradients

ALL_KINDS = ("color", "translation", "cutout")
R1 = LossSettings("logistic", "r1", penalty_weight=5.0)


def make_step(loss=R1, *, resolution=8, channels=3, c_dim=0, fused_scale=True, **settings) -> Step:
    """Tiny networks with biases that are not 0, the same at every call."""
    torch.manual_seed(0)
    shape = {"channel_base": 32, "channel_max": 4, "fused_scale": fused_scale}
    G = Generator(resolution, channels, z_dim=3, c_dim=c_dim, **shape)
    D = Critic(resolution, channels, c_dim=c_dim, **shape)
    for network in (G, D):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.3)
    settings = {
        "precision": "fp32",
        "averages": Average(G, [HalfLife(Curve(1.0).at)]),
    } | settings
    return Step(G, D, loss, Accelerator(cpu=True), **settings)


def exactly(step: Step) -> Step:
    """Convert the step's networks to float64."""
    step.G.double(), step.D.double(), step.G_ema.double()
    return step


def phase_at(resolution=8, fading=False, start=0, updates=6, size=8, gpu=None, **more) -> Phase:
    end = start + updates * size
    return a_phase(resolution, fading, start, end, size, gpu, **more)


def make_batch(n=8, resolution=8, channels=3, c_dim=0, dtype=torch.float32, draws=False) -> Batch:
    draw = np.random.default_rng(n)

    def normal(*shape):
        return torch.from_numpy(draw.standard_normal(shape)).to(dtype)

    def uniform(*shape):
        return torch.from_numpy(draw.random(shape)).to(dtype)

    c = torch.eye(c_dim, dtype=dtype)[torch.arange(n) % c_dim] if c_dim else None
    reals = normal(n, channels, resolution, resolution) * (1 + uniform(n, 1, 1, 1))
    augmentation = [uniform(n, 8) for _ in range(2)] if draws else [None, None]
    return Batch(normal(n, 3), c, reals, uniform(n).requires_grad_(), *augmentation)


def everything(step: Step) -> dict[str, object]:
    """A copy of weights, average, and optimizers."""
    parts = {name: getattr(step, name) for name in ("G", "D", "G_ema", "G_opt", "D_opt")}
    state = {name: part.state_dict() for name, part in parts.items()}
    return copy.deepcopy(flat(state))


# When the penalty is due ------------------------------------------------------------------------


@pytest.mark.parametrize("interval, critic_updates", [(1, 1), (2, 1), (3, 1), (3, 5)])
def test_penalty_takes_part_in_one_of_so_many_updates(interval, critic_updates):
    """Reference: update 0, k, 2k … of the critic in each phase, counted by hand; only these have
    its statistic. The first phase has 5 updates, which neither 2 nor 3 divides, so counting from
    the run's beginning would show in the second; the order of calls does not matter."""
    step = make_step(penalty_interval=interval)
    batch = make_batch()
    for phase in (phase_at(updates=5), phase_at(start=40, updates=10)):
        step.begin(replace(phase, critic_updates=critic_updates), restart=True)
        updates = (phase.end_nimg - phase.start_nimg) // 8
        due = []
        for update in reversed(range(updates)):
            step.set_progress(phase.start_nimg + 8 * update)
            _, stats = step.D_gradients(batch)
            due += [update] if "Loss/gradient_penalty" in stats else []
            assert ("Loss/gradient_norm" in stats) == ("Loss/gradient_penalty" in stats)
        assert due[::-1] == list(range(0, updates, interval))


@pytest.mark.parametrize("fading", [False, True])
def test_lazy_penalty_has_the_same_mean(fading):
    """Reference: the penalty in every update. With frozen weights the mean gradient of 4 updates,
    one with the penalty at 4 times its weight, is the same; each alone is not."""
    lazy, every = (exactly(make_step(penalty_interval=k)) for k in (4, 1))
    batch = make_batch(dtype=torch.float64)
    grads = {}
    for step in (lazy, every):
        step.begin(phase_at(fading=fading), restart=True)
        grads[step] = []
        for update in range(4):
            step.set_progress(8 * update)
            if fading:
                step.alpha.fill_(0.4)
            grads[step].append(step.D_gradients(batch)[0])
    means = [torch.stack(each).mean(dim=0) for each in zip(*grads[lazy], strict=True)]
    torch.testing.assert_close(means, grads[every][0], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(grads[lazy][0][0], grads[every][0][0], rtol=1e-2)
    assert not torch.allclose(grads[lazy][1][0], grads[every][0][0], rtol=1e-2)


def test_reported_losses_are_of_the_update():
    """Reference: by hand. `Loss/gradient_penalty` is unweighted whatever the interval; `Loss/D` is
    the loss whose gradient was taken, so the penalty counts there as often as it stands for."""
    lazy, every = (exactly(make_step(penalty_interval=k)) for k in (4, 1))
    batch = make_batch(dtype=torch.float64)
    for step in (lazy, every):
        step.begin(phase_at(), restart=True)
        step.set_progress(0)
    a, b = lazy.D_gradients(batch)[1], every.D_gradients(batch)[1]
    torch.testing.assert_close(a["Loss/gradient_penalty"], b["Loss/gradient_penalty"])
    more = 3 * 5.0 * a["Loss/gradient_penalty"]
    torch.testing.assert_close(a["Loss/D"], b["Loss/D"] + more, rtol=1e-10, atol=0)


def test_weights_follow_their_curves():
    """Reference: the curves by hand. A weight that varies is a tensor, so that compiled code does
    not hold its number; one that does not stays a number. The penalty's counts for its interval."""
    step = make_step(replace(R1, augment=("color",)), penalty_interval=2)
    fall = Curve(Ramp(start=2.0, end=0.0), 0, 48)
    phase = replace(phase_at(), weights=(("penalty_weight", fall), ("drift", Curve(0.25))))
    step.begin(phase, restart=True)
    for nimg, weight in ((24, 2.0), (0, 4.0), (36, 1.0)):
        step.set_progress(nimg)
        assert torch.equal(step.loss.penalty_weight, torch.tensor(weight))
        assert step.loss.drift == 0.25 and step.loss.label == 1.0
    batch, penalties = make_batch(draws=True), []
    for weight in (step.loss.penalty_weight, 1.0):
        step.loss = replace(step.loss, penalty_weight=weight)
        penalties.append(step.D_gradients(batch, penalty=True))
    torch.testing.assert_close(*penalties)


def train(photos, run_dir, **settings) -> None:
    """A run in this process, through the command line's own function."""
    arguments = ["train", "--data", str(photos), "--run-dir", str(run_dir), *options(**settings)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


# Steps of 8 images as ever, in two updates of the critic.
CRITIC_TWICE = {
    "loss__critic_updates": 2,
    "schedule__batch_size": 4,
    "loss__adversarial": "relativistic",
    "loss__weights__penalty": "{start: 4, end: 1}",
    "data__augment": "[color]",
    "data__augment_strength": "{8: {start: 0, end: 0.5, decay: cosine}, 4: 0.3}",
}


ADAPTIVE = {
    "loss__adversarial": "logistic",
    "data__augment": "[color]",
    "data__augment_target": 0.1,
    "data__augment_kimg": 0.1,
    "run__seed": 1,  # of which the strength rises
    "data__labels": "true",
    "loss__labels": "projection",
}


@pytest.mark.parametrize(
    "settings",
    [{}, CRITIC_TWICE, ADAPTIVE],
    ids=["paper", "critic twice, ramps", "adaptive, projection"],
)
def test_resume_keeps_the_penaltys_rhythm(photos, tmp_path, any_end, settings):
    """Reference: 12 updates in one go, bit for bit, against 5 and 7. The penalty is due in one of
    3, and the stop is after the first update of a phase of 4: if the count began again, the next
    one would have the penalty."""
    lazy = {"loss__penalty": "r1", "loss__penalty_interval": 3} | settings
    train(photos, tmp_path / "whole", **lazy)
    train(photos, tmp_path / "parts", schedule__total_kimg=0.04, **lazy)
    assert load_checkpoint(tmp_path / "parts")["progress"]["nimg"] == 40
    train(photos, tmp_path / "parts", **lazy)
    states = (flat(load_checkpoint(tmp_path / name)) for name in ("whole", "parts"))
    whole, parts = ({k: v for k, v in s.items() if not k.startswith("/progress")} for s in states)
    assert_identical(whole, parts)


# Passes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 8])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_one_pass_over_reals_and_fakes_equals_two(n, alpha):
    """Reference: a critic's pass over the reals and one over the fakes: scores, label logits, and
    the gradients of the loss. Groups of minibatch stddev are of 4, or of a smaller batch's images,
    and were they to mix reals and fakes, scores would differ."""
    step = exactly(make_step(c_dim=3))
    alpha = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    batch = make_batch(n, c_dim=3, dtype=torch.float64)
    loss = LossSettings("logistic", None, label=0.7)
    with torch.no_grad():
        fakes = step.G(batch.z, batch.c, resolution=8, alpha=alpha)
    # At alpha 1 reals are themselves; the crossfade has its own tests.
    reals = batch.reals
    if alpha is not None:
        low = torch.nn.functional.avg_pool2d(reals, 2).repeat_interleave(2, 2)
        reals = torch.lerp(low.repeat_interleave(2, 3), reals, alpha)
    both = step.D(torch.cat([reals, fakes]), alpha, batches=2)
    two = [step.D(images, alpha) for images in (reals, fakes)]
    for whole, *parts in zip(both, *two, strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-10, atol=1e-12)
    if n == 2:  # one group of 4 would be whole, and wrong
        mixed, _ = step.D(torch.cat([reals, fakes]), alpha)
        assert not torch.allclose(mixed, both[0], rtol=1e-3)

    parameters = list(step.D.active_parameters(8, alpha is not None).values())
    grads, stats = critic_gradients(step.G, step.D, parameters, batch, alpha, loss)
    (real, real_logits), (fake, fake_logits) = two
    total = (1 + fake.exp()).log() + (1 + (-real).exp()).log() + loss.drift * real**2
    for logits in (real_logits, fake_logits):
        total = total - loss.label * (batch.c * logits.log_softmax(dim=1)).sum(dim=1)
    expected = torch.autograd.grad(total.mean(), parameters)
    torch.testing.assert_close(grads, list(expected), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(stats["Loss/D"], total.mean().detach(), rtol=1e-10, atol=0)


def test_the_critics_fakes_have_no_graph():
    """Reference: outputs of every module of G, which have a graph in G's own update and none in
    the critic's, where keeping one would hold G's features in memory and run back through it."""
    step = make_step(LossSettings())
    step.begin(phase_at(fading=True), restart=True)
    step.set_progress(8)
    seen = []
    for module in step.G.modules():
        module.register_forward_hook(lambda m, inputs, out: seen.append(out.grad_fn is not None))
    batch = make_batch()
    step.D_gradients(batch)
    assert seen and not any(seen)
    seen.clear()
    step.G_gradients(batch.for_generator())
    assert seen and all(seen)


@pytest.mark.parametrize("n, adversarial", [(8, "logistic"), (16, "logistic"), (8, "relativistic")])
@pytest.mark.parametrize("update", ["critic", "generator"])
@pytest.mark.parametrize("fading", [False, True])
def test_passes_of_batch_gpu_equal_one(n, adversarial, update, fading):
    """Reference: the whole batch in one pass; gradients and statistics, with labels and
    augmentation. The passes are counted: 4 images each."""
    loss = replace(R1, adversarial=adversarial, augment=ALL_KINDS)
    step = exactly(make_step(loss, c_dim=3))
    batch = make_batch(n, c_dim=3, dtype=torch.float64, draws=True)
    batch = batch if update == "critic" else batch.for_generator(loss.relativistic)
    results, sizes = [], []
    step.G.register_forward_hook(lambda m, inputs, out: sizes.append(len(out)))
    for gpu in (None, 4):
        phase = phase_at(fading=fading, size=n, gpu=gpu)
        step.begin(phase, restart=True)
        step.set_progress(phase.batch_size)
        results.append((step.D_gradients if update == "critic" else step.G_gradients)(batch))
    assert sizes == [n] + [4] * (n // 4)
    (expected, expected_stats), (grads, stats) = results
    torch.testing.assert_close(grads, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(stats, expected_stats, rtol=1e-10, atol=1e-12)


# Nothing waits for the device -------------------------------------------------------------------

READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"}


class HostReads(TorchDispatchMode):
    """Lists operations that read tensors' values on the host, and so would wait for a GPU."""

    def __init__(self, monkeypatch) -> None:
        super().__init__()
        self.found: list[str] = []
        for name in ("tolist", "numpy", "cpu", "__array__"):  # on a CPU these call no operator
            monkeypatch.setattr(torch.Tensor, name, self.noting(name, getattr(torch.Tensor, name)))

    def noting(self, name, method):
        def noted(*arguments, **more):
            self.found.append(name)
            return method(*arguments, **more)

        return noted

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        masks = name.startswith("index") and torch.bool in {
            x.dtype for x in tree_leaves(args[1:]) if isinstance(x, torch.Tensor)
        }
        if name in READS or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: "some" if (x > 0).any() else "none",
        lambda x: torch.equal(x, x),
        lambda x: x[x > 0],
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: np.asarray(x),
    ],
)
def test_a_read_is_seen(monkeypatch, read):
    """Reference: each way to read a value, on purpose; without it the next test would hold
    whatever a step does."""
    x = torch.tensor([-1.0, 2.0])
    with HostReads(monkeypatch) as reads:
        (x * 2).sum()
        assert reads.found == []
        read(x)
    assert reads.found


class Drawn:
    """Random images in memory with attributes, or classes (see `data.dataset.Dataset`)."""

    title = identity = "drawn"
    count, channels, resolution = 24, 3, 8

    def __init__(self, attributes: bool):
        draw = np.random.default_rng(0)
        rows = draw.integers(0, 2, (24, 3), np.uint8)
        self.labels = Labels(("a", "b", "c"), rows if attributes else np.arange(24) % 3)
        self.levels = {r: draw.integers(0, 256, (24, 3, r, r), np.uint8) for r in (4, 8)}

    def level(self, resolution):
        return self.levels[resolution]

    def read(self, indices, resolution):
        return self.levels[resolution][indices]

    def close(self):
        pass


def make_trainer(data, run_dir, accelerator, **settings) -> Trainer:
    """A trainer ready for its phases, without outputs, which no step needs."""
    overrides = options(data__source="drawn", **settings)[1::2]
    trainer = Trainer(load_config(None, overrides), data, run_dir, accelerator, StopRequest())
    trainer.costs = SimpleNamespace(seconds_of=lambda phase: None)  # for run.compile=auto
    trainer.statistics.to(accelerator.device)
    trainer.skipped.to(accelerator.device)
    return trainer


EXTRAS = {
    "paper": {},
    "all": {
        "loss__penalty": "r1",
        "loss__penalty_interval": 2,
        "loss__adversarial": "logistic",
        "data__labels": "true",
        "data__augment": "[color, translation, cutout]",
        "schedule__batch_gpu": 4,
        "run__precision": "bf16",
    },
}


@pytest.mark.parametrize("extras", EXTRAS)
def test_a_step_reads_nothing_back(tmp_path, monkeypatch, extras):
    """Reference: no operator that reads a value of a tensor and no copy to the host, in updates of
    every phase of a real trainer, its data stream and statistics included. Labels are attributes:
    torch checks class indices on a CPU by their values, on a GPU it does not."""
    trainer = make_trainer(Drawn(True), tmp_path, Accelerator(cpu=True), **EXTRAS[extras])
    with HostReads(monkeypatch) as reads:
        updates_of_all_phases(trainer)
    assert reads.found == []
    trainer.stream.close()


def updates_of_all_phases(trainer: Trainer) -> None:
    while trainer.progress.nimg < trainer.schedule.total_nimg:
        phase = trainer.schedule.at(trainer.progress.nimg)
        if phase != trainer.phase:
            trainer.begin_phase(phase)
        trainer.train_step(phase)


# Phases -----------------------------------------------------------------------------------------


def test_a_phase_sets_rate_alpha_and_adam():
    """Reference: by hand: rates of a ramp, alpha as a tensor that is 0 at the first update of a
    fade, a new Adam with the phase's betas where the phase begins and the old one where a resumed
    run goes on in it; only what takes part has state."""
    step = make_step()
    stable = phase_at(4, updates=4, rate=Ramp(start=0.004, end=0.002))
    fade = phase_at(8, True, 32, updates=4, beta1=0.5, beta2=0.9, eps=1e-5)
    step.begin(stable, restart=True)
    rates = []
    for update in range(4):
        step.set_progress(8 * update)
        assert step.alpha is None
        rates.append([opt.inner.param_groups[0]["lr"] for opt in (step.G_opt, step.D_opt)])
        step.update_critic(make_batch(resolution=4))
        step.update_generator(make_batch(resolution=4).for_generator())
    assert rates == [[pytest.approx(r)] * 2 for r in (0.004, 0.0035, 0.003, 0.0025)]
    names = set(step.D.active_parameters(4, False))
    active = {p for n, p in step.D.named_parameters() if n in names}
    assert set(step.D_opt.inner.state) == active
    assert {state["step"].item() for state in step.D_opt.inner.state.values()} == {4}

    step.begin(stable, restart=False)  # resumed within
    assert {state["step"].item() for state in step.G_opt.inner.state.values()} == {4}
    step.begin(fade, restart=True)
    assert not step.G_opt.inner.state and not step.D_opt.inner.state
    for update in range(4):
        step.set_progress(32 + 8 * update)
        assert isinstance(step.alpha, torch.Tensor) and step.alpha.ndim == 0
        assert step.alpha.item() == update / 4
    for optimizer in (step.G_opt, step.D_opt):
        group = optimizer.inner.param_groups[0]
        assert (group["betas"], group["eps"], group["lr"]) == ((0.5, 0.9), 1e-5, 0.001)
    step.update_critic(make_batch())
    assert len(step.D_opt.inner.state) == len(step.D.active_parameters(8, True))


@pytest.mark.parametrize("penalty", ["wgan_gp", "r1"])
@pytest.mark.parametrize("fused_scale", [True, False])
@pytest.mark.parametrize("gpu", [8, 4])
def test_gradients_lie_as_their_parameters(penalty, fused_scale, gpu):
    """Reference: each parameter's own strides, which the fused Adam reads both by."""
    step = make_step(LossSettings(penalty=penalty), fused_scale=fused_scale)
    step.begin(phase_at(fading=True, gpu=gpu), restart=True)
    step.set_progress(8)
    batch = make_batch()
    for of, network, part in [
        (step.D_gradients, step.D, batch),
        (step.G_gradients, step.G, batch.for_generator()),
    ]:
        grads, _ = of(part)
        active = network.active_parameters(8, True).values()
        for parameter, grad in zip(active, grads, strict=True):
            assert grad.stride() == parameter.stride()


def is_channels_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("fading", [False, True])
@pytest.mark.parametrize("fused_scale", [True, False])
def test_features_are_channels_last(channels, fading, fused_scale):
    """Reference: strides of the inputs and outputs of every convolution of both networks, in both
    updates, with the penalty. Another layout would be copied before computing. Outputs of from_rgb
    for grey images are not checked: from one channel, which has no order, they come in either
    layout and are converted."""
    step = make_step(channels=channels, fused_scale=fused_scale, resolution=16)
    step.begin(phase_at(16, fading), restart=True)
    step.set_progress(8)
    seen = set()

    def check(name, module, inputs, out):
        seen.add(name)
        assert is_channels_last(inputs[0]), f"what {name} takes, {inputs[0].stride()}"
        grey = channels == 1 and name.startswith("D.image_layers")
        assert grey or is_channels_last(out), f"what {name} gives, {out.stride()}"

    networks = {"G": step.G, "D": step.D}
    for letter, network in networks.items():
        for name, module in network.named_modules():
            if isinstance(module, EqualizedConv2d):
                module.register_forward_hook(partial(check, f"{letter}.{name}"))
    batch = make_batch(resolution=16, channels=channels)
    assert not is_channels_last(batch.reals) or channels == 1, "as data are"
    step.D_gradients(batch)
    step.G_gradients(batch.for_generator())
    layers = {
        f"{letter}.{name.removesuffix('.weight')}"
        for letter, network in networks.items()
        for name, p in network.active_parameters(16, fading).items()
        if p.ndim == 4
    }
    assert seen == layers, "all that take part, nothing else"


@pytest.mark.parametrize("interval", [1, 2])
def test_a_trial_changes_nothing(interval):
    """Reference: weights, average and both Adams from before, bit for bit, in mid-phase. And it
    does compute: both updates, with and without a lazy penalty, of as many images as a forward pass
    has, or as requested."""
    step = make_step(replace(R1, augment=ALL_KINDS), c_dim=3, penalty_interval=interval)
    step.begin(phase_at(fading=True, size=16, gpu=8), restart=True)
    step.set_progress(16)
    batch = make_batch(16, c_dim=3, draws=True)
    step.update_critic(batch)
    step.update_generator(batch.for_generator())
    step.average()
    before, sizes = everything(step), []
    step.G.register_forward_hook(lambda m, inputs, out: sizes.append(len(out)))
    step.try_out()
    step.try_out(4)
    assert sizes == [8] * (1 + interval) + [4] * (1 + interval)
    assert_identical(before, everything(step) | rates_of(before))


def rates_of(state: dict[str, object]) -> dict[str, object]:
    """What `at` sets before every step, and a trial for itself."""
    return {name: value for name, value in state.items() if name.endswith("/lr")}
