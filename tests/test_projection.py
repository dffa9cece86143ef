"""Projection: latents are found for images, images are read as in training, results are written."""

import hashlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from progan.cli.main import main
from progan.config.load import load_config
from progan.data.labels import Labels
from progan.model.networks import Critic, Generator
from progan.model.sampling import in_batches
from progan.outputs import lpips as lpips_file
from progan.outputs import projection
from progan.outputs.distances import critic, features, lpips, pixels
from progan.outputs.projection import project, psnr
from progan.outputs.projection_files import moments
from progan.outputs.targets import read_small, read_target
from progan.runs.checkpoint import Checkpoint, Progress
from progan.runs.critic import load_critic
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot
from progan.runtime.errors import UserError

SETTINGS = ["network.resolution=32", "network.z_dim=8", "network.channel_base=128"]
SETTINGS += ["network.channel_max=8", "schedule.stable_kimg=1", "schedule.fade_kimg=1"]
CPU = torch.device("cpu")
CLASSES = Labels.each_class(("cat", "dog", "owl"))
ATTRIBUTES = Labels(("Smiling", "Male"), np.array([[1, 0], [0, 1]], np.uint8))


def make(folder, labels=None, alpha=None, **settings) -> Snapshot:
    """A snapshot of random weights in a run's folder, as it is read."""
    torch.manual_seed(0)
    more = [f"{name.replace('__', '.')}={value}" for name, value in settings.items()]
    config = load_config(None, [*SETTINGS, *more])
    G = Generator(**config.network.generator_settings(), c_dim=len(labels.names) if labels else 0)
    path = folder / "run" / "snapshots" / "snapshot-000012.000.safetensors"
    save_snapshot(Snapshot(path, G, config, 12_000, 32, alpha, labels))
    return load_snapshot(path)


def add_checkpoint(snapshot: Snapshot) -> Critic:
    """A checkpoint of the snapshot's run; returns the critic in it."""
    network = snapshot.config.network
    D = Critic(**network.critic_settings(), c_dim=snapshot.G.c_dim)
    parts = {"G": snapshot.G, "D": D, "G_ema": snapshot.G, "progress": Progress(12_000, 12)}
    Checkpoint(snapshot.file.parent.parent, snapshot.config, **parts).save(12_000, keep=2)
    return D


