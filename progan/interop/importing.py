"""Opens a file of another project, recognizes it, and writes what it holds as progan's own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from progan.config.config import Config
from progan.data.labels import Labels
from progan.interop import gan_zoo, mmgen, pro_gan_pth, tensorflow
from progan.interop.foreign_files import ALL, read_content
from progan.interop.imported import PROJECTS, Imported, shown
from progan.interop.layout import listed
from progan.model.growing import check_finite
from progan.model.networks import Critic, Generator
from progan.runs.checkpoint import Progress
from progan.runs.folder import fixed_settings, write_config
from progan.runs.init_file import origin_of
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import MOST_EXAMPLES, save_snapshot
from progan.runs.which_run import IMPORTED
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError, brief


class Kind(NamedTuple):
    """A project whose files can be imported."""

    recognize: Callable[[Any], bool]
    convert: Callable[..., Imported]
    labels: bool = False  # whether `convert` takes how many there are, as not all files tell


KINDS = {
    "tf": Kind(tensorflow.recognize, tensorflow.convert),
    "zoo": Kind(gan_zoo.recognize, gan_zoo.convert),
    "progan-pth": Kind(pro_gan_pth.recognize, pro_gan_pth.convert, labels=True),
    "mmgen": Kind(mmgen.recognize, mmgen.convert, labels=True),
}


def read_file(path: Path, kind: str | None = None, labels: int | None = None) -> Imported:
    """The networks in a file of another project; nothing in it is run.

    Args:
        kind: one of `KINDS`; None: recognized.
        labels: how many the generator takes, for files that do not tell.

    Raises:
        UserError: it is of no such kind, damaged, or holds what progan's networks cannot be.
    """
    content, entry = unwrapped(read_content(path))
    found = kinds_of(content)
    if kind is not None and kind in found:
        found = [kind]
    if len(found) != 1 or kind not in (None, *found):
        raise UserError(f"{path}: {wrong_kind(content, kind, found)}")
    own = KINDS[found[0]]
    if labels is not None and not own.labels:
        raise UserError(f"files of {PROJECTS[found[0]]} tell of their labels; leave out --labels")
    try:
        it = own.convert(content, *(() if labels is None else (labels,)))
        check(it)
    except UserError as error:
        raise UserError(f"{path} cannot be imported: {error}") from None
    except Exception as error:  # whatever damage makes the conversion raise
        why = f" ({brief(error)})" if type(error) in (ValueError, KeyError) else ""
        raise UserError(
            f"{path} looks like a file of {PROJECTS[found[0]]}, but is damaged{why}; get it again"
        ) from None
    return replace(it, notes=(f"It is read from {entry} in the file.", *it.notes)) if entry else it


def kinds_of(content: Any) -> list[str]:
    """The kinds that a file's content may be of."""
    return [kind for kind, each in KINDS.items() if each.recognize(content)]


def unwrapped(content: Any) -> tuple[Any, str]:
    """What a file holds, and where: people save networks within a dictionary, as {"model": …}.

    Returns:
        The content and "", or the one entry of it that is of a known kind, and its name.
    """
    if kinds_of(content) or not isinstance(content, dict):
        return content, ""
    known = [name for name, part in content.items() if kinds_of(part)]
    return (content[known[0]], shown(known[0])) if len(known) == 1 else (content, "")


def wrong_kind(content: Any, kind: str | None, found: list[str]) -> str:
    """Why a file is not imported that could be read."""
    if len(found) > 1:
        return f"it may be of several kinds; say which by --from {' or '.join(found)}"
    if found:
        meant = f"it is one of {PROJECTS[found[0]]}: leave out --from"
        return f"this is no file of {PROJECTS[str(kind)]}; {meant}"
    if not isinstance(content, dict):
        return f"it holds no ProGAN that progan knows; it imports those of {ALL}"
    if content.keys() >= {"settings", "progress"}:
        return "this is a checkpoint of progan, which needs no import: progan train --init takes it"
    return (
        f"it holds no ProGAN that progan knows, but {listed([*map(str, content)]) or 'nothing'}; "
        f"progan imports those of {ALL}"
    )


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


def write_run(it: Imported, source: Path, run_dir: Path) -> None:
    """Write the folder of a run that begins with both networks: its settings, and their file.

    Training begins at the resolution and alpha reached, and with a new optimizer.

    Args:
        source: the file that was imported.
    """
    file = run_dir.resolve() / IMPORTED
    config = config_of(it, start=True)
    average = it.weights["G_ema"]
    state: dict[str, Any] = {
        "G": it.weights.get("G", average),
        "G_ema": dict(average),  # a checkpoint has nothing in two places
        "D": it.weights["D"],
        "progress": Progress().state_dict(),
        "settings": fixed_settings(config),
        "origin": origin_of(source, 0, it.resolution, it.licence).state_dict(),
    }
    write_atomically(file, lambda temporary: torch.save(state, temporary))
    write_config(run_dir, config.with_places({"network.init": str(file)}))
