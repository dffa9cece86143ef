"""Opens a file of another project, recognizes it, and writes what it holds as progan's own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from progan.config.config import Config
from progan.data.labels import Labels
from progan.interop import gan_zoo, mmgen, pro_gan_pth, tensorflow
from progan.interop.imported import Imported
from progan.interop.pickles import PickleReader
from progan.interop.torch_files import is_torch, read_torch
from progan.model.networks import Critic, Generator, check_finite
from progan.runs.checkpoint import Progress
from progan.runs.folder import CONFIG, fixed_settings, write_config
from progan.runs.init_file import origin_of
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import MOST_EXAMPLES, save_snapshot
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError, brief
from progan.runtime.pickles import UnknownNameError
from progan.runtime.text import human_bytes


class Kind(NamedTuple):
    """A project whose files can be imported."""

    name: str
    recognize: Callable[[Any], bool]
    convert: Callable[[Any], Imported]


KINDS = {
    "tf": Kind("the official code", tensorflow.recognize, tensorflow.convert),
    "zoo": Kind("pytorch_GAN_zoo", gan_zoo.recognize, gan_zoo.convert),
    "progan-pth": Kind("pro_gan_pytorch", pro_gan_pth.recognize, pro_gan_pth.convert),
    "mmgen": Kind("mmgeneration", mmgen.recognize, mmgen.convert),
}
ALL = ", ".join(each.name for each in KINDS.values())
START = 64  # bytes that say what kind of file it is
STARTS = {  # of files that are no weights of these projects, or not yet
    b"\x08": "is a graph, such as ONNX's, which is not read; give the weights that training wrote",
    b"\x89HDF": "is an HDF5 file, which none of these projects writes",
    b"\x93NUMPY": "is an array of NumPy, which none of these projects writes",
    b"\x89PNG": "is an image, not weights",
    b"\xff\xd8": "is an image, not weights",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"\xfd7zXZ": "is compressed by xz; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"version https://git-lfs": "only stands for the file, which git lfs pull fetches",
    b"<": "is a web page, not weights; open the download's address in a browser",
}
STYLEGAN = ("dnnlib", "torch_utils", "training.networks")  # its modules
WEIGHTS = "imported.pt"  # in the folder of a run that begins with them


def read_file(path: Path, kind: str | None = None) -> Imported:
    """The networks in a file of another project; nothing in it is run.

    Args:
        kind: one of `KINDS`; None: recognized.

    Raises:
        UserError: it is of no such kind, damaged, or holds what progan's networks cannot be.
    """
    content = read_content(path)
    found = [k for k, each in KINDS.items() if kind in (None, k) and each.recognize(content)]
    if len(found) != 1:
        raise UserError(f"{path}: {wrong_kind(content, kind, found)}")
    try:
        it = KINDS[found[0]].convert(content)
        check(it)
    except UserError as error:
        raise UserError(f"{path} cannot be imported: {error}") from None
    except Exception as error:  # whatever damage makes the conversion raise
        raise UserError(
            f"{path} looks like a file of {KINDS[found[0]].name}, but is damaged ({brief(error)}); "
            "get it again"
        ) from None
    return it


def wrong_kind(content: Any, kind: str | None, found: list[str]) -> str:
    """Why a file is not imported that could be read."""
    if found:
        return f"it may be of several kinds; say which by --from {' or '.join(found)}"
    if isinstance(content, dict) and content.keys() >= {"settings", "progress"}:
        return "this is a checkpoint of progan, which needs no import: progan train --init takes it"
    if kind is not None:
        others = [k for k, each in KINDS.items() if each.recognize(content)]
        meant = f"; it is one of {KINDS[others[0]].name}: leave out --from" if others else ""
        return f"this is no file of {KINDS[kind].name}{meant}"
    return f"it holds no ProGAN that progan knows; it imports those of {ALL}"


def read_content(path: Path) -> Any:
    """Plain data and arrays in a file.

    Raises:
        UserError: it is no weight file of another project.
    """
    if not path.is_file():  # a pipe would be waited for
        what = "is a pipe or a device; give a file" if path.exists() else "is not there"
        if (path / CONFIG).is_file():
            what = "is a run of progan, which needs no import: progan sample takes it"
        elif path.is_dir():
            what = "is a folder; give the file in it"
        raise UserError(f"{path} {what}")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(START)
        file.seek(0)
        if why := no_weights(start):
            raise UserError(f"{path} {why}")
        try:
            return read_torch(file) if is_torch(start) else PickleReader(file, size).build()
        except UnknownNameError as error:
            if error.name.startswith(STYLEGAN):
                raise UserError(
                    f"{path}: this is a StyleGAN2 network (or one of its family); progan reads "
                    "ProGANs"
                ) from None
            raise UserError(
                f"{path}: {error}, as a file may name code that harms; progan reads ProGANs of "
                f"{ALL}"
            ) from None
        except Exception as error:  # whatever damage makes the reader raise
            why = f" ({brief(error)})" if type(error) is ValueError else ""  # others are Python's
            raise UserError(
                f"{path} ({human_bytes(size)}) cannot be read as a file of weights{why}; is the "
                f"download whole? progan reads ProGANs of {ALL}"
            ) from None


def no_weights(start: bytes) -> str:
    """What a file is, by its first bytes, if not of another project; empty if it may be."""
    if not start:
        return "is empty; get it again"
    if start[8:9] == b"{" and b"__metadata__" in start or start[8:10] == b'{"':
        return "is a safetensors file; a snapshot of progan needs no import: progan sample takes it"
    return next((what for own, what in STARTS.items() if start.lstrip().startswith(own)), "")


def check(it: Imported) -> None:
    """Raises UserError or ValueError unless the weights are those of the networks they are for."""
    network = config_of(it).network
    with torch.device("meta"):
        G = Generator(**network.generator_settings() | {"c_dim": len(it.labels)})
        D = Critic(**network.critic_settings() | {"c_dim": len(it.labels)})
    for name, weights in it.weights.items():
        wanted = {key: w.shape for key, w in (D if name == "D" else G).state_dict().items()}
        if wanted != {key: w.shape for key, w in weights.items()}:
            raise ValueError(f"the weights of {name} are not those of its settings")
        check_finite(weights, f"{name}.")


def config_of(it: Imported, start: bool = False) -> Config:
    """The settings of a run with such networks.

    Args:
        start: begin at the resolution and alpha reached, for networks that are trained on.
    """
    schedule = {"start_resolution": it.resolution, "start_alpha": it.alpha} if start else {}
    return Config(network=it.network, data={"labels": bool(it.labels)}, schedule=schedule)


def labels_of(it: Imported) -> Labels | None:
    """Each class once. Attributes are values such as hair=long, and the file has no examples: each
    row here has one value of each attribute, and each value is in one."""
    if it.label_kind != "attributes":
        return Labels.each_class(it.labels) if it.labels else None
    attributes = [name.partition("=")[0] for name in it.labels]
    counts = [attributes.count(name) for name in attributes]
    places = [attributes[:k].count(name) for k, name in enumerate(attributes)]
    rows = np.arange(min(max(counts), MOST_EXAMPLES))[:, None] % counts == places
    return Labels(it.labels, rows.astype(np.uint8))


def write_snapshot(it: Imported, source: Path, out: Path) -> Snapshot:
    """Write the averaged generator as a snapshot.

    Args:
        source: the file that was imported.
    """
    config = config_of(it)
    G = Generator(**config.network.generator_settings() | {"c_dim": len(it.labels)})
    G.load_state_dict(it.weights["G_ema"])
    snapshot = Snapshot(
        out,
        G.eval().requires_grad_(False),
        config,
        nimg=0,
        resolution=it.resolution,
        alpha=it.alpha,
        labels=labels_of(it),
        origin=origin_of(source, 0, it.resolution, it.licence),
        licence=it.licence,
    )
    save_snapshot(snapshot)
    return snapshot


def check_new(run_dir: Path) -> None:
    """Raises UserError unless a folder is empty, or not there yet."""
    if run_dir.is_file() or run_dir.is_dir() and any(run_dir.iterdir()):
        raise UserError(f"--checkpoint {run_dir} holds something already; give a new folder")


def check_critic(it: Imported) -> None:
    """Raises UserError unless a run can begin with the networks."""
    if "D" not in it.weights:
        raise UserError(
            "--checkpoint needs a critic, and none can be imported from this file; write a "
            "snapshot by --out, and give it to progan train --init: the critic is then new"
        )


def write_run(it: Imported, run_dir: Path) -> None:
    """Write the folder of a run that begins with both networks: its settings, and their file.

    Training begins at the resolution and alpha reached, and with a new optimizer.
    """
    file = run_dir.resolve() / WEIGHTS
    config = config_of(it, start=True)
    average = it.weights["G_ema"]
    state: dict[str, Any] = {
        "G": it.weights.get("G", average),
        "G_ema": dict(average),  # a checkpoint has nothing in two places
        "D": it.weights["D"],
        "progress": Progress().state_dict(),
        "settings": fixed_settings(config),
        "licence": it.licence,
    }
    write_atomically(file, lambda temporary: torch.save(state, temporary))
    write_config(run_dir, config.with_places({"network.init": str(file)}))