def sample(snapshot: Snapshot, seed: int, **more) -> np.ndarray:
    return snapshot.sample([seed], **more)[0].transpose(2, 0, 1)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["project", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    monkeypatch.setattr(projection, "CANDIDATES", 16)
    monkeypatch.setattr(projection, "EACH_CLASS", 2)


@pytest.mark.parametrize(
    ("labels", "alpha", "which"),
    [(None, None, None), (CLASSES, 0.75, "owl"), (ATTRIBUTES, None, "Male")],
    ids=["plain", "class, fading", "attributes"],
)
def test_an_own_sample_is_found(tmp_path, labels, alpha, which):
    """Reference: the sample itself, of a seed that is not among those tried, and its label, of all
    that are."""
    snapshot = make(tmp_path, labels, alpha)
    target = sample(snapshot, 9_000, classes=which)
    found = project(snapshot, pixels(target, CPU), steps=80, starts=6)
    assert psnr(found.images_of_way(snapshot, [0]), target)[0] < 25
    assert psnr(found.images(snapshot), target)[0] > 30
    assert list(found.losses) == sorted(found.losses)
    torch.testing.assert_close(found.z.square().mean(1), torch.ones(6))
    if labels:
        assert np.array_equal(found.labels[0], snapshot.labels_of([0], which)[0])


def test_a_sample_of_a_seed_that_is_tried_is_found_at_once(tmp_path):
    """Reference: the seed; its image is equal before the first step: z's length means nothing."""
    snapshot = make(tmp_path)
    target = sample(snapshot, 21)
    found = project(snapshot, pixels(target, CPU), steps=1, starts=2)
    assert found.seeds[0] == 21
    assert psnr(found.images(snapshot), target)[0] > 60


def test_steps_of_one_start_do_not_depend_on_the_others(tmp_path):
    """Reference: the same start on its own, up to rounding, which Adam's first steps enlarge."""
    snapshot = make(tmp_path)
    distance = pixels(noise(3, 32, 32), CPU)
    alone = project(snapshot, distance, steps=5, starts=1)
    both = project(snapshot, distance, steps=5, starts=2)
    i = both.seeds.tolist().index(alone.seeds[0])
    torch.testing.assert_close(both.way[:, i], alone.way[:, 0], rtol=0, atol=0.01)


def test_the_first_latent_that_is_near_enough_counts(tmp_path):
    """Reference: the distances on the way, one by one. A start that comes not so near has the
    nearest."""
    snapshot = make(tmp_path)
    distance = pixels(sample(snapshot, 9_000)[:, ::8, ::8], CPU)
    every = project(snapshot, distance, steps=20, starts=3)
    enough = float(np.sort(every.losses)[1]) * 1.5
    found = project(snapshot, distance, steps=20, starts=3, enough=enough)
    for i, seed in enumerate(found.seeds):
        where = every.seeds.tolist().index(seed)
        on_way = [distance(snapshot.generator(z[None])).item() for z in every.way[:, where]]
        first = next((k for k, loss in enumerate(on_way) if loss <= enough), np.argmin(on_way))
        assert found.steps[i] == first
        assert np.isclose(found.losses[i], on_way[first], rtol=1e-3)
        assert torch.equal(found.z[i], found.way[first, i])


def test_diverged_weights_are_refused(tmp_path):
    """Reference: a generator whose images are NaN."""
    snapshot = make(tmp_path)
    snapshot.G.image_layers["32"].bias.data.fill_(torch.nan)
    with pytest.raises(UserError, match="NaN.*take an earlier snapshot"):
        project(snapshot, pixels(noise(3, 32, 32), CPU), steps=1, starts=1)


def test_pixels():
    """Reference: the mean square written out. Beyond white is white, below black is black; and of
    larger images, box averages count."""
    target = np.array([[[255, 0], [51, 204]]], np.uint8)  # 1, -1, -0.6, 0.6
    images = torch.tensor([[[[1.5, -1.2], [-0.6, 0.6]]], [[[0.8, -1.0], [-0.2, 0.6]]]])
    right = torch.tensor([0.0, (0.2**2 + 0.4**2) / 4])
    torch.testing.assert_close(pixels(target, CPU)(images), right)
    spread = torch.tensor([[0.1, -0.1], [-0.1, 0.1]]).repeat(2, 2)
    larger = images.repeat_interleave(2, 2).repeat_interleave(2, 3) + spread
    torch.testing.assert_close(pixels(target, CPU)(larger), right)


def test_psnr():
    """Reference: 10 log10(255² / mean square), written out; an equal image has no noise."""
    target = np.full((3, 4, 4), 100, np.uint8)
    images = np.stack([target, target + 5, target.repeat(1, 0)])
    images[2, 0, 0, 0] += 48
    assert psnr(images, target).round(6).tolist() == [
        np.inf,
        *np.round(10 * np.log10(255**2 / np.array([25, 48**2 / 48])), 6),
    ]


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_critic_features(alpha):
    """Reference: the critic's own blocks, one after another, in float64 arithmetic of the formula;
    an image's distance does not depend on the others, though minibatch stddev does."""
    torch.manual_seed(0)
    D = Critic(16, channel_base=64, channel_max=8)
    target = noise(3, 16, 16)
    images = torch.randn(5, 3, 16, 16)
    distance = critic(target, D, alpha)

    def inputs(x):
        below = D.seen(nn.functional.avg_pool2d(x, 2))
        first, second = D.seen(x), D.blocks["16"](D.seen(x))
        second = second if alpha is None else below + alpha * (second - below)
        return first, second, D.blocks["8"](second)

    right = torch.from_numpy(target).float()[None] / 127.5 - 1
    layers = zip(inputs(images), inputs(right), strict=True)
    shares = [(a - b).square().flatten(1).mean(1) / b.square().mean() for a, b in layers]
    torch.testing.assert_close(distance(images), torch.stack(shares).mean(0))
    torch.testing.assert_close(distance(images[2:3]), distance(images)[2:3])
    assert distance(right).item() == 0
    assert [f.shape[-1] for f in features(D, images, None)] == [16, 8, 4]


def test_load_critic(tmp_path):
    """Reference: the critic that was saved. A damaged file is passed over; other networks and a
    snapshot without its run are refused."""
    snapshot = make(tmp_path)
    with pytest.raises(UserError, match="--loss critic needs the critic.*there is none"):
        load_critic(snapshot, "--loss critic")
    D = add_checkpoint(snapshot)
    (tmp_path / "run" / "checkpoints" / "checkpoint-000013.000.pt").write_bytes(b"no zip")
    found, nimg = load_critic(snapshot, "")
    assert nimg == 12_000
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), D.parameters(), strict=True))
    assert not any(p.requires_grad for p in found.parameters())
    network = snapshot.config.network.model_copy(update={"z_dim": 9})
    other = replace(snapshot, config=snapshot.config.model_copy(update={"network": network}))
    with pytest.raises(UserError, match="no zip|not a zip.*of another network"):
        load_critic(other, "--loss critic")


