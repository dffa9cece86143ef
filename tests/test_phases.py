"""Lists of phases, cycles, optimizers by name: schedules that are made of them, and what moves."""

import copy
import math
import random
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from conftest import assert_identical, flat, load_checkpoint, options

from progan.cli.main import main
from progan.cli.phases import panels_of, phase_table, plot, points
from progan.config.curves import DECAYS, OneCycle, Ramp, Sgdr
from progan.config.load import load_config, validate
from progan.config.optimizers import OPTIONS
from progan.config.schedule import Schedule, first_change
from progan.runs.folder import differences
from progan.runtime.errors import UserError
from progan.training.optimizers import KINDS, Optimizer
from progan.training.statistics import progress


def config_of(text: str, resolution: int = 8):
    """Settings as YAML has them, for small networks."""
    content = yaml.safe_load(text)
    content["network"] = {"resolution": resolution}
    content["schedule"] = {"batch_size": 8} | content.get("schedule", {})
    return validate(content, "my.yaml")


def listed(*phases: str, **schedule):
    """A config with this list of phases, each as YAML."""
    given = {"phases": [yaml.safe_load(f"{{{phase}}}") for phase in phases]} | schedule
    return config_of(yaml.safe_dump({"schedule": given}))


TWO = "resolution: 4, kimg: 1", "resolution: 8, fade: true, kimg: 1"


# Schedules


def test_maps_are_a_list():
    """Reference: the same schedule, given phase by phase."""
    maps = config_of(
        "schedule: {stable_kimg: {4: 1, 8: 3}, fade_kimg: 2, learning_rate: {4: 0.002, 8: 0.001}}\n"
        "optim: {beta1: {4: 0.5, 8: 0.2}}"
    )
    phases = listed(
        "resolution: 4, kimg: 1, learning_rate: 0.002, beta1: 0.5",
        "resolution: 8, fade: true, kimg: 2, learning_rate: 0.001, beta1: 0.2",
        "resolution: 8, kimg: 3, learning_rate: 0.001, beta1: 0.2",
    )
    assert maps.make_schedule() == phases.make_schedule()


def test_phases_have_their_own_settings():
    """Reference: the list, by hand; what it leaves out is as schedule and optim have it."""
    schedule = listed(
        "resolution: 4, kimg: 0.08, learning_rate: {G: 0.001, D: {start: 0.004}}, optimizer: sgd, "
        "momentum: {start: 0.9, end: 0.5}, nesterov: true",
        "resolution: 4, kimg: 0.16, optimizer: adamw, batch_size: 16, weight_decay: 0.1",
        "resolution: 8, fade: true, kimg: 0.08, optimizer: adamw, restart: false",
        "resolution: 8, kimg: 0.08, learning_rate: {start: 0.002, end: 0.001, over: run}",
    ).make_schedule()
    a, b, c, d = schedule.phases
    assert [(p.start_nimg, p.end_nimg) for p in (a, b, c, d)] == [
        (0, 80),
        (80, 240),
        (240, 320),
        (320, 400),
    ]
    assert (a.optimizer, a.G_rate.at(40), a.D_rate.at(40)) == ("sgd", 0.001, 0.002)
    assert a.options_at(40) == {"momentum": 0.7, "nesterov": True, "weight_decay": 0.0}
    assert (b.batch_size, b.restart, b.options_at(80)["weight_decay"]) == (16, True, 0.1)
    assert (c.fading, c.restart, c.alpha(280)) == (True, False, 0.5)
    assert d.optimizer == "adam" and d.G_rate.at(320) == pytest.approx(0.002 - 0.001 * 320 / 400)


def test_sgdr():
    """Reference: the course's `phases_sgdr`: a twentieth of the first cycle at a hundredth of the
    rate, then cosines from the rate to 0, each `mult` times as long as the one before."""
    shape = Sgdr(rate=0.1, cycles=3, mult=2).rates()
    assert shape.ends == pytest.approx((1 / 140, 1 / 7, 3 / 7, 1))
    assert shape.at(0.0) == shape.at(0.007) == pytest.approx(0.001)
    for begin, end in ((1 / 140, 1 / 7), (1 / 7, 3 / 7), (3 / 7, 1)):
        for part in (0.0, 0.25, 0.7):
            expected = 0.1 / 2 * (1 + math.cos(math.pi * part))
            at = begin + part * (end - begin) + 1e-12
            assert shape.at(at) == pytest.approx(expected, rel=1e-6)
    assert shape.at(1.0) == pytest.approx(0, abs=1e-12)
    assert Sgdr(rate=1, cycles=3, length=2, mult=2).kimg() == 14


