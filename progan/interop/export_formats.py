"""The formats that a generator leaves in, and what each file says of it. Loads no torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan import __version__
from progan.runtime.errors import UserError, nearest
from progan.runtime.paths import check_new_folder

if TYPE_CHECKING:
    from progan.runs.snapshot import Snapshot

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2", "torch": "", "tf-names": ".npz"}  # "": a folder
GRAPHS = ("onnx", "torch-export")  # formats that hold the function, and so the type of its images
ANSWERS = {"torchscript": "torch has deprecated TorchScript; give torch-export, which replaces it"}


def to_format(text: str) -> str:
    """Raises ValueError if a text names no format."""
    if text in ENDINGS:
        return text
    known = f"is not a format; give {', '.join(ENDINGS)}{nearest(text, ENDINGS)}"
    raise ValueError(ANSWERS.get(text.lower(), known))


def check_request(to: str, out: Path, dtype: str | None) -> None:
    """Raises UserError if a format has no such file or images."""
    ending = ENDINGS[to]
    if ending and out.suffix.lower() != ending:
        raise UserError(f"--out {out} must end in {ending}, as --to {to} writes such a file")
    if dtype and to not in GRAPHS:
        raise UserError(f"--dtype is for --to {' and '.join(GRAPHS)}; leave it out for {to}")


def parts_of(folder: Path) -> list[Path]:
    """The files of a standalone generator in a folder.

    Raises:
        UserError: the folder cannot be written, or holds other things.
    """
    names = ("weights.pt", "settings.json", "generator.py")
    if folder.is_dir():
        other = sorted({*os.listdir(folder)} - {*names})
        if other:
            raise UserError(f"--out {folder}: has other files in it, as {other[0]}; give a new one")
    elif folder.exists() or folder.is_symlink():
        raise UserError(f"--out {folder}: is a file; --to torch writes a folder, so give its name")
    elif not folder.parent.is_dir():
        raise UserError(f"--out {folder}: there is no folder {folder.parent}")
    check_new_folder(folder, "--out")
    place = folder if folder.is_dir() else folder.parent
    if not os.access(place, os.W_OK) or not os.access(folder.parent, os.W_OK):
        raise UserError(f"--out {folder}: no permission to write there")
    return [folder / name for name in names]


def facts_of(snapshot: "Snapshot") -> dict[str, Any]:
    """What a file says of the network in it, as JSON holds it."""
    labels = snapshot.labels
    return {
        "made_by": f"progan {__version__}",
        "snapshot_sha256": snapshot.sha256,
        "kimg": snapshot.nimg / 1000,
        "resolution": snapshot.resolution,
        "alpha": snapshot.alpha,
        "channels": snapshot.G.channels,
        "z_dim": snapshot.G.z_dim,
        "c_dim": snapshot.G.c_dim,
        "label_kind": labels.kind if labels else None,
        "labels": list(labels.names) if labels else [],
        "licence": snapshot.licence,
    }
