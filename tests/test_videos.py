"""Looping walks, timelapses of training, and the files that they are written to."""

import base64
import math
import sys
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from browser import CHROMIUM, needs_chromium
from click.testing import CliRunner
from conftest import TINY
from PIL import Image, ImageSequence
from scipy.ndimage import gaussian_filter1d
from test_sampling import make_snapshot

from progan.cli.main import main
from progan.config.load import load_config
from progan.data.labels import Labels
from progan.model.grid import grid, save_picture
from progan.model.networks import Generator
from progan.model.sampling import generate, grid_layout, latents
from progan.outputs import video_file
from progan.outputs.timelapse import Moment, lengths, write_timelapse
from progan.outputs.video_file import SUFFIXES, write_video
from progan.outputs.walks import from_seed_to_seed, smoothed_noise, write_walk
from progan.runs.folder import write_config
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot, snapshot_path
from progan.runtime.errors import UserError
from progan.runtime.pictures import captions
from progan.runtime.provenance import Provenance
from progan.runtime.randomness import make_rng
from progan.runtime.text import stamp


def read(path):
    """Frames uint8 [H, W, 3], and for how many seconds each is shown; by ffmpeg and Pillow."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as file:
            second = 1 / file.streams.video[0].average_rate
            bt709 = {"format": "rgb24", "src_colorspace": 1}
            frames = [frame.reformat(**bt709).to_ndarray() for frame in file.decode(video=0)]
        return frames, [second] * len(frames)
    frames, seconds = [], []
    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            frames.append(np.asarray(frame.convert("RGB")))
            seconds.append(Fraction(frame.info["duration"]) / 1000)
    return frames, seconds


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_hold_the_frames(tmp_path, suffix):
    """Reference: the frames themselves, as ffmpeg and Pillow read them back, and their times. Odd
    sides become even where they must. Frames are let go as they are written: memory does not grow.
    """
    y, x = np.mgrid[:33, :47] * 2
    alive = set()
    most = 0

    def frame(k):
        return np.stack([y + 40 + k, x + 20, (x + y) // 2 + 5 * k], -1).astype(np.uint8)

    def frames():
        nonlocal most
        for k in range(20):
            made = frame(k)
            weakref.finalize(made, alive.discard, k)
            alive.add(k)
            most = max(most, len(alive))
            yield made, 4 if k == 3 else 1

    path = tmp_path / f"x{suffix}"
    write_video(path, frames(), 30, Provenance({"seeds": "0-3", "class": "x" * 400}))
    assert most <= 3 and list(tmp_path.iterdir()) == [path]
    found, seconds = read(path)
    assert math.isclose(sum(seconds), 23 / 30, abs_tol=0.006)
    assert all(abs(s - 1 / 30) < 0.007 for s in seconds[:3])
    repeats = [1] * 20
    if suffix == ".mp4":
        repeats[3] = 4
        assert found[0].shape == (34, 48, 3)
    expected = [frame(k) for k, count in enumerate(repeats) for _ in range(count)]
    assert len(found) == len(expected)
    most = {".mp4": 4, ".gif": 8, ".webp": 4, ".apng": 0}[suffix]
    for a, b in zip(found, expected, strict=True):
        assert np.abs(a[:33, :47].astype(int) - b).mean() <= most
    mark = b"digitalsourcetype/trainedAlgorithmicMedia"
    if suffix == ".gif":  # whose comment is in parts
        with Image.open(path) as file:
            assert mark in file.info["comment"]
    else:
        assert mark in path.read_bytes() and b"seeds" in path.read_bytes()
    if suffix != ".mp4":
        with Image.open(path) as file:
            assert file.info["loop"] == 0, "for ever"
    else:
        assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")


PLAYED = """async () => {
    const video = document.querySelector("video"), shot = () => {
        const pen = new OffscreenCanvas(video.videoWidth, video.videoHeight).getContext("2d");
        pen.drawImage(video, 0, 0);
        return [...pen.getImageData(0, 0, video.videoWidth, video.videoHeight).data];
    };
    const reach = t => new Promise(done => {
        const look = () => video.currentTime >= t ? done() : requestAnimationFrame(look);
        look();
    });
    await video.play();
    await reach(0.05);
    const first = shot();
    await reach(0.8);
    return [video.currentTime, first, shot()];
}"""


@pytest.mark.slow
@needs_chromium
def test_a_browser_plays_them(tmp_path):
    """Reference: Chromium. The .mp4 gets on, from dark frames to light ones, in their size, which
    is even; the others are pictures of their size."""
    playwright = pytest.importorskip("playwright.sync_api")
    frames = [np.full((33, 47, 3), 20 + 6 * k, np.uint8) for k in range(30)]
    for suffix in SUFFIXES:
        path = tmp_path / f"x{suffix}"
        write_video(path, ((frame, 1) for frame in frames), 30, Provenance({"seeds": "0-3"}))
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(f"<video muted src='{url_of(tmp_path / 'x.mp4', 'video/mp4')}'></video>")
        at, first, later = page.evaluate(PLAYED)
        assert at >= 0.8 and len(first) == 48 * 34 * 4
        assert np.mean(later) > np.mean(first) + 50
        for kind in ("webp", "gif", "apng"):
            page.set_content(f"<img src='{url_of(tmp_path / f'x.{kind}', f'image/{kind}')}'>")
            size = "i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])"
            assert page.locator("img").evaluate(size) == [47, 33]
        browser.close()


def url_of(path, kind):
    """A file as a page may draw it on a canvas."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_walks_from_seed_to_seed():
    """Reference: the seeds' own latents at the stops, bit for bit; between them the shortest way,
    whose steps add up to the angle, also from the last frame to the first. Tiles walk on their own.
    """
    seeds, frames = [3, 1, 4, 15, 9, 2], 30
    walk = from_seed_to_seed(seeds, 2, frames, 8)
    z = torch.stack([walk(frame) for frame in range(frames)])
    assert torch.equal(z[::10], latents(seeds, 8).view(3, 2, 8))
    alone = from_seed_to_seed([1, 15, 2], 1, frames, 8)
    assert torch.equal(z[:, 1], torch.cat([alone(frame) for frame in range(frames)]))
    unit = z.double() / z.double().norm(dim=-1, keepdim=True)
    steps = (unit * unit.roll(-1, 0)).sum(-1).clamp(max=1).arccos().view(3, 10, 2)
    angles = (unit[::10] * unit[::10].roll(-1, 0)).sum(-1).arccos()
    assert torch.allclose(steps.sum(1), angles, atol=1e-5)
    assert (steps[-1, -1] < 1.2 * steps[-1, -2]).all()


