"""A generator under the names, shapes and layout of the official TensorFlow code.

Karras et al.'s networks.py, G_paper: weights are stored unscaled, as ours are.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from progan.config.conventions import OF_GENERATOR, Conventions
from progan.config.resolutions import resolutions_to
from progan.interop.tensorflow_layers import Network, layers, width
from progan.runs.snapshot import Snapshot
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError


def write_official(snapshot: Snapshot, out: Path) -> list[str]:
    """Write an .npz without pickles: an array for each variable. See `exporting.export`.

    Raises:
        UserError: the official code has no network that computes the same.
    """
    check_conventions(snapshot)
    arrays = variables(snapshot)

    def write(part: Path) -> None:
        with open(part, "wb") as file:  # else NumPy adds a suffix
            np.savez(file, **arrays)  # type: ignore[arg-type]

    write_atomically(out, write)
    arguments = ", ".join(f"{name}={value}" for name, value in options_of(snapshot).items())
    return [f"the official code builds this network as networks.G_paper({arguments})"]


def check_conventions(snapshot: Snapshot) -> None:
    """Raises UserError if the official code computes otherwise than this generator."""
    conventions = snapshot.config.network.conventions or Conventions()
    paper = Conventions().model_dump()
    own = conventions.model_dump(include=OF_GENERATOR - {"widths"})
    others = [f"{name}={value}" for name, value in own.items() if value != paper[name]]
    G = snapshot.G
    if any(G.width(r) != width(options_of(snapshot), r) for r in resolutions_to(G.resolution)):
        others.append("widths")
    if others:
        raise UserError(
            f"the official code cannot hold this network, as it has network.conventions."
            f"{', '.join(others)}; every other --to can"
        )


def variables(snapshot: Snapshot) -> dict[str, np.ndarray]:
    """The variables of G_paper by name, float32; `lod` says how far it has grown."""
    G = snapshot.G
    weights = {name: weight.detach().cpu().numpy() for name, weight in G.state_dict().items()}
    lod = math.log2(G.resolution / snapshot.resolution)
    lod += 0 if snapshot.alpha is None else 1 - snapshot.alpha
    found = {"lod": np.array(lod, np.float32)}
    for theirs, ours, _ in layers(Network("G", options_of(snapshot), {}, [], [])):
        of_bias = ours.removesuffix(".dense")  # the first layer's is its block's
        found[f"{theirs}/weight"] = turned_back(theirs, weights[f"{ours}.weight"])
        found[f"{theirs}/bias"] = weights[f"{of_bias}.bias"]
    return found


def turned_back(name: str, weight: np.ndarray) -> np.ndarray:
    """The inverse of `tensorflow_layers.turned`."""
    if weight.ndim == 2:
        return np.ascontiguousarray(weight.T)
    if name.endswith("_up"):
        return np.ascontiguousarray(weight[..., ::-1, ::-1].transpose(2, 3, 0, 1))
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def options_of(snapshot: Snapshot) -> dict[str, Any]:
    """Arguments with which G_paper is this generator. Its widths begin at fmap_base / 2 for 4x4."""
    G, network = snapshot.G, snapshot.config.network
    half = G.channel_base / 2
    return {
        "num_channels": G.channels,
        "resolution": G.resolution,
        "label_size": G.c_dim,
        "fmap_base": int(half) if half.is_integer() else half,
        "fmap_decay": 1.0,
        "fmap_max": G.channel_max,
        "latent_size": G.z_dim,
        "use_wscale": network.equalized,
        "use_pixelnorm": network.pixel_norm,
        "fused_scale": network.fused_scale,
    }