def test_targets_are_read_as_training_reads_them(tmp_path):
    """Reference: the centre of the image, and the crop of the settings; an image of the generator's
    own size whole."""
    pixels = noise(40, 64, 3)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels[:32, :32]).save(tmp_path / "own.png")
    box = make(tmp_path, data__fit="[3,5,32]")
    assert np.array_equal(
        read_target(tmp_path / "own.png", box), pixels[:32, :32].transpose(2, 0, 1)
    )
    cut = pixels[5:37, 3:35].transpose(2, 0, 1)
    assert np.array_equal(read_target(tmp_path / "wide.png", box), cut)
    grey = make(tmp_path, network__channels=1)
    assert read_target(tmp_path / "wide.png", grey).shape == (1, 32, 32)


def test_small_images_are_read_in_their_own_size(tmp_path):
    """Reference: the pixels themselves, of a centre square."""
    pixels = noise(8, 12, 3)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    small = read_small(tmp_path / "small.png", make(tmp_path))
    assert np.array_equal(small, pixels[:, 2:10].transpose(2, 0, 1))


def test_moments():
    """Reference: the lists written out; every step at most once, the last among them."""
    assert moments(0, 5) == [0]
    assert moments(1, 5) == [0, 1]
    assert moments(4, 5) == [0, 3, 4]
    assert moments(300, 3) == [0, 3, 30, 300]


def test_command(tmp_path, monkeypatch):
    """Reference: the files; images made again from the latents that were saved; words when they are
    replaced. No file has a path in it."""
    monkeypatch.chdir(tmp_path)
    snapshot = make(tmp_path, CLASSES)
    add_checkpoint(snapshot)
    for name in ("a", "b"):
        Image.fromarray(noise(50, 40, 3)).save(f"{name}.png")
    printed = run("run", "a.png", "b.png", "--steps", 4, "--loss", "critic", "--class", "dog")
    assert "a.png -> a-result.png: PSNR " in printed and ", class dog" in printed
    out = tmp_path / "projections-of-run"
    kinds = ["latents.npz", "projected.png", "result.png", "way.webp"]
    assert [f.name for f in sorted(out.iterdir())] == [f"{n}-{k}" for n in "ab" for k in kinds]
    with np.load(out / "a-latents.npz") as saved:
        assert {key: saved[key].shape for key in saved} == {
            **{"z": (1, 8), "c": (1, 3), "loss": (1,), "psnr": (1,)},
        }
        images = in_batches(
            snapshot.G, torch.from_numpy(saved["z"]), saved["c"].argmax(1), 32, None
        )
    with Image.open(out / "a-result.png") as result:
        assert np.array_equal(np.asarray(result), images[0].transpose(1, 2, 0))
        assert "trainedAlgorithmicMedia" in result.info["XML:com.adobe.xmp"]
    with Image.open(out / "a-way.webp") as way:
        assert way.n_frames > 1 and way.size == (2 * 128 + 4, 128)
        assert b"compositeWithTrainedAlgorithmicMedia" in way.info["xmp"]
    assert not any(str(tmp_path).encode() in f.read_bytes() for f in out.iterdir())
    printed = run("run@newest", "--from", small(tmp_path), "--num", 3, "--steps", 2, "--out", out)
    assert printed.count("PSNR") == 3 and " dB at 8x8, " in printed and "replaced" not in printed
    assert (out / "small-result-3.png").exists()
    printed = run("run", "a.png", "--steps", 1)
    assert "(4 files replaced)" in printed


