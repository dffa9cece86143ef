"""Differentiable augmentation: compared with plain loops, in updates, in a run that stops."""

import math
from collections import Counter
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import test_batches
import torch
from click.testing import CliRunner
from conftest import load_checkpoint
from phases import a_phase
from test_train import assert_identical, images, state, statistics, stop_after, train
from test_updates import active, difference, faded_reals, make_batch, networks, tensor

from progan.cli.main import main
from progan.config.load import load_config
from progan.config.settings import DataConfig
from progan.runtime.errors import UserError
from progan.training.adaptive import AdaptiveStrength
from progan.training.augment import DRAWS, KINDS, augment
from progan.training.feed import Batch, Feed, split
from progan.training.updates import LossSettings, accumulate, critic_gradients, generator_gradients
from progan.training.work import work_per_image

POLICIES = [list(names) for k in range(4) for names in combinations(KINDS, k)]
LAST = 1 - 2.0**-24  # the largest draw below 1 that float32 has
ALL = "[color, translation, cutout]"


def by_hand(image, draws, policy):
    """One image [C, r, r] in float64, pixel by pixel, with the ranges of the paper (Sec. 3.2)."""
    image = np.array(image, np.float64)
    channels, r, _ = image.shape
    pixels = [(y, x) for y in range(r) for x in range(r)]
    if "color" in policy:
        image += -0.5 + 1.0 * draws[0]
        factor = 0.0 + 2.0 * draws[1]
        for y, x in pixels:
            grey = sum(image[:, y, x]) / channels
            for c in range(channels):
                image[c, y, x] = grey + factor * (image[c, y, x] - grey)
        mean = sum(image[c, y, x] for c in range(channels) for y, x in pixels) / image.size
        factor = 0.5 + 1.0 * draws[2]
        for c in range(channels):
            for y, x in pixels:
                image[c, y, x] = mean + factor * (image[c, y, x] - mean)
    if "translation" in policy:
        most = {4: 1}.get(r, r // 8)
        down, right = (range(-most, most + 1)[int(draws[i] * (2 * most + 1))] for i in (3, 4))
        moved = np.zeros_like(image)
        for y, x in pixels:
            if 0 <= y + down < r and 0 <= x + right < r:
                moved[:, y + down, x + right] = image[:, y, x]
        image = moved
    if "cutout" in policy:
        middle_y, middle_x = (int(draws[i] * (r + 1)) for i in (5, 6))  # between pixels, 0 … r
        for y, x in pixels:  # a pixel's own middle is half a pixel further
            if abs(y + 0.5 - middle_y) < r / 4 and abs(x + 0.5 - middle_x) < r / 4:
                image[:, y, x] = 0
    return image


def augmented_by_hand(images, draws, policy):
    rows = zip(images.detach().numpy(), draws.numpy(), strict=True)
    return torch.from_numpy(np.stack([by_hand(image, row, policy) for image, row in rows]))


def make_images(n, channels, r, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, r, r, dtype=torch.float64, generator=generator) * 2 - 1


def make_draws(n, seed=0):
    """Draws in float64, but with float32's values, as the feed makes them."""
    return torch.rand(n, DRAWS, generator=torch.Generator().manual_seed(seed)).double()


# The maths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES, ids=",".join)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("r", [4, 8, 32])
def test_equals_plain_loops(policy, channels, r):
    """Reference: `by_hand`, for random draws, all 0 and all just below 1; float64 to rounding, and
    float32 to its own."""
    x = make_images(10, channels, r)
    draws = torch.cat([make_draws(8), torch.zeros(1, DRAWS), torch.full((1, DRAWS), LAST)])
    expected = augmented_by_hand(x, draws, policy)
    torch.testing.assert_close(augment(x, draws, policy), expected, rtol=0, atol=1e-12)
    single = augment(x.float(), draws.float(), policy)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("r", [2**k for k in range(2, 11)])
def test_every_resolution(r):
    """Reference: slices of the image. At the ends of the draws it has moved by exactly r/8 (one
    pixel at 4x4), and the hole is a quarter of its full size, in the corner."""
    x = make_images(2, 3, r, seed=r)
    most = max(1, r // 8)
    ends = torch.tensor([0, LAST], dtype=torch.float64)[:, None].expand(2, DRAWS)
    up, down = augment(x, ends, ["translation"])
    expected = torch.zeros_like(x)
    expected[0, :, : r - most, : r - most] = x[0, :, most:, most:]
    expected[1, :, most:, most:] = x[1, :, : r - most, : r - most]
    assert torch.equal(up, expected[0]) and torch.equal(down, expected[1])
    expected = x.clone()
    expected[0, :, : r // 4, : r // 4] = 0
    expected[1, :, r - r // 4 :, r - r // 4 :] = 0
    assert torch.equal(augment(x, ends, ["cutout"]), expected)
    assert augment(x.float(), make_draws(2).float(), list(KINDS)).isfinite().all()


def test_empty_policy_is_the_identity():
    """Reference: the very same tensor, without draws."""
    x = make_images(2, 3, 4)
    assert augment(x, None, ()) is x


def test_order_is_fixed():
    """Reference: the order color, translation, cutout; the config's order changes nothing."""
    x, draws = make_images(4, 3, 8), make_draws(4)
    expected = augment(x, draws, ["color", "translation", "cutout"])
    assert torch.equal(augment(x, draws, ["cutout", "translation", "color"]), expected)
    one_by_one = x
    for name in ("color", "translation", "cutout"):
        one_by_one = augment(one_by_one, draws, [name])
    assert torch.equal(one_by_one, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_a_kinds_own(kind):
    """Reference: the same draws with one column changed. The image changes if and only if the
    column is the kind's; no column has two kinds or none."""
    own = {"color": {0, 1, 2}, "translation": {3, 4}, "cutout": {5, 6}}[kind]
    x, draws = make_images(1, 3, 8), torch.full((1, DRAWS), 0.3)
    before = augment(x, draws.double(), [kind])
    for column in range(DRAWS):
        changed = draws.clone()
        changed[0, column] = 0.9
        same = torch.equal(augment(x, changed.double(), [kind]), before)
        assert same == (column not in own), column


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, torch.tensor(0.3)])
def test_strength_is_the_share_that_is_changed(strength):
    """Reference: the augmented images where the last draw is below the strength, and the images
    elsewhere, bit for bit."""
    x, draws = make_images(40, 3, 8), make_draws(40)
    images = augment(x, draws, list(KINDS), strength)
    changed = draws[:, 7] < strength
    assert abs(changed.double().mean() - float(strength)) < 0.2
    assert torch.equal(images[changed], augment(x, draws, list(KINDS))[changed])
    assert torch.equal(images[~changed], x[~changed])


def test_adaptive_strength_by_hand():
    """Reference: Karras et al. 2020: every 4 updates, up by images/speed if the mean sign of the
    reals is above the target, else down, between 0 and 1. A NaN counts as no sign, processes'
    roundings of a mean do not matter; saved within four updates and restored, it goes on: of these
    four only those before it are above the target."""
    made = partial(AdaptiveStrength, 0.5, 0.1)
    adaptive, expected = made(), 0.0
    signs = {20: 1.0, 21: 1.0, 22: 0.25, 23: 0.25, 34: math.nan}
    signs |= dict.fromkeys(range(24, 32), -0.25)
    for update in range(40):
        adaptive.add(torch.tensor(signs.get(update, 0.75) * (1 + 1e-7)), 8)
        if update % 4 == 3:
            expected += -0.32 if 24 <= update < 32 else 0.32
            expected = min(max(expected, 0.0), 1.0)
        assert adaptive.strength.item() == pytest.approx(expected)
        if update == 21:
            state, adaptive = adaptive.state_dict(), made()
            adaptive.load_state_dict(state)
    with pytest.raises(ValueError, match="no state"):
        adaptive.load_state_dict(state | {"strength": torch.tensor(1.5)})


def test_images_are_each_their_own():
    """Reference: each image augmented alone; what else a batch holds must not matter, or
    processes and passes would differ."""
    x, draws = make_images(6, 3, 16), make_draws(6)
    whole = augment(x, draws, list(KINDS))
    alone = [augment(x[i : i + 1], draws[i : i + 1], list(KINDS)) for i in range(6)]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=0, atol=1e-14)


def test_saturation_leaves_grey_as_it_is():
    """Reference: the same grey image at saturation 0, 1 and 2, bit for bit."""
    x = make_images(1, 1, 8).float().expand(3, -1, -1, -1)
    draws = torch.full((3, DRAWS), 0.25)
    draws[:, 1] = torch.tensor([0, 0.5, LAST])
    first, *others = augment(x, draws, ["color"])
    assert all(torch.equal(other, first) for other in others)


@pytest.mark.parametrize("policy", POLICIES[1:], ids=",".join)
@pytest.mark.parametrize("channels", [1, 3])
def test_differentiable_twice(policy, channels):
    """Reference: finite differences of the images, and of the gradient, in float64."""
    x = make_images(3, channels, 4).requires_grad_()
    draws = make_draws(3, seed=1)
    torch.autograd.gradcheck(lambda x: augment(x, draws, policy), x)
    torch.autograd.gradgradcheck(lambda x: augment(x, draws, policy).square(), x)


def test_autocast_changes_nothing():
    """Reference: the same outside of bf16 autocast, bit for bit, the gradient too."""
    draws = make_draws(4).float()

    def run():
        x = make_images(4, 3, 8).float().requires_grad_()
        out = augment(x, draws, list(KINDS))
        return out, *torch.autograd.grad(out.square().sum(), x)

    expected = run()
    with torch.autocast("cpu", torch.bfloat16):
        found = run()
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32 and torch.equal(a, b)


def test_one_graph_and_no_chance_of_its_own():
    """Reference: torch.compile, which refuses to make one graph where Python must see a number; and
    the global generator's state, which does not change."""
    x, draws = make_images(4, 3, 8), make_draws(4)
    before = torch.get_rng_state()
    compiled = torch.compile(augment, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, draws, tuple(KINDS)), augment(x, draws, tuple(KINDS)))
    assert torch.equal(torch.get_rng_state(), before)


# Chance -----------------------------------------------------------------------------------------

N = 20_000


def many(x, policy, seed=5):
    return augment(x.expand(N, -1, -1, -1), make_draws(N, seed), policy)


def assert_uniform(values, low, high):
    """Mean, deviation and ends within five standard errors of a uniform distribution."""
    width = high - low
    assert abs(values.mean() - (low + high) / 2) < 5 * width / 12**0.5 / N**0.5
    assert abs(values.std() / (width / 12**0.5) - 1) < 5 / N**0.5
    assert low <= values.min() < low + 20 * width / N
    assert high - 20 * width / N < values.max() <= high


def assert_even(values, allowed):
    """Every allowed value about equally often (five standard errors), and no other."""
    counts = Counter(values.tolist())
    assert sorted(counts) == list(allowed)
    share = 1 / len(allowed)
    assert max(abs(n - N * share) for n in counts.values()) < 5 * (N * share) ** 0.5


def test_color_ranges():
    """Reference: the paper's ranges, uniform, read off images: an image of 0 becomes its
    brightness; of an image of few differences their ratio is contrast, and times saturation
    within a pixel."""
    x = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    assert_uniform(many(x, ["color"])[:, 0, 0, 0], -0.5, 0.5)
    x[0, :, 0, 0] = 0.1  # a grey spot: only contrast scales its distance from other pixels
    x[0, 0, 1, 1] = 0.3  # a red one
    out = many(x, ["color"])
    contrast = (out[:, 0, 0, 0] - out[:, 0, 3, 3]) / 0.1
    assert_uniform(contrast, 0.5, 1.5)
    assert_uniform((out[:, 0, 1, 1] - out[:, 1, 1, 1]) / 0.3 / contrast, 0.0, 2.0)


@pytest.mark.parametrize("r, most", [(4, 1), (8, 1), (16, 2), (32, 4)])
def test_translations(r, most):
    """Reference: whole pixels up to ± r/8, equally likely, down and right independently; read off
    the position of one bright pixel."""
    x = torch.zeros(1, 1, r, r, dtype=torch.float64)
    x[0, 0, r // 2, r // 2] = 1
    place = many(x, ["translation"]).flatten(1).argmax(1)
    down, right = place // r - r // 2, place % r - r // 2
    assert_even(down, range(-most, most + 1))
    assert_even(right, range(-most, most + 1))
    assert abs(np.corrcoef(down, right)[0, 1]) < 5 / N**0.5


@pytest.mark.parametrize("r", [4, 16])
def test_cutouts(r):
    """Reference: a square of r/2 whose middle is anywhere from border to border, equally likely;
    read off the zeros of an image of ones."""
    hole = many(torch.ones(1, 3, r, r, dtype=torch.float64), ["cutout"]) == 0
    assert (hole == hole[:, :1]).all(), "all channels alike"
    rows, columns = hole[:, 0].any(2), hole[:, 0].any(1)
    assert torch.equal(hole[:, 0], rows[:, :, None] & columns[:, None, :]), "a rectangle"
    for side in (rows, columns):
        first = side.long().argmax(1)
        last = r - 1 - side.flip(1).long().argmax(1)
        assert torch.equal(side.sum(1), last - first + 1), "without gaps"
        cut_below = (first == 0) & (last < r // 2 - 1)
        middle = torch.where(cut_below, last + 1 - r // 4, first + r // 4)
        assert torch.equal(last, (middle + r // 4 - 1).clamp(max=r - 1))
        assert_even(middle, range(r + 1))


pyramid = test_batches.pyramid  # the fixture


@pytest.fixture
def feed(stream):
    """Makes a feed of the photos, augmented or not."""

    def make(augmented=True):
        return Feed(stream(), seed=3, z_dim=5, c_dim=2, augmented=augmented)

    return make


def test_feed_without_augmentation_is_as_ever(feed):
    """Reference: the same batches, bit for bit, except for the draws, which are missing."""
    for update in (lambda f: f.critic_batch(40, 8, 8), lambda f: f.generator_batch(40, 8, 8)):
        off, on = update(feed(False)), update(feed())
        for name, value in vars(off).items():
            if value is None:
                assert name.endswith("draws") or getattr(on, name) is None
            else:
                assert torch.equal(value, getattr(on, name)), name


def test_draws_never_meet(feed):
    """Reference: counting. Reals, fakes and the generator's fakes of neighbouring updates, at
    several batch sizes, have different draws; all are uniform in [0, 1)."""
    sets = []
    for nimg in range(20, 40):
        critic, generator = feed().critic_batch(nimg, 4, 8), feed().generator_batch(nimg, 4, 8)
        sets += [critic.real_draws, critic.fake_draws, generator.fake_draws]
    draws = torch.stack(sets)
    assert draws.shape == (60, 4, DRAWS) and draws.dtype == torch.float32
    assert len(draws.unique()) > 0.999 * draws.numel()
    assert draws.min() >= 0 and draws.max() < 1
    assert abs(draws.mean().item() - 0.5) < 5 / (12 * draws.numel()) ** 0.5
    again = feed().generator_batch(39, 4, 8).fake_draws
    assert torch.equal(again, draws[-1]), "a position is always the same"


# In the updates ---------------------------------------------------------------------------------


def augmented_batch(n=4, seed=0):
    batch = make_batch(n, seed=seed)
    return Batch(batch.z, None, batch.reals, batch.mix, make_draws(n, 11), make_draws(n, 12))


def critic_loss(G, D, batch, alpha, policy):
    """WGAN-GP's loss per image; everything that D receives went through `by_hand` first."""
    reals = augmented_by_hand(faded_reals(batch.reals, alpha), batch.real_draws, policy)
    fakes = G(batch.z, resolution=8, alpha=tensor(alpha))
    fakes = augmented_by_hand(fakes, batch.fake_draws, policy)
    u = batch.mix.reshape(-1, 1, 1, 1)
    at = ((1 - u) * reals + u * fakes).requires_grad_()
    (slope,) = torch.autograd.grad(D(at, tensor(alpha))[0].sum(), at, create_graph=True)
    penalty = (slope.square().sum(dim=(1, 2, 3)).sqrt() - 1) ** 2
    real, fake = D(reals, tensor(alpha))[0], D(fakes, tensor(alpha))[0]
    return fake - real + 10 * penalty + 0.001 * real**2


@pytest.mark.parametrize("policy", [("color",), ("translation", "cutout"), tuple(KINDS)])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_critics_update(policy, alpha):
    """Reference: the formula with images augmented by plain loops, and `backward`. Fails if the
    reals are augmented before their crossfade, the penalty sees others, or draws are swapped."""
    G, D = networks()
    batch = augmented_batch()
    loss = LossSettings(augment=policy)
    grads, stats = critic_gradients(G, D, active(D, alpha), batch, tensor(alpha), loss)
    total = critic_loss(G, D, batch, alpha, policy).mean()
    expected = torch.autograd.grad(total, active(D, alpha))
    torch.testing.assert_close(stats["Loss/D"], total.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(grads, list(expected), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("policy", [("color",), ("translation", "cutout"), tuple(KINDS)])
def test_generators_update(policy):
    """Reference: finite differences of the score of fakes augmented by plain loops: the gradient
    comes through the augmentation."""
    G, D = networks()
    batch = augmented_batch()
    parameters = active(G, None)
    loss = LossSettings(augment=policy)
    grads, stats = generator_gradients(G, D, parameters, batch, None, loss, 8)

    def evaluate():
        with torch.no_grad():
            fakes = augmented_by_hand(G(batch.z, resolution=8), batch.fake_draws, policy)
            return -D(fakes)[0].mean()

    torch.testing.assert_close(stats["Loss/G"], evaluate(), rtol=1e-10, atol=1e-10)
    for parameter, grad in zip(parameters, grads, strict=True):
        place = tuple(size // 2 for size in parameter.shape)
        expected = difference(evaluate, parameter, place)
        assert grad[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("update", [critic_gradients, generator_gradients])
def test_passes_equal_one(update):
    """Reference: all 8 images in one pass; each keeps its draws when the batch is split."""
    G, D = networks()
    batch = augmented_batch(8)
    network, more = (D, ()) if update is critic_gradients else (G, (8,))

    def gradients_of(part):
        loss = LossSettings(augment=tuple(KINDS))
        return update(G, D, active(network, None), part, None, loss, *more)

    grads, _ = accumulate(map(gradients_of, split(batch, 4)))
    expected, _ = gradients_of(batch)
    torch.testing.assert_close(grads, expected, rtol=1e-9, atol=1e-11)


def test_costs_are_counted():
    """Reference: the FLOPs without augmentation, which has no convolutions."""
    phase = a_phase(8, True, 0, 4, 4, None, 0.001)
    G, D = (network.float().to("meta") for network in networks())
    on, off = (
        work_per_image(G, D, LossSettings(augment=p), phase).gflops for p in (tuple(KINDS), ())
    )
    assert on == off > 0


# In a run ---------------------------------------------------------------------------------------


def test_an_augmented_run_resumes_exactly(photos, tmp_path, monkeypatch):
    """Reference: the augmented run in one go, bit for bit, after a stop in mid-fade. And the run
    without: other weights, the same pictures of the data and of the first fakes, which are never
    augmented."""
    whole, stopped, plain = tmp_path / "whole", tmp_path / "stopped", tmp_path / "plain"
    train(photos, whole, data__augment=ALL)
    stop_after(monkeypatch, 5)
    train(photos, stopped, data__augment=ALL)
    assert load_checkpoint(stopped)["progress"]["nimg"] == 40
    monkeypatch.undo()
    CliRunner().invoke(main, ["train", "--resume", str(stopped)], catch_exceptions=False)
    assert_identical(state(whole), state(stopped))
    assert statistics(stopped) == statistics(whole)
    assert images(stopped) == images(whole)

    train(photos, plain)
    assert not torch.equal(*(load_checkpoint(run)["G"]["image_layers.8.weight"]
                             for run in (whole, plain)))  # fmt: skip
    never = ["reals-0004.png", "reals-0008.png", "fakes-000000.000.png"]
    assert all(images(whole)[name] == images(plain)[name] for name in never)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_reaches_the_run(photos, tmp_path, kind):
    """Reference: the config's names are those of `KINDS`, and each trains to a finite loss, on grey
    images in bf16 as well."""
    train(photos, tmp_path, data__augment=f"[{kind}]", network__channels=1, run__precision="bf16")
    assert all(np.isfinite(line["Loss/D"]) for line in statistics(tmp_path))
    assert load_config(str(tmp_path / "config.yaml")).data.augment == [kind]


def test_it_may_not_change_on_resume(photos, tmp_path, any_end):
    """Reference: the key with both values in the message, and exit code 2."""
    train(photos, tmp_path, schedule__total_kimg=0.016, data__augment="[color]")
    arguments = ["train", "--resume", str(tmp_path), "-o", "data.augment=[]"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "data.augment: ['color'] -> []" in result.output


# In the config ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[color,translation]", ["color", "translation"]),
        ('["color"]', ["color"]),
        ("[cutout, color]", ["cutout", "color"]),
        ("[]", []),
    ],
)
def test_config(text, expected):
    """Reference: YAML's lists; nothing is augmented by default."""
    assert load_config(None, [f"data.augment={text}"]).data.augment == expected
    assert DataConfig().augment == []


@pytest.mark.parametrize(
    "text, path, rule",
    [
        ("[color, flip]", "data.augment[1]: 'flip'", "must be 'color', 'translation' or 'cutout'"),
        ("[color, color]", "data.augment: ['color', 'color']", "must name each kind once"),
        ("color", "data.augment: 'color'", "must be a valid list"),
        ("null", "data.augment: None", "must be a valid list"),
        ("[1]", "data.augment[0]: 1", "must be 'color', 'translation' or 'cutout'"),
    ],
)
def test_config_errors(text, path, rule):
    """Reference: the key, the value, what is allowed."""
    with pytest.raises(UserError) as error:
        load_config(None, [f"data.augment={text}"])
    message = str(error.value)
    assert path in message and message.endswith(rule)
    assert "any of [color, translation, cutout]" in message
