"""Metrics of images, compared with float64 NumPy and SciPy written separately."""

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.signal
import torch

from progan.config.metric_names import PROTOCOLS, STANDARD, canonical, named, parse, parse_list
from progan.metrics import swd
from progan.metrics.inception import FID_HELPER, TORCH_FIDELITY, Inception
from progan.metrics.measuring import measure
from progan.metrics.msssim import MSSSIM
from progan.metrics.swd import SWD, corners, laplacian_pyramid
from progan.runtime.errors import UserError
from progan.runtime.randomness import make_rng

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
PATCH, PATCHES, DIRECTIONS = 7, 128, 512


def pictures(count, size, channels=3, seed=0, roughness=1.0):
    """uint8 [count, C, size, size] with structure at all scales, so that every level has some."""
    draw = np.random.default_rng(seed)
    images = np.zeros((count, channels, size, size))
    for scale in (1, 4, 16):
        small = draw.normal(
            0, 30 * roughness if scale == 1 else 30, (count, 3, *2 * [size // scale])
        )
        images += small[:, :channels].repeat(scale, 2).repeat(scale, 3)
    images += draw.uniform(60, 200, (count, 1, 1, 1))
    return images.clip(0, 255).astype(np.uint8)


def batched(images, size):
    return [images[i : i + size] for i in range(0, len(images), size)]


def in_float64(metric, reals, fakes):
    """The metric without rounding, of images in batches."""
    for side, images in (("reals", reals), ("fakes", fakes)):
        for first in range(0, len(images), 4):
            metric.add(side, torch.from_numpy(images[first : first + 4].astype(float)), first)
    return metric.result()


# The reference of SWD.


def pyramid(images):
    """Laplacian levels of [N, C, r, r], finest first, in float64."""
    levels = [images.astype(float)]
    while levels[-1].shape[-1] > 16:
        coarse = convolved(levels[-1], BINOMIAL)[..., ::2, ::2]
        zeros = np.zeros_like(levels[-1])
        zeros[..., ::2, ::2] = coarse
        levels[-1] = levels[-1] - convolved(zeros, 4 * BINOMIAL)
        levels.append(coarse)
    return levels


def convolved(images, kernel):
    return scipy.ndimage.convolve(images, kernel[None, None], mode="mirror")


def places(index, sizes):
    """Upper left corners of one image's patches, drawn as in the code: one [P, 2] per level."""
    limits = np.array(sizes)[:, None, None] - 6
    return list(make_rng(0, "patches", index).integers(limits, size=(len(sizes), PATCHES, 2)))


def directions(size, channels):
    """Unit vectors [512, C * 49], drawn as in the code."""
    columns = make_rng(0, "directions", size).standard_normal((DIRECTIONS, channels * PATCH**2))
    return columns / np.sqrt((columns**2).sum(axis=1, keepdims=True))


def patches_of(images):
    """Patches of each level, [N * 128, C, 7, 7], by slicing."""
    levels = pyramid(images)
    sizes = [level.shape[-1] for level in levels]
    found = [[] for _ in levels]
    for i in range(len(images)):
        for level, corners_, some in zip(levels, places(i, sizes), found, strict=True):
            some += [level[i, :, y : y + PATCH, x : x + PATCH] for y, x in corners_]
    return dict(zip(sizes, map(np.array, found), strict=True))


def reference_swd(reals, fakes):
    """{size of a level: distance}."""
    sides = [patches_of(reals), patches_of(fakes)]
    distances = {}
    for size in sides[0]:
        ordered = []
        for side in sides:
            patches = side[size]
            patches = patches - patches.mean(axis=(0, 2, 3), keepdims=True)
            patches = patches / patches.std(axis=(0, 2, 3), keepdims=True)
            projected = patches.reshape(len(patches), -1) @ directions(size, patches.shape[1]).T
            ordered.append(np.sort(projected, axis=0))
        distances[size] = 1000 * np.abs(ordered[0] - ordered[1]).mean()
    return distances


def assert_swd(results, expected, tolerance):
    mean = np.mean(list(expected.values()))
    named_ = {"swd": mean} | {f"swd_at_{size}": value for size, value in expected.items()}
    assert results == pytest.approx(named_, rel=tolerance)


@pytest.fixture
def doubles(all_float64, monkeypatch):
    """Computes in float64: nothing is rounded to halves or singles."""
    monkeypatch.setattr(swd, "KEPT_AS", torch.float64)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SIZES = [(16, 3), (16, 1), (64, 3), (64, 1), (128, 3), (128, 1)]


@pytest.mark.parametrize("size, channels", SIZES)
def test_swd_by_its_formula(doubles, size, channels):
    """Reference: float64 NumPy and SciPy on the same patches and directions, every level and the
    mean; nothing in the code rounds here, so to a part in 10^9. At 128 patches are kept, below
    whole levels."""
    reals, fakes = pictures(6, size, channels), pictures(6, size, channels, seed=1, roughness=0.5)
    assert {64: 3, 16: 1, 128: 4}[size] == len(pyramid(reals))
    results = in_float64(SWD("swd", 6), reals, fakes)
    assert_swd(results, reference_swd(reals, fakes), 1e-9)


@pytest.mark.parametrize("size, channels", SIZES)
def test_swd_as_it_computes(size, channels):
    """Reference: as above. With half floats kept and singles computed it errs by at most 3e-5."""
    reals, fakes = pictures(6, size, channels), pictures(6, size, channels, seed=1, roughness=0.5)
    results = measure(SWD("swd", 6), [reals], [fakes])
    expected = reference_swd(reals, fakes)
    assert_swd(results, expected, 1e-4)


def test_kept_as_the_smaller():
    """Reference: the numbers of values: 128 patches of 7x7 are fewer than 128x128, not than
    64x64."""
    metric = SWD("swd", 2)
    metric.add("reals", torch.from_numpy(pictures(2, 128)), 0)
    kept = {side.size: side.kept for side in metric.sides["reals"]}
    assert kept[128].shape == (2, PATCHES, 3 * PATCH**2) and kept[64].shape == (2, 3, 64, 64)
    assert all(values.dtype == torch.half for values in kept.values())


@pytest.mark.parametrize("size, channels", [(16, 3), (32, 1), (128, 3)])
def test_pyramid(size, channels):
    """Reference: SciPy's, without grey; and what the levels were made of comes back as their sum,
    each enlarged between inserted zeros."""
    images = pictures(2, size, channels)
    levels = [level.numpy() for level in laplacian_pyramid(torch.from_numpy(images).float())]
    expected = pyramid(images)
    expected[-1] = expected[-1] - 128
    assert [level.shape for level in levels] == [level.shape for level in expected]
    for level, other in zip(levels, expected, strict=True):
        np.testing.assert_allclose(level, other, atol=1e-4)
    whole = levels[-1].astype(float)
    for level in levels[-2::-1]:
        zeros = np.zeros_like(level, float)
        zeros[..., ::2, ::2] = whole
        whole = level + convolved(zeros, 4 * BINOMIAL)
    np.testing.assert_allclose(whole + 128, images, atol=1e-4)


def test_corners_reach_every_place():
    """Reference: the 10 x 10 upper left corners that 7x7 patches of 16x16 have, each as often as
    any other (chi-square with 99 degrees of freedom: below 150); 58 x 58 of 64x64."""
    small, large = np.concatenate([corners(i, [16, 64]) for i in range(400)], axis=1)
    counts = np.bincount(small @ [10, 1], minlength=100)
    assert len(counts) == 100 and small.min() == 0 and small.max() == 9
    assert ((counts - 512) ** 2 / 512).sum() < 150
    assert large.min() == 0 and large.max() == 57


@pytest.mark.parametrize("size", [16, 64])
def test_results_are_of_images_not_of_batches(size):
    """Reference: one batch. Batches of any size, also of single images, and more images than
    needed, in arrays or tensors."""
    reals, fakes = pictures(14, size), pictures(14, size, seed=1)
    for metric, count, tolerance in ((SWD, 12, 1e-6), (MSSSIM, 6, 1e-5)):
        whole = measure(metric("m", count), [reals[:12]], [fakes[:12]])
        for parts in (1, 5, 14):
            tensors = [torch.from_numpy(batch) for batch in batched(fakes, parts)]
            found = measure(metric("m", count), batched(reals, 3), tensors)
            assert found == pytest.approx(whole, rel=tolerance)


def test_fewer_images_than_asked():
    """Reference: no value under a name that promises more images than were seen."""
    reals, fakes = pictures(6, 16), pictures(6, 16, seed=1)
    with pytest.raises(UserError, match="swd99 looks at 99 reals, and there are 6"):
        measure(SWD("swd99", 99), [reals], [fakes])
    with pytest.raises(UserError, match="msssim3 looks at 6 fakes, and there are 5"):
        measure(MSSSIM("msssim3", 3), [reals], [fakes[:5]])
    metric = SWD("m", 6)
    metric.add("reals", torch.from_numpy(reals[:5]), 0)
    metric.add("fakes", torch.from_numpy(fakes), 0)
    with pytest.raises(UserError, match="as many reals as fakes"):
        metric.result()


def test_swd_of_equal_sets():
    """Reference: 0, bit for bit; and in another order, with the same patches, the same distance."""
    reals, fakes = pictures(8, 64), pictures(8, 64, seed=1)
    assert set(measure(SWD("m", 8), [reals], [reals.copy()]).values()) == {0.0}
    expected = measure(SWD("m", 8), [reals], [fakes])
    other = SWD("m", 8)
    other.add("reals", torch.from_numpy(reals), 0)
    for first in (6, 2, 4, 0):
        other.add("fakes", torch.from_numpy(fakes[first : first + 2]), first)
    assert other.result() == pytest.approx(expected, rel=1e-6)


def test_swd_knows_what_is_worse():
    """Reference: the intended order: the same images in another order (which have other patches),
    other images of the same kind, blurred ones, noise; blur shows at the finest level first. With
    more images, other ones are nearer."""
    reals, others = pictures(64, 32), pictures(64, 32, seed=1)
    blurred = scipy.ndimage.gaussian_filter(others, (0, 0, 0.7, 0.7))
    noise = np.random.default_rng(0).integers(0, 256, others.shape, np.uint8)

    def distance(count, fakes):
        return measure(SWD("m", count), [reals[:count]], [fakes[:count]])

    floor, blur = distance(64, others), distance(64, blurred)
    assert 0 < 2 * distance(64, reals[::-1].copy())["m"] < floor["m"]
    assert 1.2 * floor["m"] < blur["m"] < 0.5 * distance(64, noise)["m"]
    assert blur["m_at_32"] > 2 * floor["m_at_32"]
    assert distance(8, others)["m"] > 1.5 * distance(32, others)["m"] > 1.2 * floor["m"]


@pytest.mark.parametrize("value", [0, 77, 255])
def test_swd_of_a_dead_generator(value):
    """Reference: an image of one colour is 0 once its mean is taken off, so the distance is the
    mean of |projections| of the reals; no number is lost to a division by a deviation of 0."""
    reals = pictures(4, 32)
    results = measure(SWD("m", 4), [reals], [np.full_like(reals, value)])
    for size, patches in patches_of(reals).items():
        patches = (patches - patches.mean((0, 2, 3), keepdims=True)) / patches.std(
            (0, 2, 3), keepdims=True
        )
        projected = patches.reshape(len(patches), -1) @ directions(size, 3).T
        assert results[f"m_at_{size}"] == pytest.approx(1000 * np.abs(projected).mean(), rel=1e-3)


def reference_ms_ssim(a, b):
    """MS-SSIM of two images [C, r, r], in the official code's order, in float64."""
    a, b, product = a.astype(float), b.astype(float), 1.0
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for scale, weight in enumerate(weights):
        size = min(11, a.shape[-1])
        places_ = np.arange(size) - (size - 1) / 2
        line = np.exp(-(places_**2) / (2 * (1.5 * size / 11) ** 2))
        window = np.outer(line, line)[None] / line.sum() ** 2

        def blur(x, window=window):
            return scipy.signal.convolve(x, window, mode="valid")

        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
        both = blur(a * b) - mean_a * mean_b
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        similarity = (2 * both + c2) / (var_a + var_b + c2)
        if scale == len(weights) - 1:
            similarity *= (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        product *= max(similarity.mean(), 0) ** weight
        box = np.full((1, 2, 2), 0.25)
        a, b = (scipy.ndimage.convolve(x, box, mode="reflect")[:, ::2, ::2] for x in (a, b))
    return product


def similar_and_not(size, channels):
    """Images whose pairs have little in common, and others whose pairs have much."""
    images = pictures(4, size, channels)
    near = (images[::2] * 0.6 + 0.4 * images[1::2]).astype(np.uint8)
    fakes = np.stack([images[::2], near], axis=1).reshape(images.shape)
    expected = {}
    for name, some in (("m", fakes), ("m_reals", images)):
        values = [reference_ms_ssim(a, b) for a, b in zip(some[::2], some[1::2], strict=True)]
        expected[name] = np.mean(values)
    assert expected["m_reals"] < 0.4 < 0.6 < expected["m"] < 0.99
    return images, fakes, expected


@pytest.mark.parametrize("size", [16, 32, 128, 256])
@pytest.mark.parametrize("channels", [3, 1])
def test_ms_ssim_by_its_formula(doubles, size, channels):
    """Reference: SciPy's convolutions in float64, as the official code has them; nothing in the
    code rounds here, so to a part in 10^9."""
    images, fakes, expected = similar_and_not(size, channels)
    results = in_float64(MSSSIM("m", 2), images, fakes)
    assert results == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size, channels", [(16, 3), (64, 1), (128, 3)])
def test_ms_ssim_as_it_computes(size, channels):
    """Reference: as above. Singles err by a few millionths."""
    images, fakes, expected = similar_and_not(size, channels)
    assert measure(MSSSIM("m", 2), [images], [fakes]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [16, 64])
def test_ms_ssim_at_its_ends(size):
    """Reference: 1 for equal images, also of one colour; 0, not NaN, for an image and its
    negative, whose similarity is negative."""
    images = pictures(2, size)
    flat = np.full_like(images[[0, 0, 1, 1]], 255)
    twice, negative = images[[0, 0, 1, 1]], np.concatenate([images[:1], 255 - images[:1]])
    assert measure(MSSSIM("m", 2), [flat], [twice]) == pytest.approx({"m": 1, "m_reals": 1})
    assert measure(MSSSIM("m", 1), [negative], [negative]) == {"m": 0, "m_reals": 0}


# Metrics of features, which torch-fidelity computes: of clouds whose answers are known.


@pytest.fixture(scope="module")
def fidelity():
    return pytest.importorskip("torch_fidelity")


def cloud(count, width, seed):
    """float32 [count, width], correlated, not about 0, like features."""
    draw = np.random.default_rng(seed)
    mixing = np.random.default_rng(seed + 100).normal(0, 0.3, (width, width))
    return torch.from_numpy(draw.normal(0, 1, (count, width)) @ mixing + 0.4).float()


def moments(features, size=97):
    from progan.metrics.fid import Moments

    collected = Moments()
    for part in features.split(size):
        collected.add(part)
    return collected


def test_moments_of_batches():
    """Reference: numpy.mean and numpy.cov of all in float64."""
    features = cloud(500, 12, 0)
    statistics = moments(features).statistics()
    whole = features.double().numpy()
    np.testing.assert_allclose(statistics["mu"], whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics["sigma"], np.cov(whole, rowvar=False), atol=1e-12)


def test_fid_by_its_formula(fidelity):
    """Reference: |m|² + tr(A + B - 2 (AB)^½), with SciPy's matrix root. A set and itself: 0, also
    with fewer images than features, where the covariance has no root that is certain."""
    from progan.metrics.fid import frechet_distance

    reals, fakes = cloud(400, 12, 0), cloud(300, 12, 1)
    a, b = (np.cov(x.double().numpy(), rowvar=False) for x in (reals, fakes))
    shift = (reals.double().mean(dim=0) - fakes.double().mean(dim=0)).numpy()
    root = scipy.linalg.sqrtm(a @ b)
    expected = shift @ shift + np.trace(a + b - 2 * root.real)
    assert frechet_distance(moments(reals), moments(fakes)) == pytest.approx(expected, rel=1e-8)
    for features in (reals, cloud(50, 200, 2)):
        assert abs(frechet_distance(moments(features), moments(features, 10))) < 1e-3


def test_kid_by_its_formula(fidelity):
    """Reference: the unbiased estimator written out, in float64. With as many images as a subset
    takes every subset is the whole set, without a deviation; with fewer than 1000 images there are,
    all of these."""
    from progan.metrics.kid import kernel_distance

    reals, fakes = cloud(60, 24, 0), cloud(60, 24, 1)

    def kernel(x, y):
        return (x.double().numpy() @ y.double().numpy().T / 24 + 1) ** 3

    def others(k):
        return (k.sum() - np.trace(k)) / (60 * 59)

    expected = others(kernel(reals, reals)) + others(kernel(fakes, fakes))
    expected -= 2 * kernel(reals, fakes).mean()
    mean, deviation = kernel_distance(reals, fakes)
    assert mean == pytest.approx(expected, rel=1e-5)
    assert deviation is None


def test_kid_takes_100_subsets_of_1000(fidelity, monkeypatch):
    """Reference: the protocol's numbers, counted where the library computes one subset."""
    from torch_fidelity import metric_kid

    from progan.metrics.kid import kernel_distance

    shapes = []
    monkeypatch.setattr(metric_kid, "kernel_mmd", lambda a, b, **_: shapes.append(a.shape) or 0.0)
    kernel_distance(cloud(1500, 4, 0), cloud(1200, 4, 1))
    assert shapes == [(1000, 4)] * 100


def test_inception_score_by_its_formula(fidelity):
    """Reference: exp of the mean divergence from the split's mean, in 10 splits of the library's
    own order (its seed is 2020), by hand. All classes alike: 1; each split sees all of 8: 8."""
    from progan.metrics.inception_score import score

    scores = 3 * cloud(205, 16, 0)
    ordered = scores.double().numpy()[np.random.RandomState(2020).permutation(205)]
    p = np.exp(ordered) / np.exp(ordered).sum(axis=1, keepdims=True)
    splits = [p[i * 205 // 10 : (i + 1) * 205 // 10] for i in range(10)]
    values = [np.exp((s * np.log(s / s.mean(axis=0))).sum(axis=1).mean()) for s in splits]
    assert score(scores) == pytest.approx((np.mean(values), np.std(values)), rel=1e-9)
    assert score(torch.ones(50, 8)) == pytest.approx((1, 0))
    certain = 50 * torch.eye(8)[torch.arange(8000) % 8]
    assert score(certain)[0] == pytest.approx(8, rel=0.01)


def test_precision_and_recall_by_brute_force(fidelity):
    """Reference: every distance, and a sort: a fake counts that lies no farther from some real than
    this one's third neighbour; and the other way round."""
    from progan.metrics.precision_recall import precision_recall

    draw = np.random.default_rng(0)
    reals, fakes = draw.normal(0, 1, (90, 2)), draw.normal([1.2, 0], 0.4, (70, 2))

    def covered(points, by):
        own = np.linalg.norm(by[:, None] - by[None], axis=2)
        radii = np.sort(own, axis=1)[:, 3]
        return (np.linalg.norm(points[:, None] - by[None], axis=2) <= radii).any(axis=1).mean()

    found = precision_recall(torch.from_numpy(reals).float(), torch.from_numpy(fakes).float())
    assert found == pytest.approx((covered(fakes, reals), covered(reals, fakes)))
    assert found[0] > 0.8 > 0.6 > found[1] > 0.1
    with pytest.raises(UserError, match="more than 3"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))


# Inception.


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("kind", ["pickle", "torch", "empty"])
def test_unknown_weights_are_not_loaded(fidelity, tmp_path, kind):
    """Reference: a pickle that makes a file when it is loaded, tried first; the message names the
    checksums of what would be taken."""
    marker, file = tmp_path / "marker", tmp_path / "weights.pth"
    content = pickle.dumps(Payload(marker))
    pickle.loads(content).close()
    marker.unlink()
    if kind == "torch":
        torch.save(Payload(marker), file)
    else:
        file.write_bytes(content if kind == "pickle" else b"")
    with pytest.raises(UserError, match="is not the Inception-v3") as error:
        Inception(file, "cpu")
    assert not marker.exists()
    assert TORCH_FIDELITY in str(error.value) and FID_HELPER in str(error.value)
    assert str(file) in str(error.value)


def test_weights_that_are_no_file(fidelity):
    """Reference: the reason, at once: a device, named by a received config, never ends."""
    with pytest.raises(UserError, match="cannot read /dev/zero, .*it is no file"):
        Inception(Path("/dev/zero"), "cpu")


def test_without_the_library(monkeypatch):
    """Reference: the command that the user must type."""
    for name in ["torch_fidelity", *sys.modules]:
        if name.partition(".")[0] == "torch_fidelity":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install '\.\[metrics\]'"):
        Inception(None, "cpu")


def test_a_failed_download(fidelity, tmp_path, monkeypatch):
    """Reference: the remedy in the message. Nothing is fetched."""

    def fail(url, path, **_):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with pytest.raises(UserError, match="--inception FILE") as error:
        Inception(None, "cpu")
    assert "no route to host" in str(error.value)


def test_class_scores_are_refused_where_there_are_none():
    """Reference: the weights that have no dense layer; the message says what to leave out."""
    from progan.metrics.inception_score import InceptionScore

    with pytest.raises(UserError, match="leave is50k out"):
        InceptionScore("is50k", 50000, SimpleNamespace(has_scores=False))


def test_room_is_taken_as_it_is_filled():
    """Reference: the process's own memory, with room for 16,384 images of 128x128, 1.6 GB, of which
    each of several processes fills a part. run.deterministic has torch fill all memory at once."""
    code = (
        "import torch, psutil\n"
        "from progan.metrics.swd import Patches, corners\n"
        "torch.use_deterministic_algorithms(True)\n"
        "before = psutil.Process().memory_info().rss\n"
        "patches = Patches(16384)\n"
        "patches.add(torch.zeros(1, 3, 128, 128), torch.from_numpy(corners(0, [128])))\n"
        "print(psutil.Process().memory_info().rss - before)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(result.stdout) < 2e8, result.stderr


def test_features_are_computed_once_a_batch():
    """Reference: calls of the network, counted: one for three metrics of a batch, the next for the
    next, also where it has the same content. Grey images have three equal channels. GPUs compute
    in whole singles, not in torch's default, tf32."""
    seen = []

    def network(images):
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        seen.append(images)
        return images.float().mean(dim=(2, 3)), images.float().amax(dim=(2, 3))

    inception = Inception.__new__(Inception)
    inception.network, inception.last = network, (None, ())
    first, second = torch.from_numpy(pictures(2, 16, 1)), torch.from_numpy(pictures(2, 16, 1))
    answers = [inception(images) for images in (first, first, first, second)]
    assert len(seen) == 2 and all(answer is answers[0] for answer in answers[:3])
    assert seen[0].shape == (2, 3, 16, 16) and torch.equal(seen[0][:, 0], seen[0][:, 2])
    assert torch.equal(answers[3][1], second.float().amax(dim=(2, 3)).expand(2, 3))


WEIGHTS = os.environ.get("PROGAN_INCEPTION", "")
with_weights = pytest.mark.skipif(not WEIGHTS, reason="PROGAN_INCEPTION names no file of weights")


@pytest.fixture(scope="module")
def inception(fidelity):
    return Inception(Path(WEIGHTS), "cpu")


@pytest.mark.slow
@with_weights
def test_translated_weights_are_the_same_network(inception):
    """Reference: the TorchScript module of the file itself, which takes (x - 128) / 128, on images
    that need no resizing: another program's network, converted from TensorFlow by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        script = torch.jit.load(WEIGHTS, map_location="cpu")
    images = torch.from_numpy(pictures(4, 320)[..., :299, :299].copy())
    features = inception(images)[0]
    with torch.no_grad():
        expected = script((images.float() - 128) / 128)
    assert features.shape == (4, 2048) and expected.std() > 0.1
    torch.testing.assert_close(features, expected.reshape(4, 2048), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@with_weights
def test_fid_of_a_set_with_itself(inception):
    """Reference: 0 to 10^-3, of fewer images than features, in batches of different sizes; of
    noise, the known answer of any user: far more than 100."""
    from progan.metrics.fid import FID

    images = pictures(24, 32)
    results = measure(FID("fid", 24, inception), batched(images, 8), batched(images, 6))
    assert abs(results["fid"]) < 1e-3
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    assert measure(FID("fid", 24, inception), [images], [noise])["fid"] > 100


@pytest.mark.slow
@with_weights
def test_weights_without_scores_refuse_the_inception_score(inception):
    """Reference: what the file lacks."""
    from progan.metrics.inception_score import InceptionScore

    assert inception.digest == FID_HELPER and not inception.has_scores
    with pytest.raises(UserError, match="class scores"):
        InceptionScore("is50k", 50000, inception)


# Names.


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_names_of_protocols(kind):
    """Reference: the standard's number of images, by its short and its whole name; others have
    their number in the name, and a name always means the same."""
    protocol = PROTOCOLS[kind]
    numbers = {"swd": 16384, "msssim": 10000}
    assert protocol.count == numbers.get(kind, 50000)
    assert parse(kind) == parse(protocol.standard) == (kind, protocol.count)
    assert parse(f"{kind}2000") == (kind, 2000)
    assert named(kind, 2000) == f"{kind}2000"
    assert named(kind, protocol.count) == protocol.standard
    assert parse(f"{kind}{protocol.count}") == (kind, protocol.count)
    assert parse(f"{kind}10") == (kind, 10) and parse(f"{kind}1000000") == (kind, 1000000)


@pytest.mark.parametrize(
    "name, hint",
    [
        ("swd4m", "did you mean 'swd16k'"),
        ("kid50k_full", "did you mean 'kid50k'"),  # which takes 50,000 reals here
        ("swd5", "10 to 1,000,000"),
        ("swd1000001", "10 to 1,000,000"),
        ("fidd50k", "did you mean 'fid50k'"),
        ("msim", "did you mean 'msssim10k'"),
        ("", "known: swd16k, msssim10k, fid50k, kid50k, is50k, pr50k"),
        ("swd-20", "'swd-20' is no metric"),
        ("fid0k", "10 to 1,000,000"),
        ("swd²⁰", "is no metric"),
    ],
)
def test_what_names_no_protocol(name, hint):
    """Reference: the value, what is known, and the nearest."""
    with pytest.raises(ValueError) as error:
        parse(name)
    assert hint in str(error.value) and "swd2000" in str(error.value)
    with pytest.raises(UserError, match="--metrics"):
        parse_list(f"swd,{name or ','}", None)


@pytest.mark.parametrize(
    "written, name",
    [
        *[("swd2k", "swd2000"), ("fid10k", "fid10000"), ("kid5k", "kid5000"), ("SWD", "swd16k")],
        *[("FID50k", "fid50k"), ("FID-50K", "fid50k"), ("fid50k_full", "fid50k")],
        *[("fid2000_full", "fid2000"), ("pr50k3", "pr50k"), ("MS-SSIM", "msssim10k")],
        *[("swd-16k", "swd16k"), ("swd16000", "swd16000"), ("is50K", "is50k")],
    ],
)
def test_names_as_papers_write_them(written, name):
    """Reference: written out. Records have one name of each, also where they have another."""
    assert named(*parse(written)) == canonical(written) == name
    assert parse_list(f"{name},{written}", None) == [name]


def test_lists_of_names():
    """Reference: written out: each once, in order; --num is for all of them."""
    assert parse_list("swd, msssim10k,swd16k ,fid50", None) == ["swd16k", "msssim10k", "fid50"]
    assert parse_list("swd,fid50k,swd99", 2000) == ["swd2000", "fid2000"]
    assert parse_list("swd,fid", 16384) == ["swd16k", "fid16384"]
    assert set(STANDARD) == set(parse_list(",".join(STANDARD), None))