def test_one_cycle():
    """Reference: the course's `phases_1cycle`: rate up from rate/div and down again over
    1 - pct/100 of the images, then from there to a hundredth; momentum the other way."""
    cycle = OneCycle(rate=0.8, div=10, pct=20, momentum_max=0.95, momentum_min=0.85)
    rates, momenta = cycle.rates(), cycle.momenta()
    points = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0]
    assert [rates.at(p) for p in points] == pytest.approx(
        [0.08, 0.44, 0.8, 0.44, 0.08, 0.0404, 0.0008]
    )
    assert [momenta.at(p) for p in points] == pytest.approx(
        [0.95, 0.90, 0.85, 0.90, 0.95, 0.95, 0.95]
    )


def test_cycles_go_over_a_phase_or_the_run():
    """Reference: shapes at the share of images shown, of the phase or of the whole run."""
    cycle = "one_cycle: {rate: 0.01, momentum_max: 0.9, momentum_min: 0.8}"
    run = config_of(
        f"schedule: {{cycles: {{{cycle}}}, stable_kimg: 1, fade_kimg: 1}}"
    ).make_schedule()
    shape = OneCycle(rate=0.01, momentum_max=0.9, momentum_min=0.8)
    for nimg in (0, 800, 1000, 1504, 2800):
        phase = run.at(nimg)
        assert phase.G_rate.at(nimg) == phase.D_rate.at(nimg) == shape.rates().at(nimg / 3000)
        assert phase.options_at(nimg)["beta1"] == shape.momenta().at(nimg / 3000)
    one = listed(TWO[0], TWO[1] + f", optimizer: sgd, cycles: {{{cycle}}}").make_schedule()
    phase = one.phases[1]
    assert phase.G_rate.at(1500) == shape.rates().at(0.5)
    assert phase.options_at(1500)["momentum"] == shape.momenta().at(0.5)
    own = listed("resolution: 4, cycles: {sgdr: {rate: 1, cycles: 2, length: 0.4}}")
    assert own.make_schedule().total_nimg == 800


def test_a_ramp_goes_to_zero_by_default():
    """Reference: the course: without an end a rate falls to 0."""
    assert Ramp(start=1.0).at(1.0) == 0 and Ramp(start=1.0).at(0.25) == 0.75


