"""The schedule: the official formula, whole batches, ramps, divisibility."""

import random
import re
import subprocess
import sys
from fractions import Fraction

import pytest

from progan.cli.phases import phase_table, points
from progan.config.batch_rules import check_batches
from progan.config.curves import Ramp
from progan.config.resolutions import at_resolution
from progan.config.schedule import make_schedule
from progan.config.settings import OptimConfig, ScheduleConfig
from progan.config.shortfall import shortfall
from progan.runtime.errors import UserError

RESOLUTIONS = [4, 8, 16, 32, 64, 128, 256, 512, 1024]

# name: (our settings, the same numbers as a table of every resolution: batch sizes, rates)
GPU = {"resolution": 1024, "stable_kimg": 600, "fade_kimg": 600, "total_kimg": 12000}
PRESETS = {
    "paper": (
        {
            "resolution": 1024,
            "stable_kimg": 800,
            "fade_kimg": 800,
            "total_kimg": 19000,
            "batch_size": {4: 16, 256: 14, 512: 6, 1024: 3},
            "learning_rate": 0.001,
        },
        [16, 16, 16, 16, 16, 16, 14, 6, 3],
        [0.001] * 9,
    ),
    "1gpu": (
        GPU
        | {
            "batch_size": {4: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
            "learning_rate": {4: 0.001, 1024: 0.0015},
        },
        [128, 128, 128, 64, 32, 16, 8, 4, 4],
        [0.001] * 8 + [0.0015],
    ),
    "2gpu": (
        GPU
        | {
            "batch_size": {4: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8},
            "learning_rate": {4: 0.001, 512: 0.0015, 1024: 0.002},
        },
        [256, 256, 128, 64, 32, 16, 8, 8, 8],
        [0.001] * 7 + [0.0015, 0.002],
    ),
    "4gpu": (
        GPU
        | {
            "batch_size": {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16},
            "learning_rate": {4: 0.001, 256: 0.0015, 512: 0.002, 1024: 0.003},
        },
        [512, 256, 128, 64, 32, 16, 16, 16, 16],
        [0.001] * 6 + [0.0015, 0.002, 0.003],
    ),
    "8gpu": (
        GPU
        | {
            "batch_size": {4: 512, 8: 256, 16: 128, 32: 64, 64: 32},
            "learning_rate": {4: 0.001, 128: 0.0015, 256: 0.002, 512: 0.003},
        },
        [512, 256, 128, 64, 32, 32, 32, 32, 32],
        [0.001] * 5 + [0.0015, 0.002, 0.003, 0.003],
    ),
    "cifar10": (
        {
            "resolution": 32,
            "stable_kimg": 400,
            "fade_kimg": 400,
            "total_kimg": 20000,
            "batch_size": 16,
            "learning_rate": 0.001,
        },
        [16] * 4,
        [0.001] * 4,
    ),
}


def make(**settings):
    """A schedule; the defaults are 4x4 … 16x16, 1 + 1 kimg, batches of 8."""
    settings = {
        "stable_kimg": 1,
        "fade_kimg": 1,
        "batch_size": 8,
        "learning_rate": 0.001,
    } | settings
    resolution = settings.pop("resolution", 16)
    optim = {key: settings.pop(key) for key in ("beta1", "beta2", "eps") if key in settings}
    return make_schedule(resolution, ScheduleConfig(**settings), OptimConfig(**optim))


def ramp(start, end, decay="linear", power=2.0):
    return Ramp(start=start, end=end, decay=decay, power=power)


def official(nimg, settings):
    """Resolution and alpha by the official code's continuous level of detail, in exact fractions.

    Level 0 is the final resolution. Time is cut into stretches of stable + fade kimg; each takes
    the level down by one, during its fade; the level stops at 0. Between two levels the finer
    resolution trains and the fraction that is left is the weight of the coarser one.
    """
    kimg = Fraction(nimg, 1000)
    stable, fade = settings["stable_kimg"], settings["fade_kimg"]
    top = settings["resolution"].bit_length() - 1
    stretch = kimg // (stable + fade)
    into_fade = max(kimg - stretch * (stable + fade) - stable, 0)
    level = max(top - 2 - stretch - into_fade / fade, Fraction(0))
    left = level - level // 1
    return 2 ** (top - int(level // 1)), (1 - left if left else None)


def boundaries(settings):
    """Nominal ends of all phases but the last, in images."""
    steps = settings["resolution"].bit_length() - 3
    stable, fade = settings["stable_kimg"] * 1000, settings["fade_kimg"] * 1000
    ends = []
    for i in range(steps):
        ends += [i * (stable + fade) + stable, (i + 1) * (stable + fade)]
    return ends


def kinds(schedule):
    return [(phase.resolution, phase.fading) for phase in schedule.phases]


def assert_whole(schedule):
    """Contiguous from 0, whole batches, and the total is reached by whole batches."""
    end = 0
    for phase in schedule.phases:
        assert phase.start_nimg == end < phase.end_nimg
        assert (phase.end_nimg - phase.start_nimg) % phase.batch_size == 0
        end = phase.end_nimg
    last = schedule.phases[-1]
    assert last.start_nimg < schedule.total_nimg <= last.end_nimg
    assert (schedule.total_nimg - last.start_nimg) % last.batch_size == 0


# The official schedule


@pytest.mark.parametrize("name", PRESETS)
def test_official_formula(name):
    """Reference: the official level-of-detail formula, evaluated from `nimg` alone, and tables of
    batch size and rate at every resolution. A phase out of order or of another length, a map read
    downward, or settings of the old resolution during a fade would differ at some point."""
    settings, batches, rates = PRESETS[name]
    schedule = make(**settings)
    ends = [0, *boundaries(settings), settings["total_kimg"] * 1000]
    near = max(batches)
    points = [0, 1, schedule.total_nimg - batches[-1], schedule.total_nimg - 1]
    for start, end in zip(ends, ends[1:], strict=False):
        points += [start + share * (end - start) // 8 for share in (1, 3, 4, 7)]
        points += [start + near, end - near]
    for nimg in points:
        resolution, alpha = official(nimg, settings)
        phase = schedule.at(nimg)
        index = RESOLUTIONS.index(resolution)
        assert phase.start_nimg <= nimg < phase.end_nimg
        assert phase.resolution == resolution, nimg
        assert phase.batch_size == batches[index], nimg
        assert phase.G_rate.at(nimg) == rates[index], nimg
        if alpha is None:
            assert phase.alpha(nimg) is None, nimg
        else:
            one_batch = phase.batch_size / (phase.end_nimg - phase.start_nimg)
            assert abs(phase.alpha(nimg) - alpha) <= one_batch, nimg


@pytest.mark.parametrize("name", PRESETS)
def test_official_boundaries(name):
    """Reference: multiples of stable and stable + fade kimg; rounding to batches (14, 6 and 3 do
    not divide 800,000) may move a boundary by half a batch, and must not add up over 17 phases."""
    settings, batches, _ = PRESETS[name]
    schedule = make(**settings)
    nominal = [*boundaries(settings), settings["total_kimg"] * 1000]
    assert_whole(schedule)
    assert len(schedule.phases) == len(nominal) == 2 * len(batches) - 1
    for phase, end in zip(schedule.phases, nominal, strict=True):
        assert abs(phase.end_nimg - end) <= phase.batch_size / 2
    assert abs(schedule.total_nimg - nominal[-1]) <= batches[-1] / 2


@pytest.mark.parametrize(
    "name, resolution, stable_from, until",
    [
        ("1gpu", 1024, 9_600_000, 12_000_000),
        ("2gpu", 1024, 9_600_000, 12_000_000),
        ("4gpu", 1024, 9_600_000, 12_000_000),
        ("8gpu", 1024, 9_600_000, 12_000_000),
        ("paper", 1024, 12_800_001, 18_999_999),
        ("cifar10", 32, 2_400_000, 20_000_000),
    ],
)
def test_last_phase(name, resolution, stable_from, until):
    """Reference: the paper's "1024x1024 stable from 8 x 1200 = 9600 kimg" and totals. The paper
    preset's are one image off, as 3 does not divide them."""
    schedule = make(**PRESETS[name][0])
    last = schedule.phases[-1]
    assert (last.resolution, last.fading) == (resolution, False)
    assert (last.start_nimg, last.end_nimg, schedule.total_nimg) == (stable_from, until, until)


def test_every_update_of_a_short_run():
    """Reference: the official formula at every update of a run whose phases are whole batches,
    exactly. At the first image of a fade the official level is still whole, so it trains one batch
    more at the old resolution; ours starts the fade there with alpha 0."""
    settings = {"resolution": 16, "stable_kimg": 2, "fade_kimg": 1, "total_kimg": 9}
    schedule = make(**settings, batch_size={4: 40, 8: 20, 16: 10})
    nimg = fades = 0
    while nimg < schedule.total_nimg:
        phase = schedule.at(nimg)
        if phase.fading and nimg == phase.start_nimg:
            assert official(nimg, settings) == (phase.resolution // 2, None)
            assert phase.alpha(nimg) == 0
            fades += 1
        else:
            resolution, alpha = official(nimg, settings)
            assert phase.resolution == resolution
            assert phase.alpha(nimg) == (None if alpha is None else float(alpha))
        nimg += phase.batch_size
    assert nimg == 9000 and fades == 2


# Phases


def test_stepping_lands_on_every_boundary():
    """Reference: `nimg` advanced one batch at a time, as the trainer does; with rounding anywhere
    but at construction it would step over a boundary."""
    schedule = make(resolution=64, batch_size={4: 14, 8: 6, 16: 3, 32: 7}, total_kimg=11)
    nimg, met = 0, []
    while nimg < schedule.total_nimg:
        phase = schedule.at(nimg)
        if not met or met[-1] != phase:
            assert nimg == phase.start_nimg
            met.append(phase)
        nimg += phase.batch_size
    assert nimg == schedule.total_nimg
    assert tuple(met) == schedule.phases


def test_alpha_is_linear():
    """Reference: 0 at the first image of a fade, 1 at its end, in equal steps; None when stable."""
    schedule = make()
    for phase in schedule.phases:
        updates = range(phase.start_nimg, phase.end_nimg + 1, 8)
        alphas = [phase.alpha(nimg) for nimg in updates]
        expected = [i / 125 for i in range(126)] if phase.fading else [None] * 126
        assert alphas == expected
    assert kinds(schedule) == [(4, False), (8, True), (8, False), (16, True), (16, False)]


def test_reached():
    """Reference: what the last update trained: at a boundary the phase that ends there, whole."""
    reached = make().reached
    assert reached(0) == reached(8) == reached(1000) == (4, None)
    assert reached(1008) == (8, 0.008)
    assert reached(1992) == (8, 0.992)
    assert reached(2000) == reached(2008) == reached(3000) == (8, None)
    assert reached(3500) == (16, 0.5)
    assert reached(4000) == reached(5000) == (16, None)


def test_reached_at_a_start_that_fades():
    """Reference: a run whose first phase is a fade has nothing of the new resolution at 0."""
    schedule = make(stable_kimg={4: 0, 8: 1})
    assert kinds(schedule)[0] == (8, True)
    assert schedule.reached(0) == (8, 0)


def test_at_beyond_the_end():
    """Reference: a finished run is still in its last phase (sampling from it asks for that)."""
    schedule = make()
    assert schedule.at(schedule.total_nimg) == schedule.at(10**9) == schedule.phases[-1]


@pytest.mark.parametrize("total_kimg", [0.5, 1, 1.3, 1.5, 2, 2.9, 3.001, 3.02, 4, 4.7])
def test_shortened_run_is_the_beginning(total_kimg):
    """Reference: the run of the full length; were a cut fade squeezed into what is left, its alpha
    would have another slope. (The last resolution's own phase ends with the run.)"""
    batch_size = {4: 16, 8: 12, 16: 10}
    long = make(total_kimg=6, batch_size=batch_size)
    short = make(total_kimg=total_kimg, batch_size=batch_size)
    total = total_kimg * 1000
    assert_whole(short)
    assert short.total_nimg < long.total_nimg
    assert abs(short.total_nimg - total) <= short.phases[-1].batch_size / 2
    for ours, theirs in zip(short.phases, long.phases, strict=False):
        if (ours.resolution, ours.fading) != (16, False):
            assert ours == theirs
    for nimg in range(0, short.total_nimg):
        assert short.at(nimg).start_nimg == long.at(nimg).start_nimg
        assert short.at(nimg).alpha(nimg) == long.at(nimg).alpha(nimg)


def test_cut_in_a_fade_keeps_the_slope():
    """Reference: half of an 8x8 fade of 1 kimg has reached alpha 0.5, not 1."""
    schedule = make(total_kimg=1.5)
    assert schedule.total_nimg == 1496  # 62 batches of 8 after the boundary; 500 are 62.5
    assert schedule.phases[-1].end_nimg == 2000
    assert schedule.reached(1496) == (8, 0.496)


def test_cut_takes_the_nearest_batch():
    """Reference: 1001 images are nearest to the 1000 of the 4x4 phase: no update at 8x8."""
    schedule = make(total_kimg=1.001)
    assert schedule.total_nimg == 1000
    assert kinds(schedule) == [(4, False)]


@pytest.mark.parametrize("updates", [2, 5])
def test_phases_are_of_whole_steps(updates):
    """Reference: division by hand. A step's critic updates are in one phase, each phase within
    half a step of its nominal end, the run within half a step of its length."""
    settings = ScheduleConfig(
        stable_kimg=1, fade_kimg=0.5, batch_size={4: 16, 8: 8}, total_kimg=2.1
    )
    schedule = make_schedule(8, settings, OptimConfig(), {"drift": Ramp(start=1)}, updates)
    for phase, nominal in zip(schedule.phases, (1000, 1500, 2100), strict=True):
        assert phase.step_size == phase.batch_size * updates
        assert (phase.end_nimg - phase.start_nimg) % phase.step_size == 0
        end = schedule.end_of(phase)
        assert abs(end - nominal) <= phase.step_size / 2
        assert schedule.ends_step(end) and not schedule.ends_step(end - phase.batch_size)
        assert dict(phase.weights)["drift"].at(phase.start_nimg) == 1


def test_a_run_has_a_batch():
    """Reference: the least run of all, one batch."""
    schedule = make(total_kimg=0.001)
    assert schedule.total_nimg == 8 and kinds(schedule) == [(4, False)]


def test_no_images():
    """Reference: a schedule without a single batch is the user's mistake; both values are named."""
    with pytest.raises(UserError, match=r"total_kimg \(0.001\).*stable_kimg \(1.0\)"):
        make(resolution=4, total_kimg=0.001)


@pytest.mark.parametrize(
    ("settings", "ends", "then"),
    [  # 4x4 until 1 kimg, 8x8 fading until 2 and stable until 3, 16x16 fading until 4
        ({"total_kimg": 2.5}, "ends at 8x8, and network.resolution is 16", 8),
        ({"total_kimg": 1.5}, "ends at 8x8", 4),
        ({"total_kimg": 3.5}, r"ends while 16x16 still fades in \(alpha 0.5\)", 8),
        ({"fade_kimg": {4: 1, 16: 0}, "stable_kimg": {4: 1, 16: 0}}, "less than a batch", 8),
        ({"total_kimg": 4}, "", 16),
        ({}, "", 16),
    ],
)
def test_shortfall(settings, ends, then):
    """Reference: by hand. What the text proposes has no shortfall; the length that it names is the
    shortest that has none, but for a batch."""
    settings = ScheduleConfig(**{"stable_kimg": 1, "fade_kimg": 1, "batch_size": 10} | settings)
    why = shortfall(16, settings, OptimConfig())
    assert bool(why) == bool(ends) and re.search(ends, why)
    assert shortfall(then, settings, OptimConfig()) == ""
    if "total_kimg is" in why:
        assert f"network.resolution={then}," in why and "after 4 kimg" in why
        whole = settings.model_copy(update={"total_kimg": None})
        assert shortfall(16, whole, OptimConfig()) == ""


def test_total_none():
    """Reference: the documented meaning, the last resolution's own stable_kimg."""
    schedule = make(stable_kimg={4: 1, 16: 3})
    assert schedule.total_nimg == 1000 + 1000 + 1000 + 1000 + 3000


def test_total_beyond_the_last_boundary():
    """Reference: 16x16 trains on to the total, and not for its stable_kimg."""
    schedule = make(total_kimg=40)
    assert kinds(schedule)[-1] == (16, False)
    assert schedule.phases[-1].start_nimg == 4000
    assert schedule.phases[-1].end_nimg == schedule.total_nimg == 40_000


def test_no_fade():
    """Reference: fade_kimg 0 has no fading phases, so alpha is None everywhere."""
    schedule = make(fade_kimg=0)
    assert kinds(schedule) == [(4, False), (8, False), (16, False)]
    assert [phase.end_nimg for phase in schedule.phases] == [1000, 2000, 3000]


def test_fixed_resolution():
    """Reference: training without growing is one stable phase."""
    schedule = make(start_resolution=16, total_kimg=5)
    assert kinds(schedule) == [(16, False)]
    assert schedule.total_nimg == 5000


def test_start_above_four():
    """Reference: the start resolution is trained, not faded in."""
    assert kinds(make(start_resolution=8)) == [(8, False), (16, True), (16, False)]


def test_start_in_the_middle_of_a_fade():
    """Reference: 3/10 of an 8x8 fade of 1 kimg are over, so 0.7 kimg are left of it."""
    schedule = make(start_resolution=8, start_alpha=0.3, batch_size=100)
    assert kinds(schedule) == [(8, True), (8, False), (16, True), (16, False)]
    assert [phase.end_nimg for phase in schedule.phases] == [700, 1700, 2700, 3700]
    assert schedule.reached(0) == (8, 0.3) and schedule.reached(700) == (8, None)
    alphas = [schedule.phases[0].alpha(nimg) for nimg in (0, 100, 600, 700)]
    assert alphas == pytest.approx([0.3, 0.4, 0.9, 1], rel=1e-12)
    assert schedule.at(1700).alpha(1700) == 0
    assert kinds(make(start_resolution=8, start_alpha=0, fade_kimg=0))[0] == (8, False)


def test_at_resolution():
    """Reference: each key of a map holds from itself upward, until the next."""
    values = {16: "c", 4: "a", 8: "b"}
    assert [at_resolution(values, r) for r in (4, 8, 16, 32, 1024)] == ["a", "b", "c", "c", "c"]
    assert at_resolution(7, 64) == 7


def test_maps():
    """Reference: every setting written out a phase; a setting read at the old resolution during a
    fade, or another setting's place, would differ."""
    schedule = make(
        stable_kimg={4: 1, 8: 2, 16: 3},
        fade_kimg={4: 9, 8: 4, 16: 5},
        batch_size={4: 20, 8: 10, 16: 4},
        batch_gpu={4: 10, 16: 2},
        learning_rate={4: 0.1, 16: 0.2},
        beta1={4: 0.0, 8: 0.5},
        beta2={4: 0.9, 16: 0.99},
        eps={4: 1e-8, 8: 1e-6},
    )
    rows = [
        (
            *(phase.resolution, phase.fading, phase.end_nimg, phase.batch_size, phase.batch_gpu),
            phase.G_rate.at(0),
            *(phase.options_at(0)[name] for name in ("beta1", "beta2", "eps")),
        )
        for phase in schedule.phases
    ]
    assert rows == [
        (4, False, 1000, 20, 10, 0.1, 0.0, 0.9, 1e-8),
        (8, True, 5000, 10, 10, 0.1, 0.5, 0.9, 1e-6),
        (8, False, 7000, 10, 10, 0.1, 0.5, 0.9, 1e-6),
        (16, True, 12000, 4, 2, 0.2, 0.5, 0.99, 1e-6),
        (16, False, 15000, 4, 2, 0.2, 0.5, 0.99, 1e-6),
    ]


# Ramps


@pytest.mark.parametrize(
    "ramp, expected",
    [
        (ramp(0.004, 0.001), [0.004, 0.00325, 0.0025, 0.001]),
        (ramp(0.004, 0.001, "cosine"), [0.004, 0.0035606601717798, 0.0025, 0.001]),
        (ramp(0.004, 0.001, "exponential"), [0.004, 0.0028284271247462, 0.002, 0.001]),
        (ramp(0.004, 0.001, "polynomial"), [0.004, 0.0026875, 0.00175, 0.001]),
        (ramp(0.004, 0.001, "polynomial", 3.0), [0.004, 0.002265625, 0.001375, 0.001]),
        (ramp(0.001, 0.004), [0.001, 0.00175, 0.0025, 0.004]),
        (ramp(0.001, 0.004, "cosine"), [0.001, 0.0014393398282202, 0.0025, 0.004]),
        (ramp(0.001, 0.004, "exponential"), [0.001, 0.0014142135623731, 0.002, 0.004]),
    ],
)
def test_ramps(ramp, expected):
    """Reference: the closed forms at 0, ¼, ½ and 1 of a phase, worked out by hand (cos 45° =
    0.70710678, 4^-¼ = 0.70710678, (¾)² = 0.5625, (¾)³ = 0.421875)."""
    schedule = make(learning_rate=ramp)
    for phase in schedule.phases:
        nimgs = [phase.start_nimg + share for share in (0, 250, 500, 1000)]
        rates = [phase.G_rate.at(nimg) for nimg in nimgs]
        assert rates == pytest.approx(expected, rel=1e-12)


def test_ramps_by_resolution():
    """Reference: the ramp of the phase's own resolution, restarting with every phase."""
    rate = {4: 0.5, 8: ramp(0.2, 0.1), 16: ramp(0.02, 0.01, "cosine")}
    schedule = make(learning_rate=rate)
    rates = [
        (phase.G_rate.at(phase.start_nimg), phase.G_rate.at(phase.end_nimg))
        for phase in schedule.phases
    ]
    expected = [(0.5, 0.5), (0.2, 0.1), (0.2, 0.1), (0.02, 0.01), (0.02, 0.01)]
    assert rates == [pytest.approx(pair) for pair in expected]


# Batches over processes and passes


@pytest.mark.parametrize(
    "batch_size, batch_gpu, processes, images",
    [
        (32, None, 1, 32),
        (32, None, 4, 8),
        (32, 8, 1, 8),
        (32, 8, 4, 8),
        (32, 16, 4, 8),
        (3, 16, 1, 3),
        (2, None, 4, 0),
    ],
)
def test_images_per_pass(batch_size, batch_gpu, processes, images):
    """Reference: batch_gpu, and at most the process's share of the batch."""
    phase = make(batch_size=batch_size, batch_gpu=batch_gpu).phases[0]
    assert phase.images_per_pass(processes) == images


@pytest.mark.parametrize("name", PRESETS)
def test_official_batches_pass(name):
    """Reference: the official presets, on as many GPUs as they are for; the paper's group of 16
    shrinks with its batches of 14, 6 and 3 on one."""
    processes = int(name[0]) if name.endswith("gpu") else 1
    check_batches(make(**PRESETS[name][0]), processes, 16 if name == "paper" else 4)


@pytest.mark.parametrize(
    "batch_size, batch_gpu, processes, rule, batch_sizes",
    [
        (100, 8, 4, "batch_gpu x processes (8 x 4 = 32)", [96, 128]),
        (20, 8, 4, "the number of processes (4)", None),  # a share of 5; 20 is 4 x 5: groups
        (9, 8, 1, "batch_gpu x processes (8 x 1 = 8)", [8, 16]),
        (100, None, 8, "the number of processes (8)", [96, 128]),
        (100, 64, 8, "the number of processes (8)", [96, 128]),
        (2, None, 4, "the number of processes (4)", [16]),
        (2, 16, 4, "the number of processes (4)", [16]),
    ],
)
def test_batch_must_divide(batch_size, batch_gpu, processes, rule, batch_sizes):
    """Reference: division by hand; the message names the numbers, the rule and sizes that do."""
    schedule = make(batch_size=batch_size, batch_gpu=batch_gpu)
    with pytest.raises(UserError) as error:
        check_batches(schedule, processes, 4)
    if batch_sizes is None:
        assert "a forward pass at 4x4 has 5 images" in str(error.value)
        return
    alternatives = " or ".join(map(str, batch_sizes))
    assert str(error.value) == (
        f"schedule.batch_size ({batch_size}) at 4x4 must be divisible by {rule}; "
        f"set schedule.batch_size={alternatives}"
    )
    for size in batch_sizes:
        check_batches(make(batch_size=size, batch_gpu=batch_gpu), processes, 4)


def test_means_over_the_batch_need_it_in_one_pass():
    """Reference: the rule: one process, and no smaller batch_gpu; stddev groups still count."""
    schedule = make(batch_size=8)
    check_batches(schedule, 1, 4, whole=True)
    parts = make(batch_size=8, batch_gpu=4)
    for refused, processes in ((schedule, 2), (parts, 1)):
        check_batches(refused, processes, 4)
        with pytest.raises(UserError, match="relativistic-average .*has 8 images.* has 4 "):
            check_batches(refused, processes, 4, whole=True)
    with pytest.raises(UserError, match="network.stddev_group"):
        check_batches(schedule, 1, 3, whole=True)


def test_batch_that_fails_later_is_found_at_once():
    """Reference: only 16x16, hours away in a real run, has a batch that does not divide."""
    with pytest.raises(UserError, match=r"schedule.batch_size \(6\) at 16x16 .*\(4 x 1 = 4\)"):
        check_batches(make(batch_size={4: 8, 16: 6}, batch_gpu=4), 1, 4)


@pytest.mark.parametrize(
    "batch_size, batch_gpu, processes, group, images, remedy",
    [
        (8, 2, 1, 4, 2, "set network.stddev_group=2, or change"),
        (4, None, 2, 4, 2, "set network.stddev_group=2, or change"),
        (12, None, 2, 4, 6, "set network.stddev_group=3, or change"),
        (14, None, 2, 16, 7, "set network.stddev_group=7, or change"),
        (8, 1, 1, 4, 1, "(4); change"),
        ({4: 8, 8: 12}, None, 2, 4, 6, "set network.stddev_group=2, or change"),
    ],
)
def test_whole_stddev_groups(batch_size, batch_gpu, processes, group, images, remedy):
    """Reference: the largest group (above one) that divides every pass of the run, by hand; a pass
    of part of a group would compute other statistics than one process."""
    schedule = make(batch_size=batch_size, batch_gpu=batch_gpu)
    with pytest.raises(UserError) as error:
        check_batches(schedule, processes, group)
    message = str(error.value)
    assert f" has {images} images " in message and f"stddev_group ({group}); " in message
    assert remedy in message and message.endswith(
        "change schedule.batch_size or schedule.batch_gpu"
    )
    if remedy.startswith("set"):
        check_batches(schedule, processes, int(remedy.split("=")[1].split(",")[0]))


# Any schedule


def random_settings(draw):
    """Random settings that the config accepts, with at most a few hundred updates per phase."""
    start = draw.choice([4, 8, 16])
    resolution = draw.choice([r for r in (4, 8, 16, 32, 64) if r >= start])

    def by_resolution(value):
        if draw.random() < 0.5:
            return value()
        keys = {draw.choice([4, start])} | set(draw.sample(RESOLUTIONS, draw.randint(0, 3)))
        return {key: value() for key in sorted(keys)}

    def kimg():
        return draw.choice([0, 0.001, 0.1, 0.5, 1, draw.random(), 2 * draw.random()])

    def rate():
        decay = draw.choice(["linear", "cosine", "exponential", "polynomial"])
        start, end = draw.random() + 1e-6, draw.random() + 1e-6
        return draw.choice([ramp(start, end, decay, draw.choice([0.5, 1, 2])), draw.random()])

    return {
        "resolution": resolution,
        "start_resolution": start,
        "start_alpha": draw.choice([None, draw.random()]) if start > 4 else None,
        "stable_kimg": by_resolution(kimg),
        "fade_kimg": by_resolution(kimg),
        "total_kimg": draw.choice([None, 0.001 + kimg(), 8 * draw.random() + 0.001]),
        "batch_size": by_resolution(lambda: draw.randint(1, 64)),
        "batch_gpu": draw.choice([None, by_resolution(lambda: draw.randint(1, 64))]),
        "learning_rate": by_resolution(rate),
    }


@pytest.mark.parametrize("seed", range(200))
def test_any_schedule(seed):
    """Reference: the definitions. Phases are contiguous, rise in resolution and land on whole
    batches; alpha and rates stay within their ends; boundaries are nominal up to half of a batch;
    checks of batches agree with counting groups one by one. Nothing raises but UserError."""
    draw = random.Random(seed)
    settings = random_settings(draw)
    try:
        schedule = make(**settings)
    except UserError as error:
        assert "no images to train on" in str(error)
        return
    assert_whole(schedule)
    assert kinds(schedule) == sorted(kinds(schedule), key=lambda kind: (kind[0], not kind[1]))
    assert len(set(kinds(schedule))) == len(schedule.phases)

    total = settings["total_kimg"]
    trained = range(settings["start_resolution"], settings["resolution"] + 1)
    largest = max(at_resolution(settings["batch_size"], r) for r in trained)
    if total is not None and settings["stable_kimg"] != 0:
        error = abs(schedule.total_nimg - total * 1000)
        assert error <= largest / 2 + 0.5 or schedule.total_nimg == schedule.phases[0].batch_size

    nimg = 0
    while nimg < schedule.total_nimg:
        phase = schedule.at(nimg)
        assert phase.start_nimg <= nimg < phase.end_nimg
        alpha, rate = phase.alpha(nimg), phase.G_rate.at(nimg)
        assert (0 <= alpha < 1) if phase.fading else alpha is None
        if isinstance(phase.G_rate.shape, Ramp):
            low, high = sorted([phase.G_rate.shape.start, phase.G_rate.shape.end])
            assert low * (1 - 1e-12) <= rate <= high * (1 + 1e-12)
        else:
            assert rate == at_resolution(settings["learning_rate"], phase.resolution)
        nimg += phase.batch_size
        resolution, alpha = schedule.reached(nimg)
        assert resolution == phase.resolution and alpha is None or 0 < alpha < 1
    assert nimg == schedule.total_nimg

    processes, group = draw.choice([1, 1, 2, 3, 4]), draw.choice([1, 2, 4])
    works = all(whole_groups(phase, processes, group) for phase in schedule.phases)
    try:
        check_batches(schedule, processes, group)
        assert works
    except UserError:
        assert not works


def whole_groups(phase, processes, group):
    """Deal a batch out, image by image: does every process get as much, and every pass as many,
    none of which has a part of a group (the whole batch is a group where it is smaller)?"""
    shares = [len(range(rank, phase.batch_size, processes)) for rank in range(processes)]
    size = min(phase.batch_gpu or shares[0], shares[0])
    passes = [size] * (shares[0] // size)
    whole = len(set(shares)) == 1 and sum(passes) == shares[0]
    return whole and all(images % min(group, phase.batch_size) == 0 for images in passes)


# The rest


def test_imports_no_torch():
    """Reference: `sys.modules` of a fresh interpreter; `progan --help` stays instant."""
    code = (
        "import sys, progan.config.schedule, progan.config.config\n"
        "print(sorted({'torch', 'numpy', 'accelerate', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr


def test_phase_table():
    """Reference: the images and updates of a cut schedule, written out."""
    schedule = make(total_kimg=1.5, learning_rate={4: 0.002, 8: ramp(0.002, 0.001, "cosine")})
    header, stable, fading, total = phase_table(schedule).split("\n")
    assert header.split("  ")[0] == "phase"
    assert stable.split() == ["4x4", "stable", "0.0", "1.0", "1,000", "125", "8", "0.002"]
    assert fading.split() == (
        ["8x8", "fading", "1.0", "1.5", "496", "62", "8", "0.002", "->", "0.001", "cosine"]
    )
    assert total == "total 1.5 kimg"


def test_plotted_points():
    """Reference: a plotted curve begins at 0, ends at the end of the run and never goes back."""
    schedule = make(total_kimg=1.5)
    x, y = points(schedule, lambda phase, nimg: phase.resolution)
    assert (x[0], x[-1], x) == (0, 1.496, sorted(x))
    assert set(y) == {4, 8}
