"""Many pictures in one zip, or as arrays in one npz; its comment says what it holds."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from progan.runtime.disk import open_plain, write_atomically
from progan.runtime.errors import UserError
from progan.runtime.provenance import Provenance


def comment_of(paths: Sequence[Path], made_by: Provenance) -> bytes:
    """What an archive of these pictures says of itself: two with one comment hold the same."""
    names = hashlib.sha256("\n".join(path.name for path in paths).encode()).hexdigest()
    facts = {**made_by.facts, "images": f"{len(paths)}, their names' sha256 {names}"}
    return replace(made_by, facts=facts).text.encode() + f"; {made_by.source_type}".encode()


def is_packed(out: Path, paths: Sequence[Path], made_by: Provenance) -> bool:
    """Whether the archive is there already."""
    try:
        with open(out, "rb", opener=open_plain) as file, zipfile.ZipFile(file) as archive:
            return archive.comment == comment_of(paths, made_by)
    except (OSError, UserError, ValueError, zipfile.BadZipFile):
        return False


def pack(
    out: Path, paths: Sequence[Path], made_by: Provenance, arrays: Mapping[str, np.ndarray]
) -> None:
    """Write the pictures into `out`, whole or not at all, and remove them.

    Args:
        out: a .zip of the files; or a .npz of `images`, uint8 [N, H, W, C], and more arrays.
        arrays: those.
    """

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.comment = comment_of(paths, made_by)
            if out.suffix.lower() == ".npz":
                write_arrays(archive, paths, arrays)
                return
            for path in paths:
                archive.writestr(entry(path.name), path.read_bytes())

    write_atomically(out, write)
    for path in paths:
        path.unlink(missing_ok=True)


def entry(name: str) -> zipfile.ZipInfo:
    """A file in a zip, which is the same whenever and wherever it is made."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    return info


def write_arrays(
    archive: zipfile.ZipFile, paths: Sequence[Path], arrays: Mapping[str, np.ndarray]
) -> None:
    """As `numpy.savez`, picture by picture, as all may not fit into memory."""
    with archive.open(entry("images.npy"), "w", force_zip64=True) as file:
        for i, path in enumerate(paths):
            with Image.open(path) as image:
                pixels = np.atleast_3d(np.asarray(image))
            if not i:
                shape = (len(paths), *pixels.shape)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(file, header)
            file.write(pixels.tobytes())
    for name, array in arrays.items():
        with archive.open(entry(f"{name}.npy"), "w", force_zip64=True) as file:
            npy.write_array(file, array)