@pytest.mark.parametrize("seconds", [4, 10])
def test_smooth_walks_are_the_papers(seconds):
    """Reference: SciPy's Gaussian filter with wrapped ends, as in the official code, with the
    paper's sigma; another frame rate shows the same walk."""
    frames = 60 * seconds
    walk = smoothed_noise([5, 6], seconds, frames, 8)
    z = torch.stack([walk(frame) for frame in range(frames)]).numpy()
    rngs = [[make_rng(seed, "walks", row) for seed in (5, 6)] for row in range(frames)]
    noise = [[rng.standard_normal(8, dtype=np.float32) for rng in both] for both in rngs]
    expected = gaussian_filter1d(np.array(noise, np.float64), 45, axis=0, mode="wrap")
    expected *= math.sqrt(8) / np.linalg.norm(expected, axis=-1, keepdims=True)
    assert np.abs(z - expected).max() < 1e-5
    slow = smoothed_noise([5, 6], seconds, frames // 4, 8)
    assert torch.equal(slow(7), walk(28))
    steps = np.linalg.norm(z - np.roll(z, -1, 0), axis=-1)
    assert steps[-1].max() < 2 * steps[:-1].max()


def run(*arguments, code=0):
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_walk_shows_the_images_of_its_latents(tmp_path):
    """Reference: `generate` with the same seeds and classes, enlarged. Tiles keep their classes."""
    path, out = make_snapshot(tmp_path, classes=("cats", "dogs"), alpha=0.5), tmp_path / "x.apng"
    arguments = ["video", path, "--seeds", "4-9", "--grid", "2x1", "--seconds", 1, "--fps", 6]
    output = run(*arguments, "--scale", 3, "--out", out)
    assert "6 frames of 96x48: 1 s at 6 frames a second" in output and str(out) in output
    frames, _ = read(out)
    G = load_snapshot(path).G
    for k in range(3):  # seed 4 has class 0
        images = generate(G, [4 + 2 * k, 5 + 2 * k], np.array([0, 1]), 16, 0.5)
        both = images.transpose(2, 0, 3, 1).reshape(16, 32, 3).repeat(3, 0).repeat(3, 1)
        assert (frames[2 * k] == both).all()
    step = [
        np.abs(a.astype(int) - b).mean()
        for a, b in zip(frames, frames[1:] + frames[:1], strict=True)
    ]
    assert step[-1] <= 2 * max(step[:-1]), "the end meets the beginning"
    assert "(replaced)" in run(*arguments, "--class", "dogs", "--out", out)
    dogs = generate(G, [4], np.array([1]), 16, 0.5)[0].transpose(1, 2, 0)
    assert (read(out)[0][0][:128:8, :128:8] == dogs).all()


def make_run(folder, labels=None):
    """A run at 8x8 of 96 images: grids of two moments of each phase, and a snapshot in place of a
    third one, of networks that differ."""
    names = labels.names if labels else ()
    overrides = [f"{key}={value}" for key, value in TINY.items()]
    config = load_config(None, [*overrides, f"data.labels={'true' if names else 'false'}"])
    schedule = config.make_schedule()
    run_dir = folder / "run"
    made = {}
    for nimg in (0, 16, 32, 48, 64, 80, 96):
        torch.manual_seed(nimg)
        G = Generator(**config.network.generator_settings(), c_dim=len(names))
        r, alpha = schedule.reached(nimg)
        seeds, rows, columns = grid_layout(r, labels and labels.values)
        made[nimg] = generate(G, seeds, rows, r, alpha)
        if nimg == 64 or (labels and nimg == 96):
            path = snapshot_path(run_dir, nimg)
            save_snapshot(Snapshot(path, G, config, nimg, r, alpha, labels))
        if nimg != 64:
            shown = captions(names if labels and labels.kind == "classes" else ())
            picture = grid(made[nimg], columns, shown)
            save_picture(picture, run_dir / "images" / f"fakes-{stamp(nimg)}.png")
    write_config(run_dir, config)
    return run_dir, made


@pytest.mark.parametrize(
    "labels",
    [
        None,
        Labels.each_class(("cats", "dogs", "owls")),
        Labels(("a", "b"), np.eye(2, dtype=np.uint8)),
    ],
    ids=["none", "classes", "attributes"],
)
def test_a_timelapse_shows_every_moment(tmp_path, labels):
    """Reference: the images that the grids were made of, enlarged to one size; those of a snapshot
    where there is no grid. Times by hand: 4x4 has 32 images, 8x8 fades in for 32 and is stable for
    32."""
    run_dir, made = make_run(tmp_path, labels)
    out = tmp_path / "x.apng"
    output = run("timelapse", run_dir, "--out", out, "--seconds", 6, "--pace", "images")
    assert "7 pictures, each of 2 x" in output and "8 s at 30 frames a second" in output
    frames, seconds = read(out)
    assert [round(s, 3) for s in map(float, seconds)] == [1] * 6 + [2]
    height = frames[0].shape[0] - (68 * len(next(iter(made.values()))) // 2 + 4)
    left = frames[0].shape[1] - (2 * 68 + 4)
    assert (left > 0) == (labels is not None and labels.kind == "classes")
    for frame, images in zip(frames, made.values(), strict=True):
        for k, image in enumerate(images):
            y, x = height + 4 + 68 * (k // 2), left + 4 + 68 * (k % 2)
            large = image.repeat(64 // image.shape[1], 1).repeat(64 // image.shape[1], 2)
            assert (frame[y : y + 64, x : x + 64] == large.transpose(1, 2, 0)).all()
        assert (frame[:height] < 128).any(), "a line above says what it is"


def test_the_pace_of_phases(tmp_path):
    """Reference: by hand. 4x4 ends at 64, the fade at 96 and the rest at 192: a second each."""
    settings = ["schedule.stable_kimg=0.064", "schedule.total_kimg=0.192"]
    config = load_config(None, [*(f"{key}={value}" for key, value in TINY.items()), *settings])
    schedule = config.make_schedule()
    moments = [Moment(tmp_path, nimg, 4, None) for nimg in (0, 32, 64, 80, 96, 144, 192)]
    assert lengths(moments, schedule, "phases", 60) == [10, 10, 10, 10, 10, 10, 0]
    assert lengths(moments, schedule, "images", 192) == [32, 32, 16, 16, 48, 48, 0]
    assert lengths(moments[2:], schedule, "images", 128) == [16, 16, 48, 48, 0]
    assert lengths(moments, schedule, "images", 3) == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["video", "{run}", "--out", "x.avi"], "--out x.avi must end in one of .mp4, .gif, "),
        (["video", "{run}", "--out", "x.webp", "--fps", "0"], "--fps 0: give 1 to 60 frames"),
        (["video", "{run}", "--out", "x.gif", "--fps", "51"], "--fps 51: give 1 to 50 frames"),
        (["video", "{run}", "--out", "x.gif", "--seconds", "601"], "give 0.067 to 600"),
        (["video", "{run}", "--out", "x.gif", "--seconds", "0.03"], "give 0.067 to 600"),
        (["video", "{run}", "--mode", "smooth", "--seconds", "2"], "--seconds 2: give 3 to 600"),
        (
            ["video", "{run}", "--grid", "3x2", "--seeds", "0-6"],
            "7 seeds for a grid of 3x2: all tiles",
        ),
        (["video", "{run}", "--seeds", "3"], "1 seed for a grid of 1x1: all tiles need"),
        (
            ["video", "{run}", "--mode", "smooth", "--seeds", "0-3"],
            "one seed for each tile; give 1",
        ),
        (
            ["video", "{run}", "--seeds", "0-999999"],
            "1,000,000 seeds for a grid of 1x1: at a second for each stop, a video has at most 600 "
            "stops; give at most 600 seeds, or --seconds for a faster walk",
        ),
        (
            ["video", "{run}", "--seeds", "0-99", "--grid", "2x1", "--seconds", "2", "--fps", "20"],
            "in 2 s at 20 frames a second, a video has at most 40 stops; give at most 80 seeds",
        ),
        (["video", "{run}", "--grid", "0x2"], "'0x2' is not COLUMNSxROWS"),
        (["video", "{run}", "--grid", "4x1", "--scale", "256"], "16,384x4,096 pixels"),
        (["video", "{run}", "--class", "x"], "trained without labels"),
        (["video", "{run}", "--out", "folder.gif"], "is a folder"),
        (["video", "{run}", "--out", "no/x.gif"], "there is no folder no"),
        (["video", "nowhere"], "no such run or snapshot: nowhere"),
        (["timelapse", "{run}"], "is no run: it has no config.yaml"),
        (["timelapse", "{empty}"], "has 0 grids and snapshots"),
        (["timelapse", "{damaged}"], "is no grid of this run"),
        (["timelapse", "{damaged}", "--out", "x.png"], "must end in one of"),
    ],
)
def test_errors_say_what_to_do(here, arguments, message):
    """Reference: the sentence, and exit code 2. No file is left."""
    make_snapshot(here)
    (here / "folder.gif").mkdir()
    (here / "empty").mkdir()
    write_config(here / "empty", load_config(None, []))
    damaged, _ = make_run(here / "damaged") if "{damaged}" in arguments else ("", {})
    if damaged:
        Image.new("RGB", (300, 99)).save(damaged / "images" / "fakes-000000.048.png")
    places = {"run": here / "run", "empty": here / "empty", "damaged": damaged}
    before = sorted(here.iterdir())
    output = run(*(part.format(**places) for part in arguments), code=2)
    assert message in output
    assert sorted(here.iterdir()) == before


def test_mp4_needs_a_package_and_a_codec(tmp_path, monkeypatch):
    """Reference: the sentences, which name the extra and the formats that need none."""
    snapshot = load_snapshot(make_snapshot(tmp_path))
    monkeypatch.setattr(video_file, "CODEC", "libnone")
    with pytest.raises(UserError, match="no encoder for H.264"):
        write_walk(snapshot, tmp_path / "x.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install '.\[video\]' .*; .webp, .gif"):
        write_timelapse(tmp_path / "run", tmp_path / "x.mp4", 2, 30, "images")
