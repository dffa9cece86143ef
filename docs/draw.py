"""Draws pictures of the documentation: python docs/draw.py runs/demo

Those of docs/growing.md are computed by progan's own functions. Curves and frames are of the run.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from progan.data.decode import box_levels
from progan.data.sources.demo import draw
from progan.model.grid import save_picture
from progan.model.layers import crossfade_reals, minibatch_stddev, pixel_norm
from progan.outputs.timelapse import Layout, moments_of
from progan.outputs.walks import from_seed_to_seed, pictures_of
from progan.runs.folder import read_config
from progan.runs.snapshot_file import load
from progan.runtime.pictures import PAPER, arrange
from progan.training.losses import wgan_gp

DOCS = Path(__file__).parent
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw_fade(file: Path) -> None:
    """A face at each resolution, and how its last one fades in: what the critic sees as real."""
    face = draw(0, [5], 32)
    levels = [*box_levels(face, 4).items()]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    rows = figure.subplots(2, len(ALPHAS), squeeze=False)
    for panel, (resolution, image) in zip(rows[0], sorted(levels), strict=False):
        show(panel, image[0], f"{resolution}x{resolution}")
    rows[0, -1].axis("off")
    real = torch.from_numpy(face).float() / 127.5 - 1
    for panel, alpha in zip(rows[1], ALPHAS, strict=True):
        seen = (crossfade_reals(real, torch.tensor(alpha)) + 1) * 127.5
        show(panel, seen[0].round().byte().numpy(), f"alpha {alpha:g}")
    figure.savefig(file, dpi=110)


def show(panel: Any, image: np.ndarray, title: str) -> None:
    """uint8 [3, r, r] in a panel."""
    panel.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    panel.set_title(title, fontsize=10)
    panel.axis("off")


def draw_parts(file: Path) -> None:
    """The gradient penalty, pixel norm and minibatch stddev, of values that show what they do."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    penalty, norm, stddev = figure.subplots(1, 3)
    lengths = np.linspace(0, 2.5)
    penalty.plot(lengths, [float(penalty_at(n)) for n in lengths])
    penalty.set(title="gradient penalty", xlabel="norm of the critic's gradient", ylabel="penalty")
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(1, 64, 40, 40, generator=draws)
    features *= torch.logspace(-1, 1, 40).view(1, 1, 1, 40)  # from weak to strong, left to right
    for name, x in (("before", features), ("after", pixel_norm(features))):
        norm.plot(x.square().mean(dim=(0, 1, 2)).sqrt(), label=name)
    norm.set(title="pixel norm", xlabel="pixel", ylabel="size of its features", yscale="log")
    norm.legend()
    batch = torch.randn(4, 8, 4, 4, generator=draws)
    shares = np.linspace(0, 1, 21)  # of the variety that is left: 0 is one image four times
    mean = batch.mean(dim=0, keepdim=True)
    values = [float(minibatch_stddev(mean + share * (batch - mean))[0]) for share in shares]
    stddev.plot(shares, values)
    stddev.set(title="minibatch stddev", xlabel="variety within the batch", ylabel="value seen")
    figure.savefig(file, dpi=110)


def penalty_at(norm: float) -> torch.Tensor:
    """WGAN-GP's penalty of a critic whose gradient has this norm everywhere."""
    image = torch.zeros(1, 1, 1, 1)
    penalty, _ = wgan_gp(lambda x: norm * x.sum(dim=(1, 2, 3)), image, image, torch.ones(1), 1.0)
    return penalty[0]


CURVES = {
    "critic's loss": {"Loss/D": "loss"},
    "scores": {"Loss/scores/real": "reals", "Loss/scores/fake": "fakes"},
    "gradient penalty": {"Loss/gradient_penalty": "penalty"},
    "variety": {"Progress/variety": "samples, as a share of the reals"},
}


def draw_curves(run: Path, file: Path) -> None:
    """Statistics of a run; shaded where a resolution fades in."""
    text = (run / "stats.jsonl").read_text(encoding="utf-8")
    ticks = [json.loads(line) for line in text.splitlines()]
    kimg = [tick["Progress/kimg"] for tick in ticks]
    figure = Figure(figsize=(9, 5), layout="constrained")
    for panel, (title, lines) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
        for name, label in lines.items():
            panel.plot(kimg, [tick[name] for tick in ticks], label=label)
        for old, new in itertools.pairwise(ticks):
            if min(old["Progress/alpha"], new["Progress/alpha"]) < 1:
                ends = old["Progress/kimg"], new["Progress/kimg"]
                panel.axvspan(*ends, color="tab:blue", alpha=0.12, linewidth=0)
        panel.set(title=title, xlabel="images shown (kimg)")
        panel.legend()
    figure.savefig(file, dpi=110)


def draw_videos(run: Path, file: Path) -> None:
    """Frames of a timelapse, one of each resolution, and of a walk from one seed to another."""
    schedule = read_config(run, []).make_schedule()
    moments = {moment.resolution: moment for moment in moments_of(run, schedule)}  # the last ones
    layout = Layout([*moments.values()], schedule.total_nimg, None)
    layout.columns = layout.height = 3
    top = np.hstack([layout.frame(moment) for moment in moments.values()])
    snapshot = load(run)
    walk = from_seed_to_seed([2, 5], 1, 14, snapshot.G.z_dim)  # there and back
    frames = [
        image.transpose(2, 0, 1) for image in pictures_of(snapshot, walk, 8, None, 1, 1, None)
    ]
    below = arrange([frames], len(frames), 96)
    sides = (0, 0), (0, 0), (0, top.shape[1] - below.shape[2])
    below = np.pad(below, sides, constant_values=PAPER)
    picture = np.concatenate([top.transpose(2, 0, 1), below], axis=1)
    save_picture(picture, file, snapshot.provenance())


if __name__ == "__main__":
    draw_videos(Path(sys.argv[1]), DOCS / "videos.png")
    draw_curves(Path(sys.argv[1]), DOCS / "curves.png")
    draw_fade(DOCS / "growing-fade.png")
    draw_parts(DOCS / "growing-parts.png")