def small(folder):
    """An 8x8 image."""
    Image.fromarray(noise(8, 8, 3)).save(folder / "small.png")
    return folder / "small.png"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.png", "--class", "cat"], "trained without labels"),
        ([], "give images to find, or one small image by --from: progan project RUN photo.jpg"),
        (["photo.png", "--from", "small.png"], "not both"),
        (["missing.png"], "missing.png cannot be read: No such file"),
        (["."], "is a folder; give image files"),
        (["text.png"], "text.png cannot be projected: not an image"),
        (["small.png"], "8x8 is too small for resolution 32; give an image of 32x32 or more"),
        (["--from", "photo.png"], "is 40 pixels wide"),
        (["--from", "odd.png"], "odd.png is 9 pixels wide, and images of 32x32 are averaged over"),
        (["--from", "small.png", "--loss", "critic"], "cannot be used with --from"),
        (["photo.png", "--lpips", "x"], "--lpips x is for --loss lpips, and the loss is pixels"),
        (["photo.png", "--loss", "critic"], "needs the critic"),
        (["photo.png", "--loss", "lpips", "--lpips", "text.png"], "is not the VGG-16"),
        (["photo.png", "--loss", "lpips", "--lpips", "no.pth"], "cannot read no.pth"),
        (["photo.png", "--out", "text.png"], "--out text.png is a file; give a folder"),
        (["photo.png", "--steps", "0"], "0 is not in the range"),
    ],
)
def test_mistakes_are_explained(tmp_path, monkeypatch, arguments, words):
    """Reference: exit code 2, the words, and nothing written."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    small(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(noise(9, 9, 3)).save("odd.png")
    Image.fromarray(noise(40, 48, 3)).save("photo.png")
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(main, ["project", "run", *arguments], catch_exceptions=False)
    assert result.exit_code == 2
    assert words in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_lpips_without_its_library(monkeypatch):
    """Reference: the message names the extra."""
    monkeypatch.setitem(sys.modules, "torchmetrics.image", None)
    with pytest.raises(UserError, match="pip install .*lpips"):
        lpips_file.load_lpips(None, CPU)


def test_lpips_loads_the_file_that_it_is_given(tmp_path, monkeypatch):
    """Reference: the library finds the file where torch keeps downloads, which is as before
    afterwards. An image has no distance from itself; grey and large images are taken."""
    given = tmp_path / "any.pth"
    given.write_bytes(b"weights")
    before = torch.hub.get_dir()

    class Metric:
        def __init__(self, net_type, reduction):
            place = lpips_file.place(lpips_file.URL)
            assert place.read_bytes() == b"weights"
            self.net = Squares()

    class Squares(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 3, 1)

        def forward(self, a, b):
            assert a.shape == b.shape and a.shape[1:] == (3, 256, 256)
            return (a - b).square().mean((1, 2, 3), keepdim=True)

    library = SimpleNamespace(LearnedPerceptualImagePatchSimilarity=Metric)
    monkeypatch.setattr(lpips_file, "library", lambda: library)
    monkeypatch.setattr(lpips_file, "SHA256", hashlib.sha256(b"weights").hexdigest())
    network = lpips_file.load_lpips(given, CPU)
    assert torch.hub.get_dir() == before
    target = noise(1, 512, 512)
    images = torch.from_numpy(target)[None].float() / 127.5 - 1
    assert lpips(target, network)(images.repeat(2, 1, 1, 1)).tolist() == [0, 0]


@pytest.mark.slow
def test_lpips_has_gradients_where_features_are_zero(tmp_path, monkeypatch):
    """Reference: the real library with random weights, on a flat image, whose features are zero in
    places: gradients are finite, and the distance is zero for the image itself only."""
    import torchvision

    torch.manual_seed(0)
    file = tmp_path / "vgg.pth"
    torch.save(torchvision.models.vgg16().state_dict(), file)
    with open(file, "rb") as opened:
        monkeypatch.setattr(lpips_file, "SHA256", hashlib.file_digest(opened, "sha256").hexdigest())
    network = lpips_file.load_lpips(file, CPU)
    distance = lpips(np.zeros((3, 32, 32), np.uint8), network)
    images = torch.stack([torch.full((3, 32, 32), -1.0), torch.randn(3, 32, 32)]).requires_grad_()
    found = distance(images)
    (gradient,) = torch.autograd.grad(found.sum(), images)
    assert gradient.isfinite().all()
    assert found[0] == 0 and found[1] > 0