MISTAKES = {
    "phases: [{resolution: 4, kimg: 1}, {resolution: 16, kimg: 1}]": "phase 2: 16x16 is more",
    "phases: [{resolution: 8, kimg: 1}, {resolution: 4, kimg: 1}]": "phase 2: 4x4 cannot follow",
    "phases: [{resolution: 4, kimg: 1, fade: true}]": "phase 1: 4x4 is there already",
    "phases: [{resolution: 4}]": "phase 1: kimg is missing",
    "phases: [{kimg: 1}]": "phase 1: resolution is missing",
    "phases: [{resolution: 4, kimg: 1, learning_rate: {end: 1}}]": "learning_rate.start is missing",
    "phases: [{resolution: 4, kimg: 1, optimizer: adma}]": "did you mean 'adam'?",
    "phases: [{resolution: 4, kimg: 1, optimizer: sgd, beta1: 0.5}]": "sgd has no beta1; it has",
    "phases: [{resolution: 4, kimg: 1, beta1: {start: 2}}]": "must be below 1",
    "phases: [{resolution: 4, kimg: 1, lr: 1}]": "phase 1: lr (did you mean 'learning_rate'?)",
    "phases: []": "schedule.phases: [] does not fit",
    "phases: {0: {kimg: 1}}": "must be a valid list; give all of it, in brackets",
    "phases: [{resolution: 4, kimg: 1, optimizer: sgd, nesterov: true}]": (
        "phase 1: nesterov needs momentum"
    ),
    "phases: [{resolution: 4, kimg: 1}, {resolution: 4, kimg: 1, restart: false, optimizer: sgd}]"
    "": "phase 2: restart is false",
    "phases: [{resolution: 4, kimg: 1}], fade_kimg: 2": "replace schedule.fade_kimg",
    "phases: [{resolution: 4, kimg: 1}], start_alpha: 0.5": "replace schedule.start_alpha",
    "start_alpha: 0.5": "start_alpha (0.5) is for a resolution that fades in",
    "start_resolution: 8, start_alpha: 1": "schedule.start_alpha: 1",
    "phases: [{resolution: 4, kimg: 1}], total_kimg: 2": "more than schedule.phases have (1)",
    "phases: [{resolution: 4, kimg: 1, cycles: {sgdr: {rate: 1}}, learning_rate: 1}]": (
        "cycles replace learning_rate"
    ),
    "phases: [{resolution: 4, kimg: 2, cycles: {sgdr: {rate: 1, length: 1}}}]": "leave length away",
    "phases: [{resolution: 4, kimg: 1, beta1: 0.5, "
    "cycles: {one_cycle: {rate: 1, momentum_max: 0.9, momentum_min: 0.8}}}]": (
        "phase 1: momentum_max and momentum_min replace beta1"
    ),
    "cycles: {sgdr: {rate: 1, cycles: 1000, mult: 100}}": "a mult nearer to 1",
    "cycles: {sgdr: {rate: 1, cycles: 1000, mult: 0.01}}": "a mult nearer to 1",
    "cycles: {sgdr: {rate: 1, length: 1}}": "schedule.cycles: the cycles have 1 kimg, and the run",
    "cycles: {sgdr: {rate: 1}, one_cycle: {rate: 1}}": "give sgdr",
    "cycles: {one_cycle: {rate: 1, momentum_max: 0.5}}": "come together",
    "cycles: {sgdr: {rate: 1}}, learning_rate: 0.1": "give one of them",
    "learning_rate: {start: 1, decay: exponential}": "needs a start and an end above 0",
    "learning_rate: {G: {8: 1}, D: 1}": "must have a value for 4x4",
    "phases: [{resolution: 4, kimg: 1, learning_rate: {8: 1}}]": "has no value for 4x4",
    "learning_rate: {G: 1}": "schedule.learning_rate.D is missing",
    "learning_rate: {G: 1, D: 2, E: 3}": "unknown key",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_name_the_place(text):
    """Reference: the place in the list, what is wrong, what is allowed; the rest is in one line."""
    with pytest.raises(UserError) as error:
        config_of(f"schedule: {{{text}}}")
    assert MISTAKES[text] in str(error.value)


def test_a_phase_of_a_list_has_a_step():
    """Reference: its images against those of a step, by hand. Of 3 images it would be left out
    without a word, or the list would end at another resolution."""
    for place in range(2):
        phases = [
            text if i != place else "resolution: 4, kimg: 0.003" for i, text in enumerate(TWO)
        ]
        with pytest.raises(UserError, match=f"phase {place + 1}: 0.003 kimg .* of 8 images"):
            listed(*phases).make_schedule()
    assert listed("resolution: 4, kimg: 0.005").make_schedule().total_nimg == 8


def test_cycles_over_the_run_leave_a_phases_own_settings_alone():
    """Reference: the list's own words. Cycles are of the run's length, also where total_kimg cuts
    the list, and move no momentum of a phase that gives its own, or its own rates."""
    cycle = {"one_cycle": {"rate": 0.01, "momentum_max": 0.9, "momentum_min": 0.8}}
    own = TWO[0] + ", beta1: 0.1", TWO[1] + ", optimizer: adagrad, learning_rate: 0.5"
    first, second = listed(*own, cycles=cycle).make_schedule().phases
    assert first.options_at(504)["beta1"] == 0.1
    assert first.G_rate.at(504) == OneCycle(**cycle["one_cycle"]).rates().at(0.252)
    assert second.G_rate.at(1500) == 0.5
    cut = listed(*TWO, cycles={"sgdr": {"rate": 1, "length": 0.5}}, total_kimg=0.5)
    assert cut.make_schedule().total_nimg == 496


def test_a_total_is_of_whole_images():
    """Reference: 4.352 + 0.16 is a little more than 4.512, and both are 4,512 images."""
    total = 4.352 + 0.16
    assert total > 4.512
    made = load_config(None, [f"schedule.total_kimg={total}", "schedule.stable_kimg=0.1"])
    assert made.schedule.total_kimg == total


def test_a_list_that_ends_too_early():
    """Reference: the resolution that is reached, and the network's."""
    why = listed(TWO[0]).shortfall()
    assert "ends at 4x4, and network.resolution is 8" in why and "add phases" in why
    assert listed(*TWO).shortfall() == ""


@pytest.mark.parametrize(
    "change, since",
    [
        ({}, math.inf),
        ({1: "resolution: 8, fade: true, kimg: 1, learning_rate: 0.1"}, 1000),
        ({1: "resolution: 8, fade: true, kimg: 2"}, 1000),  # alpha has another slope
        ({2: "resolution: 8, kimg: 3"}, math.inf),  # as far as the old one goes it is the same
        ({2: "resolution: 8, kimg: 1"}, math.inf),
        ({0: "resolution: 4, kimg: 2"}, 1000),  # stable: its first updates are the same
        ({0: "resolution: 4, kimg: 2, beta1: 0.1"}, 0),
        ({2: "resolution: 8, kimg: 2, batch_gpu: 4"}, math.inf),
    ],
)
def test_what_comes_later_may_change(change, since):
    """Reference: the first image that the two train differently, by hand."""
    phases = [*TWO, "resolution: 8, kimg: 2"]
    old = listed(*phases)
    new = listed(*(change.get(i, phase) for i, phase in enumerate(phases)))
    assert first_change(old.make_schedule(), new.make_schedule()) == since
    if since < math.inf:
        assert differences(old, new, since) == []
        assert differences(old, new, since + 8) == [
            f"schedule.phases: they differ from {since / 1000:g} kimg on"
        ]


def random_list(draw) -> dict:
    """A schedule's settings: one to five phases, each with some settings of its own."""

    def value(low, high):
        ramp = {"start": draw.uniform(low, high), "end": draw.uniform(low, high)}
        ramp |= {"decay": draw.choice([*DECAYS]), "over": draw.choice(["phase", "run"])}
        return draw.choice([draw.uniform(low, high), ramp])

    def rates():
        cycle = {"rate": draw.uniform(1e-4, 0.1), "cycles": draw.randint(1, 4), "mult": 1.5}
        both = {"G": value(1e-4, 0.1), "D": value(1e-4, 0.1)}
        return draw.choice(
            [
                *({}, {}, {}),
                {"learning_rate": value(1e-4, 0.1)},
                {"learning_rate": both},
                {"cycles": {"sgdr": cycle}},
                {"cycles": {"one_cycle": {"rate": 0.1, "pct": draw.choice([0, 10, 99])}}},
            ]
        )

    r, phases = draw.choice([4, 8]), []
    for i in range(draw.randint(1, 5)):
        up = bool(i) and draw.random() < 0.5
        r = 2 * r if up else r
        kind = draw.choice([*OPTIONS])
        phase = {"resolution": r, "fade": up and draw.random() < 0.7, "optimizer": kind, **rates()}
        phase |= {"kimg": draw.uniform(0.02, 0.3), "batch_size": draw.choice([4, 8])}
        names = [name for name in OPTIONS[kind] if name != "nesterov" and draw.random() < 0.1]
        phases.append(phase | {name: value(1e-4, 0.99) for name in names})
    return {"phases": phases} | draw.choice([{}, {"cycles": {"sgdr": {"rate": 0.1, "cycles": 3}}}])


def changed(draw, given: dict) -> dict:
    """The same with one change."""
    phases = copy.deepcopy(given["phases"])
    phase = draw.choice(phases)
    total = draw.uniform(0.3, 1) * sum(each["kimg"] for each in phases)
    change = draw.choice(["kimg", "kimg", "kimg", "rate", "more", "total", "fewer"])
    if change == "kimg":
        phase["kimg"] *= draw.choice([0.6, 1.01, 2])
    elif change == "rate":
        phase.pop("cycles", None)
        phase["learning_rate"] = draw.uniform(1e-4, 0.1)
    elif change == "more":
        phases.append({"resolution": phases[-1]["resolution"], "kimg": 0.1})
    elif change == "fewer":
        phases = phases[:-1] or phases
    return given | {"phases": phases} | ({"total_kimg": total} if change == "total" else {})


def updates_of(settings: dict, penalty: dict | float) -> tuple[Schedule, list]:
    """A schedule, and all that each of its updates depends on."""
    resolution = settings["phases"][-1]["resolution"]
    given = {"schedule": settings, "loss": {"weights": {"penalty": penalty}}}
    made = config_of(yaml.safe_dump(given), resolution).make_schedule()
    found, nimg = [], 0
    while nimg < made.total_nimg:
        phase = made.at(nimg)
        rates = phase.G_rate.at(nimg), phase.D_rate.at(nimg)
        weights = [(name, curve.at(nimg)) for name, curve in phase.weights]
        named = phase.resolution, phase.alpha(nimg), phase.batch_size, phase.optimizer
        assert all(math.isfinite(rate) and rate >= 0 for rate in rates)
        first = nimg == phase.start_nimg
        found.append((nimg, *named, rates, phase.options_at(nimg), weights, first))
        nimg += phase.batch_size
    assert nimg == made.total_nimg
    return made, found


@pytest.mark.parametrize("seed", range(100))
def test_first_change_by_enumeration(seed):
    """Reference: every update of both runs, compared one by one. None before the image that
    `first_change` names differs, whichever is the older run; so a run that goes on with another
    list has been trained as that one says."""
    draw = random.Random(seed)
    settings = random_list(draw)
    ramp = {"start": 2, "end": 1, "over": draw.choice(["phase", "run"])}
    penalty = draw.choice([2.0, 2.0, ramp])
    old, before = updates_of(settings, penalty)
    new, after = updates_of(changed(draw, settings), penalty)
    pairs = zip(before, after, strict=False)
    differs = next((a[0] for a, b in pairs if a != b), math.inf)
    assert first_change(old, new) == first_change(new, old) <= differs
    if not any(phase.fading or phase.varying for phase in old.phases):
        assert first_change(old, new) == differs


def test_a_half_life_follows_its_ramps():
    """Reference: the ramps by hand, of a phase and of the run, and what may change when."""

    def config(half_life, **more):
        given = {"network.resolution": 8, "schedule.stable_kimg": 1, "schedule.fade_kimg": 1}
        return load_config(None, given | {"ema.half_life_kimg": half_life} | more)

    phased = config({4: 2, 8: {"start": 4, "end": 1}}).make_schedule()
    fade = phased.phases[1].start_nimg
    length = phased.phases[1].end_nimg - fade
    found = [phased.half_life(n) for n in (0, fade - 1, fade, fade + length // 2)]
    assert found == pytest.approx([2, 2, 4, 2.5])
    assert [[*phase.varying] for phase in phased.phases] == [[], ["half_life"], ["half_life"]]
    over_run = config({"start": 0, "end": 3, "over": "run"})
    total = over_run.make_schedule().total_nimg
    assert over_run.make_schedule().half_life(total // 2) == pytest.approx(1.5, abs=1e-3)
    panel = next(p for p in panels_of(phased) if p.name == "half-life (kimg)")
    x, y = points(phased, panel.lines[""])
    assert [y[i] for i in (0, 256, 257, 513, -1)] == [2, 2, 4, 1, 1]
    other = config({4: 2, 8: 3})
    assert differences(config({4: 2, 8: {"start": 4, "end": 1}}), other, fade) == []
    assert differences(config({4: 2, 8: {"start": 4, "end": 1}}), other, fade + 128)
    longer = config({"start": 0, "end": 3, "over": "run"}, **{"schedule.total_kimg": 5})
    assert differences(over_run, longer, 128), "the ramp leads to the end of the run"


def test_statistics_name_what_varies():
    """Reference: the curves at the last update's first image, each under its name."""
    settings = {
        "optim.beta2": {"start": 0.9, "end": 0.99},
        "loss.weights.drift": {"start": 1.0},
        "ema.half_life_kimg": {"start": 0, "end": 4},
    }
    schedule = load_config("demo", settings).make_schedule()
    phase = schedule.phases[0]
    found = progress(schedule, phase, 1008)
    at = (1008 - phase.batch_size) / phase.end_nimg
    wanted = {"beta2": 0.9 + 0.09 * at, "drift": 1 - at, "half_life": 4 * at}
    assert {name: found[f"Progress/{name}"] for name in wanted} == pytest.approx(wanted)
    assert "Progress/beta1" not in found


# Optimizers

RATE = 0.01
GIVEN = {
    "adam": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-7, "weight_decay": 0.1},
    "adamw": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-7, "weight_decay": 0.1},
    "rmsprop": {"beta2": 0.9, "momentum": 0.8, "eps": 1e-7, "weight_decay": 0.1},
    "adagrad": {"eps": 1e-7, "weight_decay": 0.1},
    "sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "lamb": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-7, "weight_decay": 0.1},
    "lars": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
}


def theirs(kind: str, parameters):
    """The library's own optimizer, unfused, with the options of `GIVEN`."""
    o = GIVEN[kind]
    betas = {"betas": (0.5, 0.9), "eps": 1e-7, "weight_decay": 0.1}
    if kind in ("lamb", "lars"):
        optim = pytest.importorskip("timm").optim
        if kind == "lamb":
            return optim.Lamb(parameters, RATE, always_adapt=True, max_grad_norm=None, **betas)
        return optim.Lars(parameters, RATE, always_adapt=True, **o)
    return {
        "adam": lambda: torch.optim.Adam(parameters, RATE, foreach=False, **betas),
        "adamw": lambda: torch.optim.AdamW(parameters, RATE, foreach=False, **betas),
        "rmsprop": lambda: torch.optim.RMSprop(
            parameters, RATE, 0.9, 1e-7, weight_decay=0.1, momentum=0.8, foreach=False
        ),
        "adagrad": lambda: torch.optim.Adagrad(parameters, RATE, foreach=False, **o),
        "sgd": lambda: torch.optim.SGD(parameters, RATE, foreach=False, **o),
    }[kind]()


def weights() -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(0)
    return {
        "blocks.4.weight": torch.nn.Parameter(torch.randn(3, 4)),
        "blocks.8.bias": torch.nn.Parameter(torch.randn(5)),
    }


def gradients(seed: int) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(3, 4), torch.randn(5)]


def ours(kind: str, parameters, **more) -> Optimizer:
    if kind in ("lamb", "lars"):
        pytest.importorskip("timm")
    optimizer = Optimizer(parameters, **more)
    optimizer.restart(kind)
    optimizer.set(RATE, GIVEN[kind])
    return optimizer


def step(optimizer: Optimizer, seed: int, bad: bool = False) -> float:
    grads = gradients(seed)
    if bad:
        grads[1][0] = math.nan
    return optimizer.apply(optimizer.parameters, grads).item()


@pytest.mark.parametrize("kind", OPTIONS)
def test_an_optimizer_by_name(kind):
    """Reference: the library's own class, unfused, with the same options: five updates. One whose
    gradients are not finite, the first too, changes nothing: neither weights nor moments."""
    assert GIVEN.keys() == KINDS.keys() == OPTIONS.keys()
    assert GIVEN[kind].keys() == OPTIONS[kind].keys()
    mine, other = weights(), weights()
    optimizer, reference = ours(kind, mine), theirs(kind, list(other.values()))
    assert step(optimizer, 0, bad=True) == 1
    for seed in range(1, 6):
        assert step(optimizer, seed) == 0
        assert step(optimizer, seed + 10, bad=True) == 1
        for parameter, grad in zip(other.values(), gradients(seed), strict=True):
            parameter.grad = grad
        reference.step()
    for a, b in zip(mine.values(), other.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert a.grad is None


@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if "momentum" in OPTIONS[kind]])
def test_momentum_may_rise_from_zero(kind):
    """Reference: an optimizer that has had momentum from the beginning, which is the same where the
    moments are 0: gradients are, until momentum comes. The first update with any is skipped."""
    always, rising = ours(kind, weights()), ours(kind, weights())
    given = GIVEN[kind] | {"weight_decay": 0.0}  # which would be a gradient
    for optimizer, momentum in ((always, 0.5), (rising, 0.0)):
        optimizer.set(RATE, given | {"momentum": momentum})
        optimizer.apply(optimizer.parameters, [torch.zeros(3, 4), torch.zeros(5)])
        optimizer.set(RATE, given | {"momentum": 0.5})
        assert step(optimizer, 0, bad=True) == 1
        for seed in range(3):
            step(optimizer, seed)
    assert all(map(torch.equal, always.parameters, rising.parameters))
    assert_identical(flat(always.state_dict()), flat(rising.state_dict()))


