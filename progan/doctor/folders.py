"""Checks of the cache folder: its disk, its locks, and how fast images can be read from it."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

from progan.config.resolutions import resolutions_to
from progan.data.pyramid.format import Pyramid
from progan.data.pyramid.meta import VERSION, Meta
from progan.data.stream import Stream
from progan.doctor.finding import GOOD, SLOW, WRONG, Finding
from progan.runtime.cache import cache_folder, lock
from progan.runtime.device import synchronize
from progan.runtime.disk import write_json
from progan.runtime.lock import Busy
from progan.runtime.text import human_bytes

ELSEWHERE = "set $PROGAN_CACHE to a folder on a local disk"
LEAST_FREE = 5 * 10**9  # bytes: a small data set, and a run of the paper's networks
NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs", "fuse.")
RESOLUTION, BATCH = 64, 64  # of the images read


def cache() -> Finding:
    """Write a file there and read it back."""
    folder = cache_folder(None)
    try:
        with temporary_folder() as made:
            (made / "try").write_bytes(b"progan")
            right = (made / "try").read_bytes() == b"progan"
    except OSError as error:
        says = f"{folder} cannot be written ({error.strerror})"
        return Finding("cache folder", WRONG, says, "set $PROGAN_CACHE to a folder of yours")
    if not right:
        return Finding("cache folder", WRONG, f"{folder} gives back other bytes", ELSEWHERE)
    return Finding("cache folder", GOOD, f"{folder} can be written")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in the cache, removed afterwards."""
    folder = cache_folder(None)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="doctor-", dir=folder) as made:
        yield Path(made)


def disk() -> Finding:
    """Free space where data is prepared, and here, where runs are written."""
    free = {"cache": free_bytes(cache_folder(None)), "this folder": free_bytes(Path.cwd())}
    says = ", ".join(f"{human_bytes(size)} ({where})" for where, size in free.items())
    figures = {f"free_{where.split()[-1]}": size for where, size in free.items()}
    if min(free.values()) < LEAST_FREE:
        return Finding("free disk", SLOW, says, "too little for most data: make room", figures)
    return Finding("free disk", GOOD, says, figures=figures)


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def locks() -> Finding:
    """Check that a lock excludes a second handle, which stands for a second process."""
    with lock("doctor", None):
        try:
            with lock("doctor", None, wait=False):
                held = False
        except Busy:
            held = True
    if not held:
        says = "a lock in the cache folder excludes nobody"
        return Finding("file locks", WRONG, says, ELSEWHERE)
    return Finding("file locks", GOOD, "a lock in the cache folder holds")


def file_system() -> Finding:
    """The file systems of the cache, which training reads, and of this folder, for runs."""
    kinds = {"cache": kind_of(cache_folder(None)), "this folder": kind_of(Path.cwd())}
    says = ", ".join(f"{kind} ({where})" for where, kind in kinds.items())
    figures = {f"kind_{where.split()[-1]}": kind for where, kind in kinds.items()}
    if kinds["cache"].startswith(NETWORK):
        return Finding(
            "file system", SLOW, f"{says}: the cache is on a network", ELSEWHERE, figures
        )
    return Finding("file system", GOOD, says, figures=figures)


def kind_of(folder: Path) -> str:
    """The type of the nearest file system mounted above; later mounts hide earlier ones."""
    kinds = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    real = existing(folder).resolve()
    return next((kinds[path] for path in (real, *real.parents) if path in kinds), "unknown")


def stream(device: torch.device, size: int, needed: float | None) -> Finding:
    """Read images of a prepared data set of `size` bytes in random order, as training does.

    needed: images/s that training consumes here.
    """
    with temporary_folder() as folder:
        images = write_pyramid(folder, size)
        reader = Stream(Pyramid.open(folder), seed=0, device=device, device_cache=False)
        try:
            right = same(reader, images)
            rate = rate_of(reader)
        finally:
            reader.close()
    megabytes = rate * images[0].nbytes / 1e6
    says = f"{rate:,.0f} images/s of {RESOLUTION}x{RESOLUTION}, {megabytes:,.0f} MB/s"
    figures = {"images_per_sec": round(rate, 1)}
    if not right:
        return Finding("data stream", WRONG, "other images come out than went in", ELSEWHERE)
    if needed and rate < needed:
        says += f"; training takes {needed:,.0f}"
        return Finding("data stream", SLOW, says, ELSEWHERE, figures)
    return Finding("data stream", GOOD, says, figures=figures)


def write_pyramid(folder: Path, size: int) -> np.ndarray:
    """Write noise, not kept in the system's cache; returns the largest level uint8 [N, 3, r, r]."""
    draw = np.random.default_rng(0)
    count = max(2 * BATCH, size // (4 * RESOLUTION**2))  # all levels take 4/3 of the largest
    for r in resolutions_to(RESOLUTION):
        images = draw.integers(0, 256, (count, 3, r, r), np.uint8)
        with open(folder / f"{r:04d}.npy", "wb") as file:
            np.save(file, images)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    meta = Meta("noise", "noise", count, 3, RESOLUTION, (), (), 0)
    write_json(folder / "meta.json", {"version": VERSION, **asdict(meta)})
    return images


def same(reader: Stream, images: np.ndarray) -> bool:
    """Whether the first batch holds the images that it should."""
    found = reader.batch(0, BATCH, RESOLUTION).images.cpu()
    expected = torch.from_numpy(images[reader.order.at(0, BATCH)[0]]).float().div(127.5).sub(1)
    return torch.equal(found, expected)


def rate_of(reader: Stream) -> float:
    """Images/s over one epoch, or three seconds of it."""
    start, nimg = time.perf_counter(), BATCH
    while nimg + BATCH <= reader.data.count and time.perf_counter() < start + 3:
        reader.batch(nimg, BATCH, RESOLUTION)
        nimg += BATCH
    synchronize(reader.device)
    return (nimg - BATCH) / (time.perf_counter() - start)
