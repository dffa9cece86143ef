"""Latents in a file, as `progan project` writes them, in place of those of seeds."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open
from torch import Tensor

from progan.data.sources.arrays import DAMAGE, read_member, read_member_header
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import check_header
from progan.runtime.errors import UserError, brief
from progan.runtime.zips import open_zip

MOST = 100_000  # rows, which all are in memory
FLOATS = ("float16", "float32", "float64", "F16", "BF16", "F32", "F64")

Widths = Mapping[str, int]  # of the rows of z and c, as the generator takes them
Arrays = dict[str, Tensor]


@dataclass(frozen=True)
class GivenLatents:
    """Latents of a file, and their labels if the file has them.

    Args:
        z: float32 [N, z_dim].
        labels: int64 [N] or uint8 [N, K], as those of seeds.
    """

    z: Tensor
    labels: np.ndarray | None

    @property
    def described(self) -> str:
        """The same for the same latents, whatever file they come from."""
        return f"sha256 {hashlib.sha256(self.z.numpy().tobytes()).hexdigest()[:16]}"


def read_latents(path: Path, snapshot: Snapshot) -> GivenLatents:
    """Read a .npy of latents [N, z_dim]; or `z`, and `c` [N, c_dim] if it is there, of a .npz or a
    .safetensors.

    Raises:
        UserError: the file cannot be read, or its latents or labels are not for this snapshot.
    """
    widths = {"z": snapshot.G.z_dim, "c": snapshot.G.c_dim}
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file" if path.exists() else "there is no such file")
        if path.suffix.lower() not in READERS:
            raise ValueError(f"the name must end in {', '.join(READERS)}")
        arrays = READERS[path.suffix.lower()](path, widths)
        check_finite(arrays["z"])
        labels = labels_in(arrays["c"], len(arrays["z"]), snapshot) if "c" in arrays else None
    except (*DAMAGE, SafetensorError, RuntimeError, OSError) as error:  # of an encrypted zip
        raise UserError(
            f"--latents {path}: {brief(error)}; give a .npy of float32 [N, {widths['z']}], or a "
            ".npz or .safetensors with such an array called z, as progan project writes it"
        ) from error
    return GivenLatents(arrays["z"], labels)


def from_npy(path: Path, widths: Widths) -> Arrays:
    header = npy.open_memmap(path, mode="r")
    check_array("z", header.shape, header.dtype, widths)
    return {"z": as_tensor(np.load(path, allow_pickle=False))}


def from_npz(path: Path, widths: Widths) -> Arrays:
    with open(path, "rb") as file, open_zip(file) as archive:
        names = wanted([entry.removesuffix(".npy") for entry in archive.namelist()])
        for name in names:
            check_array(name, *read_member_header(archive, name), widths)
    return {name: as_tensor(read_member(path, name)) for name in names}


def from_safetensors(path: Path, widths: Widths) -> Arrays:
    check_header(path)
    with safe_open(path, framework="pt") as file:
        names = wanted(file.keys())
        for name in names:
            part = file.get_slice(name)
            check_array(name, part.get_shape(), part.get_dtype(), widths)
        return {name: file.get_tensor(name).float() for name in names}


READERS = {".npy": from_npy, ".npz": from_npz, ".safetensors": from_safetensors}


def wanted(names: Sequence[str]) -> list[str]:
    """What is to be read of a file that has arrays of these names."""
    if "z" not in names:
        raise ValueError("it has no array called z")
    return [name for name in ("z", "c") if name in names]


def check_array(name: str, shape: Sequence[int], dtype: object, widths: Widths) -> None:
    """Raises ValueError for an array that does not fit, before memory is taken for it."""
    if name == "c" and not widths["c"]:
        raise ValueError("it has labels (c), and this snapshot was trained without")
    if len(shape) != 2 or shape[1] != widths[name] or not 0 < shape[0] <= MOST:
        raise ValueError(
            f"{name} has the shape {list(shape)}, and must have [N, {widths[name]}] with N from 1 "
            f"to {MOST:,}"
        )
    if str(dtype).lstrip("<>=") not in FLOATS:
        raise ValueError(f"{name} is of type {dtype}, and must be of float32")


def as_tensor(array: np.ndarray) -> Tensor:
    """float32, in this machine's order of bytes."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def check_finite(z: Tensor) -> None:
    rows = (~z.isfinite()).any(dim=1).nonzero().flatten().tolist()
    if rows:
        raise ValueError(f"{len(rows):,} of {len(z):,} rows are not finite, the first is {rows[0]}")


def labels_in(c: Tensor, count: int, snapshot: Snapshot) -> np.ndarray:
    """Labels of c, float32 [N, c_dim]: int64 [N] or uint8 [N, K]."""
    rows = c.numpy()
    if len(rows) != count:
        raise ValueError(f"it has {count:,} latents and {len(rows):,} labels")
    classes = snapshot.labels is not None and snapshot.labels.kind == "classes"
    if not np.isin(rows, (0, 1)).all() or (classes and (rows.sum(axis=1) != 1).any()):
        rule = "one 1 and else 0, for its class" if classes else "0 or 1 for each attribute"
        raise ValueError(f"each row of c must have {rule}")
    return rows.argmax(axis=1) if classes else rows.astype(np.uint8)