@pytest.mark.parametrize("kind", OPTIONS)
def test_an_optimizer_goes_on(kind, tmp_path):
    """Reference: six updates in one go, bit for bit, against three, a file, and three."""
    whole, parts = ours(kind, weights()), ours(kind, weights())
    for seed in range(6):
        step(whole, seed)
    for seed in range(3):
        step(parts, seed)
    torch.save(parts.state_dict(), tmp_path / "state.pt")
    again = Optimizer(dict(zip(weights(), parts.parameters, strict=True)))
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    again.set(RATE, GIVEN[kind])
    for seed in range(3, 6):
        step(again, seed)
    assert all(map(torch.equal, whole.parameters, again.parameters))
    assert_identical(flat(whole.state_dict()), flat(again.state_dict()))


def test_moments_of_another_optimizer_are_refused():
    """Reference: what each keeps of a parameter."""
    state = ours("adam", weights())
    step(state, 0)
    kept = state.state_dict()
    for name in ("rmsprop", "sgd", "nonsense"):
        with pytest.raises(ValueError, match=f"{name}"):
            Optimizer(weights()).load_state_dict(kept | {"optimizer": name})


def test_blocks_have_their_own_rates():
    """Reference: SGD's closed form, weight - rate · factor · gradient, by a block's size."""
    parameters = weights()
    before = [p.detach().clone() for p in parameters.values()]
    optimizer = Optimizer(parameters, {4: 0.5, 8: 2.0})
    optimizer.restart("sgd")
    optimizer.set(RATE, {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0})
    step(optimizer, 1)
    for now, then, grad, factor in zip(
        parameters.values(), before, gradients(1), (0.5, 2.0), strict=True
    ):
        torch.testing.assert_close(now.detach(), then - RATE * factor * grad)


