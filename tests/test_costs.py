"""The predicted time of phases and runs, compared with sums by hand; trial updates."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from progan.cli.phases import predicted
from progan.config.schedule import Schedule, make_schedule
from progan.config.settings import OptimConfig, ScheduleConfig
from progan.metrics.msssim import MSSSIM
from progan.metrics.pace import pace
from progan.metrics.swd import SWD
from progan.model.networks import Critic, Generator
from progan.training import trials
from progan.training.costs import MARGIN, PICTURE, WRITING, CostModel, Pauses, Range
from progan.training.trials import Trials
from progan.training.updates import LossSettings
from progan.training.work import Work, count_work, shell, work_of, work_per_image

NARROW = {"channel_base": 32, "channel_max": 4}


def schedule_to(resolution: int) -> Schedule:
    settings = ScheduleConfig(stable_kimg=1, fade_kimg=1, batch_size=8)
    return make_schedule(resolution, settings, OptimConfig())


def model_of(schedule: Schedule, pauses: Pauses | None = None) -> CostModel:
    """FLOPs grow by 4 a phase, values by 2; ten parameters everywhere."""
    work = {p: Work(4.0**i, 2.0**i, 10) for i, p in enumerate(schedule.phases)}
    return CostModel(schedule, work, pauses)


def test_larger_phases_lie_between_both_laws():
    """Reference: by hand. From the largest trial by FLOPs and by memory, which are the bounds."""
    model = model_of(schedule_to(16))
    first, second, *_, last = model.schedule.phases
    assert model.left(0) is None
    model.trials = {first: 1.0, second: 3.0}
    assert model.gradients(second) == (3, 3, 3)
    assert model.gradients(last) == pytest.approx((3 * 2**3, 3 * 8**1.5, 3 * 4**3))
    low, likely, high = model.expected(last)
    assert (low, likely, high) == pytest.approx((24 / MARGIN, 3 * 8**1.5, 192 * MARGIN))


def test_phases_between_trials_follow_both():
    """Reference: both laws are wrong by the same factor here, and trials on both sides find it."""
    model = model_of(schedule_to(16))
    phases = model.schedule.phases
    true = [3.0**i for i in range(len(phases))]  # neither law
    model.trials = {phases[0]: true[0], phases[-1]: true[-1]}
    for phase, seconds in zip(phases, true, strict=True):
        assert model.gradients(phase) == pytest.approx((seconds,) * 3)


def test_time_of_a_run_is_the_sum_of_its_parts():
    """Reference: a sum by hand of updates, optimizers, grids, checkpoints and metrics, and one
    update of 8 images as a rehearsal; half of it when half the images have been shown."""
    schedule = schedule_to(4)
    (phase,) = schedule.phases
    pauses = Pauses(0.25, 2, 300e6, {4: 64}, {4: 10**6}, {"swd2000": 2})
    model = model_of(schedule, pauses)
    model.trials = {phase: 0.01}
    model.per_parameter, model.per_sample = 0.0008, 0.5
    model.metric_seconds = {"swd2000": 7.0}
    image = 0.01 + 0.0008 * 10 / 8
    tick = (
        64 * 0.5 * image + WRITING + PICTURE * 10**6 + 1.0 / 2
    )  # 300 MB at 300 MB/s, every second tick
    assert model.left(0).likely == pytest.approx((1000 + 8) * image + 4 * tick + 2 * 7)
    assert model.left(500).likely == pytest.approx(500 * image + 2 * tick + 7)
    assert model.left(0).low == pytest.approx(model.left(0).likely / MARGIN)
    assert model.left(1000).likely == 0


def test_images_have_their_place_in_time():
    """Reference: by hand, with an update of 8 images as a rehearsal of each phase."""
    model = model_of(schedule_to(8))
    model.trials = dict(zip(model.schedule.phases, (60.0, 120.0, 240.0), strict=True))
    unit, place = predicted(model)
    assert "hours" in unit
    hours = [0, 1008 / 60, (1008 + 2 * 504) / 60, (3 * 1008 + 4 * 1008) / 60]
    assert [place(nimg) for nimg in (0, 1000, 1500, 3000)] == pytest.approx(hours, rel=1e-3)


def test_observations_correct_what_is_still_to_come():
    """Reference: by hand. Everything took twice as long as the trials said."""
    schedule = schedule_to(8)
    first, *_, last = schedule.phases
    model = model_of(schedule, Pauses(1, 1, 0.0, {4: 1, 8: 1}, {4: 0, 8: 0}))
    model.trials = {phase: 1.0 for phase in schedule.phases}
    model.observe(first, 2.0)
    assert model.seconds == {first: 2.0}
    assert model.range_of(last) == pytest.approx((2 / MARGIN, 2, 2 * MARGIN))
    model.observe_pause(first, 3 * model.pause(first))
    assert model.pauses_from(0).likely == pytest.approx(3 * 3 * WRITING)
    model.observe_metrics(["swd16k", "msssim10k"], 8.0)
    assert model.metric_seconds == {"swd16k": 4.0, "msssim10k": 4.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [((80, 90, 100), "1m 30s"), ((3600, 7200, 10800), "1h 00m to 3h 00m"), ((0, 0, 0), "0s")],
)
def test_a_wide_range_is_shown_as_one(seconds, text):
    """Reference: the likely time where the bounds are near each other, else both."""
    assert str(Range(*seconds)) == text


def test_the_largest_size_is_tried(monkeypatch):
    """Reference: phases by hand. Trials that take an image's FLOPs as seconds: the budget ends them
    early, and the largest phase of which two trials of one image fit into it is tried, too."""
    schedule = schedule_to(32)
    G, D = (network(32, **NARROW) for network in (Generator, Critic))
    work = {p: Work(2.0**i, 2.0**i, 1) for i, p in enumerate(schedule.phases)}
    model, tried = CostModel(schedule, work), []

    def update(self, phase, n):
        tried.append((str(phase), n))
        return n * work[phase].gflops

    monkeypatch.setattr(trials.Trials, "update", update)
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1)
    Trials(G, D, LossSettings(), accelerator).measure(model, budget=80)
    # 3 x 8 images of 1 and of 2 seconds take 72; even 3 x 4 of 4 seconds would take 48 more.
    assert tried[:6] == [("4x4 stable", 8)] * 3 + [("8x8 fading", 8)] * 3
    assert tried[6:] == [("32x32 fading", 1)] * 2  # 32 seconds; the last phase would take 2 x 64
    assert model.trials[schedule.phases[-2]] == 32


def test_trials_leave_the_networks_alone():
    """Reference: their weights before, bit for bit; no gradients are left."""
    schedule = schedule_to(8)
    G, D = (network(8, **NARROW) for network in (Generator, Critic))
    before = [p.clone() for network in (G, D) for p in network.parameters()]
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1)
    tried = Trials(G, D, LossSettings(), accelerator)
    model = CostModel(schedule, count_work(G, D, LossSettings(), schedule))
    tried.measure(model, budget=0.01)
    assert tried.optimizer(schedule.phases[-1]) > 0 and tried.sample(schedule.phases[-1]) > 0
    after = [p for network in (G, D) for p in network.parameters()]
    assert all(map(torch.equal, before, after))
    assert not any(p.grad is not None for p in after)


def test_work_of_a_rare_penalty():
    """Reference: the mean by hand over four updates, one of which has the penalty."""
    schedule = schedule_to(4)
    (phase,) = schedule.phases
    G, D = (network(4, **NARROW) for network in (Generator, Critic))
    loss = LossSettings(penalty="r1")
    (found,) = count_work(G, D, loss, schedule, interval=4).values()
    losses = loss, replace(loss, penalty=None)
    with_it, without = (work_per_image(shell(G), shell(D), each, phase) for each in losses)
    for i in range(2):
        assert found[i] == pytest.approx((with_it[i] + 3 * without[i]) / 4)
    assert found.parameters == sum(p.numel() for net in (G, D) for p in net.parameters())
    assert with_it.gflops > without.gflops and with_it.values > without.values


def test_work_of_a_rare_generator():
    """Reference: by hand: the critic's work in each update, the generator's in one of five."""
    (phase,) = schedule_to(4).phases
    G, D = (shell(network(4, **NARROW)) for network in (Generator, Critic))
    both, alone = (work_per_image(G, D, LossSettings(), phase, g) for g in (True, False))
    found = work_of(G, D, LossSettings(), replace(phase, critic_updates=5), interval=1)
    for i in range(3):
        expected = (both[i] + 4 * alone[i]) / 5
        assert found[i] == pytest.approx(expected, rel=1e-12, abs=0.5 if i == 2 else 0)
        assert alone[i] < both[i]


@pytest.mark.parametrize("metric", [SWD("swd2000", 2000), MSSSIM("msssim2000", 2000)])
def test_trying_a_metric_leaves_it_empty(metric):
    """Reference: a new metric has no images of its own afterwards."""
    images = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
    found = pace(metric, images)
    assert found.add > 0 and found.comparing(2000) > 0
    kept = metric.sides if isinstance(metric, SWD) else metric.values
    assert not any(kept.values())
