"""A snapshot as a model on the Hugging Face Hub, and back: `Generator.from_pretrained`.

A model there has the snapshot's own file as `model.safetensors`, with its config, labels, origin
and checksum in it: progan reads that file and no other. `config.json` tells other programs the
plain arguments of the network, and README.md is the model card.
"""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from progan import __version__
from progan.model.grid import encoded, grid
from progan.model.sampling import grid_layout
from progan.model.sharing import SharedNetwork
from progan.outputs.model_card import CARD, SAMPLES, card_of, run_of
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot, without_places
from progan.runs.summary import Summary
from progan.runs.which_snapshot import MODEL, find_snapshot, to_source
from progan.runtime.disk import read_plain, replacing, write_atomically
from progan.runtime.errors import UserError
from progan.runtime.hub import SCHEME, model_name, put
from progan.runtime.paths import check_new_folder
from progan.runtime.text import human_bytes

CONFIG = "config.json"
MOST_CARD, MOST_PICTURE = 10**6, 10**7  # bytes of what is uploaded as it lies in a folder
COLUMNS = 4  # of samples in the picture, at most


G = TypeVar("G", bound=SharedNetwork)


def read_generator(cls: type[G], name: str | Path) -> G:
    """See `Generator.from_pretrained`: a generator of this class, whose weights can be trained."""
    path = to_source(name, "the model")
    if not path.exists() and not path.is_absolute() and len(path.parts) == 2:
        path = to_source(f"{SCHEME}{name}", "the model")
    snapshot = load_snapshot(find_snapshot(path))
    made = cls(**snapshot.config.network.generator_settings() | {"c_dim": snapshot.G.c_dim})
    made.load_state_dict(snapshot.G.state_dict())
    made.file, made.reached = snapshot.file, snapshot.G.reached
    return made.eval()


def push_generator(made: SharedNetwork, model: str, private: bool = False) -> str:
    """See `Generator.push_to_hub`."""
    if made.file is None:
        raise UserError(
            "this generator comes from no snapshot, so a card could say nothing of it; push a "
            "snapshot of a run: progan push RUN USER/MODEL"
        )
    read = load_snapshot(made.file)
    known = read.G.state_dict()
    if any((weight.cpu() != known[name]).any() for name, weight in made.state_dict().items()):
        raise UserError(
            f"the weights have changed since {made.file} was read, and that file would be pushed: "
            "push a snapshot of a run instead"
        )
    return model_of(read, model).push(private)


@dataclass(frozen=True)
class Model:
    """What a model on the Hub consists of.

    Args:
        name: `user/model`.
        files: by name; a Path is read from where it lies.
        written: whether the card lay beside the snapshot. People may have written in it, so it
            replaces the one on the Hub; a new card does not.
    """

    name: str
    files: dict[str, bytes | Path]
    written: bool

    @property
    def sizes(self) -> str:
        """The files and their sizes, for people."""
        counts = {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }
        return ", ".join(f"{name} {human_bytes(count)}" for name, count in counts.items())

    def push(self, private: bool) -> str:
        """Put it onto the Hub; see `runtime.hub.put`."""
        return put(self.name, self.files, private, once="" if self.written else CARD)

    def write(self, folder: Path) -> str:
        """Write it into a folder instead, from which it can be used and pushed.

        Returns:
            A line for the user.

        Raises:
            UserError: there is a card, in which people may have written, or no folder can be made.
        """
        check_folder(folder)
        note = replacing([folder / name for name in self.files])
        for name, content in self.files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            write_atomically(folder / name, partial(Path.write_bytes, data=data))
        return f"{folder}: {self.sizes}{note}"


def check_folder(folder: Path) -> None:
    """Raises UserError if a model cannot be written there; best asked before any work."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder")
    check_new_folder(folder, "--dry-run")
    if (folder / CARD).exists() or (folder / CARD).is_symlink():
        raise UserError(
            f"{folder / CARD} is there already, and what was filled in would be lost: give "
            "another folder, or move it away"
        )


def model_of(snapshot: Snapshot, name: str) -> Model:
    """A snapshot as a model of this name, with the card and the picture that lie beside it if it
    is in a folder as `Model.write` makes it, else with new ones.

    Older versions wrote the paths of data into snapshots: a copy without them takes its place.

    Raises:
        UserError: the name is none; or a card or picture is a link, or too large.
    """
    name, run, model = model_name(name), run_of(snapshot), snapshot.file
    folder = model.parent
    if without_places(snapshot.config) == snapshot.config:
        return with_card(snapshot, name, folder, run, model)
    with TemporaryDirectory() as place:
        copy = replace(snapshot, file=Path(place) / model.name)
        save_snapshot(copy)
        return with_card(copy, name, folder, run, copy.file.read_bytes())


def with_card(
    snapshot: Snapshot, name: str, folder: Path, run: Summary | None, content: bytes | Path
) -> Model:
    """`model_of` with what the snapshot's file is to have.

    Args:
        folder: where a card and a picture may lie.
        run: of the snapshot, if it is there.
    """
    card = picture = b""
    if snapshot.file.name == MODEL:
        card, picture = beside(folder / CARD, MOST_CARD), beside(folder / SAMPLES, MOST_PICTURE)
    files: dict[str, bytes | Path] = {
        MODEL: content,
        CONFIG: config_of(snapshot).encode(),
        CARD: card or card_of(snapshot, name, MODEL, run).encode(),
        SAMPLES: picture or draw_samples(snapshot),
    }
    return Model(name, files, written=bool(card))


def beside(file: Path, most: int) -> bytes:
    """The content of a file; nothing if it is not there.

    Raises:
        UserError: it is a link, or larger than it should be.
    """
    if file.is_file() and file.stat().st_size > most:
        raise UserError(f"{file} is larger than {human_bytes(most)}; make it smaller")
    return read_plain(file)


def config_of(snapshot: Snapshot) -> str:
    """What other programs may want to know, as JSON. progan reads none of it."""
    content = {
        "library_name": "progan",
        "progan": __version__,
        "generator": snapshot.config.network.generator_settings() | {"c_dim": snapshot.G.c_dim},
        "resolution": snapshot.resolution,
        "alpha": snapshot.alpha,
        "images_shown": snapshot.nimg,
        "labels": snapshot.labels.names if snapshot.labels else [],
        "label_kind": snapshot.labels.kind if snapshot.labels else None,
    }
    return json.dumps(content, indent=2) + "\n"


def draw_samples(snapshot: Snapshot) -> bytes:
    """A grid of the first seeds as WEBP, each with the label that it has by itself."""
    _, _, most = grid_layout(snapshot.resolution, None)
    columns = min(most, COLUMNS)
    seeds = range(columns**2)
    images = snapshot.sample(seeds).transpose(0, 3, 1, 2)
    return encoded(grid(images, columns), "WEBP", snapshot.provenance(seeds=f"0-{seeds[-1]}"))