# Runs

PHASES = (
    "[{resolution: 4, kimg: 0.024, optimizer: rmsprop}, "
    "{resolution: 4, kimg: 0.024, learning_rate: {G: 0.001, D: {start: 0.002}}}, "
    "{resolution: 8, fade: true, kimg: 0.024, restart: false}, "
    "{resolution: 8, kimg: 0.024, optimizer: sgd, momentum: 0.9}]"
)


def train(photos, run_dir, phases=PHASES, *more) -> str:
    given = [pair for pair in options()[1::2] if "_kimg" not in pair or "tick" in pair]
    settings = [word for pair in given for word in ("-o", pair)]
    settings += ["-o", f"schedule.phases={phases}", *more]
    arguments = ["train", "--data", str(photos), "--run-dir", str(run_dir), *settings]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_of_phases_goes_on(photos, tmp_path):
    """Reference: the run in one go, bit for bit: weights, average, moments of whichever optimizer
    the phase has. It stops in the middle of a phase that keeps the moments of the one before."""
    train(photos, tmp_path / "whole")
    stop = ("-o", "schedule.total_kimg=0.056", "-o", "network.resolution=8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("progan.config.config.Config.check_reach", lambda self: None)
        train(photos, tmp_path / "parts", PHASES, *stop)
    half = load_checkpoint(tmp_path / "parts")
    assert half["progress"]["nimg"] == 56 and half["G_opt"]["optimizer"] == "adam"
    counts = {kept["step"].item() for kept in half["G_opt"]["state"].values()}
    assert counts == {1, 4}, "blocks that are new have made one step, the others all of theirs"
    train(photos, tmp_path / "parts")
    whole, parts = (load_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert whole["G_opt"]["optimizer"] == "sgd"
    for name in ("G", "D", "G_ema", "G_opt", "D_opt"):
        assert_identical(flat(whole[name]), flat(parts[name]))


def test_a_library_that_lacks_is_missed_at_the_start(photos, tmp_path, monkeypatch):
    """Reference: the later phase's optimizer in the message, exit code 2, and no folder: the run
    would have trained until there."""
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    words = ["train", "--data", str(photos), "--run-dir", str(tmp_path / "run")]
    words += options(optim__optimizer="{4: adam, 8: lamb}")
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "the optimizer lamb needs timm" in result.output
    assert not (tmp_path / "run").exists()


def test_examples_in_the_docs():
    """Reference: each YAML block of docs/training.md makes a schedule that reaches its end."""
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        config = validate(yaml.safe_load(block), "docs/training.md")
        config.check_reach()
        assert phase_table(config.make_schedule())


def test_table_and_plot(tmp_path):
    """Reference: the optimizers and the rates of both networks in words; a picture with a panel
    for options that vary."""
    schedule = config_of(f"schedule: {{phases: {PHASES}}}").make_schedule()
    table = phase_table(schedule)
    for words in ("rmsprop", "G 0.001, D 0.002 -> 0 linear", "adam, goes on", "sgd, momentum 0.9"):
        assert words in table
    plot(schedule, tmp_path / "schedule.png")
    assert (tmp_path / "schedule.png").stat().st_size > 10_000
    assert "optimizer" not in phase_table(load_config("demo").make_schedule())
