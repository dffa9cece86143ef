"""Where images, digests and headers are written while a pyramid is made."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from progan.config.resolutions import resolutions_to
from progan.data.pyramid.digests import DTYPE, digests_of
from progan.data.pyramid.format import array_file

HEADER_BYTES = 128  # of a .npy file
RAW_DIGESTS = "unfinished.digests"  # those of all images of the source, without a header


@dataclass(frozen=True)
class Layout:
    """Where the images go while a pyramid is made; every image of the source has a place."""

    path: Path
    total: int  # images of the source
    channels: int
    resolution: int  # of the largest level
    png: tuple[int, ...]  # levels kept as PNG records

    @property
    def raw(self) -> list[int]:
        return [r for r in self.levels if r not in self.png]

    @property
    def levels(self) -> list[int]:
        return resolutions_to(self.resolution)

    @property
    def digests(self) -> Path:
        return self.path / RAW_DIGESTS

    def array(self, resolution: int) -> Path:
        return array_file(self.path, resolution)

    def place(self, resolution: int, image: int) -> int:
        """Byte offset of an image in its array."""
        return HEADER_BYTES + image * self.channels * resolution**2

    def write(self, resolution: int, start: int, images: np.ndarray) -> None:
        """Writes images, uint8 [n, C, r, r], to the places from `start`. Any process may."""
        with open(self.array(resolution), "r+b") as file:
            file.seek(self.place(resolution, start))
            file.write(np.ascontiguousarray(images).data)

    def write_digests(self, start: int, levels: dict[int, np.ndarray]) -> None:
        """Writes digests of images, whose levels are uint8 [n, C, r, r]. Any process may."""
        digests = np.stack([digests_of(levels[r]) for r in self.levels], axis=1)
        with open(self.digests, "r+b") as file:
            file.seek(start * digests[0].nbytes)
            file.write(digests.data)

    def read_digests(self) -> np.ndarray:
        """uint64 [total, levels]"""
        return np.fromfile(self.digests, DTYPE).reshape(self.total, len(self.levels))


def write_header(file: Path, shape: tuple[int, ...]) -> None:
    """Writes the header of a .npy file, padded to one length for any number of images."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(file, "r+b") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        assert opened.tell() == HEADER_BYTES, "this NumPy writes npy headers of another length"
