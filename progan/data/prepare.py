"""From a source to a pyramid."""

import hashlib
import logging
import os
import shutil
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from tqdm import tqdm

from progan.data.files import Source
from progan.data.images import BadImage, TooSmall
from progan.data.pyramid import VERSION, Pyramid, PyramidWriter, size_in_bytes
from progan.errors import UserError
from progan.layers import downsample2x
from progan.schedule import resolutions_to

BAD_FILES = "bad-files.txt"
BATCH_BYTES = 2**22  # of images that a thread reads before it hands them on


def cached(
    source: Source,
    *,
    resolution: int,
    channels: int,
    max_bad: int = 100,
    cache: Path | None = None,
    progress: bool = True,
) -> Pyramid:
    """The pyramid of `source`, made on first use; processes that start together make it once.

    cache: folder to keep it in; None: $PROGAN_CACHE, else $XDG_CACHE_HOME/progan, else
    ~/.cache/progan. The rest, and the errors: see `prepare`.
    """
    parts = (source.key, resolution, channels, VERSION)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    folder = Path(os.path.expanduser(cache or default_cache()))
    dest = folder / "pyramids" / f"{source.name}-{digest}"
    if not dest.exists():
        with _writing(dest), lock(f"pyramids/{dest.name}", folder):
            if not dest.exists():
                prepare(
                    source,
                    dest,
                    resolution=resolution,
                    channels=channels,
                    max_bad=max_bad,
                    progress=progress,
                )
    pyramid = Pyramid.open(dest)
    if pyramid.bad > max_bad:
        raise UserError(
            f"{source.name}: {pyramid.bad} images are bad, and data.max_bad is {max_bad}; see "
            f"{dest / 'bad-files.txt'}; mend or remove them, or raise data.max_bad"
        )
    return pyramid


def lock(name: str, cache: Path | None) -> FileLock:
    """One process at a time, of all that use the same cache folder."""
    path = Path(os.path.expanduser(cache or default_cache())) / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def default_cache() -> Path:
    """$PROGAN_CACHE, else $XDG_CACHE_HOME/progan, else ~/.cache/progan."""
    if chosen := os.environ.get("PROGAN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progan"


def prepare(
    source: Source,
    dest: Path,
    *,
    resolution: int,
    channels: int,
    max_bad: int = 100,
    progress: bool = True,
) -> Pyramid:
    """Make the pyramid of `source` in the new folder `dest`, which appears only when it is whole.

    resolution: of the largest level, a power of two from 4. channels: 1 or 3. max_bad: images
    that may be unreadable or too small; they are left out and named in `bad-files.txt`. UserError
    if there are more, if no image is left, or if the folder cannot be written.
    """
    if resolution not in resolutions_to(resolution) or channels not in (1, 3):
        raise UserError(
            f"network.resolution must be a power of two from 4 and network.channels 1 or 3, not "
            f"{resolution} and {channels}"
        )
    dest = Path(dest)
    if dest.exists():
        raise UserError(f"{dest} exists; delete it or choose another folder")
    part = dest.with_name(f".{dest.name}.part")
    with _writing(dest):
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir(parents=True)
        try:
            _fill(part, source, resolution, channels, max_bad, progress)
            part.rename(dest)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    pyramid = Pyramid.open(dest)
    if pyramid.bad:
        logging.getLogger("progan").warning(
            "%s: left out %d bad images, named in %s", source.name, pyramid.bad, dest / BAD_FILES
        )
    return pyramid


def _fill(
    path: Path, source: Source, resolution: int, channels: int, max_bad: int, progress: bool
) -> None:
    """Write all files of a pyramid into the empty folder `path`."""
    needed, free = size_in_bytes(len(source), channels, resolution), shutil.disk_usage(path).free
    if needed > free:
        raise OSError(f"it takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    bad = _BadImages(source, resolution, max_bad, path / BAD_FILES)
    title = f"{source.name} at {resolution}x{resolution}"
    with (
        PyramidWriter(path, source.name, channels, resolution) as writer,
        _progress_bar(title, len(source), progress) as bar,
    ):
        for batch in _read(source, resolution, channels):
            for i, error in batch.bad:
                bad.add(i, error)
            if bad.count > max_bad:
                raise bad.error(seen=batch.indices.stop)
            if batch.good:
                labels = None if source.labels is None else source.labels[batch.good]
                writer.append(batch.levels, labels)
            bar.update(len(batch.indices))
        if not writer.count:
            raise bad.error(seen=len(source))
        writer.finish(source.classes, bad.count)


class _Batch(NamedTuple):
    indices: range
    good: list[int]
    levels: dict[int, np.ndarray]  # of the good ones
    bad: list[tuple[int, BadImage]]


def _read(source: Source, resolution: int, channels: int) -> Iterator[_Batch]:
    """The images in order, a batch at a time, with threads that work a bounded way ahead."""

    def work(indices: range) -> _Batch:
        images = source.read_batch(indices, resolution, channels)
        pairs = list(zip(indices, images, strict=True))
        bad = [(i, x) for i, x in pairs if isinstance(x, BadImage)]
        good = [i for i, x in pairs if not isinstance(x, BadImage)]
        levels = _levels(np.stack([images[i - indices.start] for i in good])) if good else {}
        return _Batch(indices, good, levels, bad)

    size = min(max(BATCH_BYTES // (channels * resolution**2), 1), 64)
    threads, torch_threads = os.cpu_count() or 1, torch.get_num_threads()
    ahead: deque[Future[_Batch]] = deque()
    # PIL's warnings concern single files and end as BadImage or do no harm. The filters belong to
    # the process, so they are set around all threads. Torch's own threads would fight with ours.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.filterwarnings("ignore", module="PIL")
        torch.set_num_threads(1)
        try:
            for start in range(0, len(source), size):
                ahead.append(pool.submit(work, range(start, min(start + size, len(source)))))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            torch.set_num_threads(torch_threads)
            pool.shutdown(cancel_futures=True)


def _levels(images: np.ndarray) -> dict[int, np.ndarray]:
    """All levels of uint8 [n, C, R, R]: each the average of the un-rounded level above, rounded.

    Exact in float32 up to R = 1024, whose sums at 4x4 take 24 bits. Ties go to the even value.
    """
    levels = {images.shape[-1]: images}
    x = torch.from_numpy(images).float()
    while x.shape[-1] > 4:
        x = downsample2x(x)
        levels[x.shape[-1]] = x.round().to(torch.uint8).numpy()
    return levels


class _BadImages:
    """The images that are left out: counted, listed in a file, explained if they are too many."""

    def __init__(self, source: Source, resolution: int, max_bad: int, path: Path):
        self._source, self._resolution, self._max_bad = source, resolution, max_bad
        self._path, self.count = path, 0
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._first: list[str] = []

    def add(self, i: int, error: BadImage) -> None:
        line = f"{self._source.item_name(i)}: {error}"
        with open(self._path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")
        self.count += 1
        if isinstance(error, TooSmall):
            self._sizes[error.size] += 1
        elif len(self._first) < 3:
            self._first.append(line)

    def error(self, seen: int) -> UserError:
        """What went wrong in the first `seen` images, and what would help."""
        small, source, limit = self._sizes.total(), self._source, self._max_bad
        causes, remedies = [], []
        if small:
            sizes = [f"{w}x{h} ({n})" for (w, h), n in self._sizes.most_common(8)]
            sizes[0] = sizes[0].replace(")", " images)").replace("(1 images", "(1 image")
            causes.append(f"{small} too small: {', '.join(sizes)}")
            if best := self._largest_that_would_do():
                remedies.append(f"-o network.resolution={best}, the largest that would do")
        if self.count > small:
            more = "; …" if self.count - small > len(self._first) else ""
            causes.append(f"{self.count - small} unreadable: {'; '.join(self._first)}{more}")
            remedies.append("mending or removing the files")
        if self.count < seen:
            remedies.append("-o data.max_bad=N to leave out more of them")
        of = f"the first {seen}" if seen < len(source) else f"the {seen}"
        return UserError(
            f"{source.name}: {self.count} of {of} images cannot be used at resolution "
            f"{self._resolution}, and data.max_bad is {limit}: {', and '.join(causes)}. "
            f"What helps: {'; or '.join(remedies)}"
        )

    def _largest_that_would_do(self) -> int | None:
        """The largest resolution at which all but one in a hundred of the sizes suffice."""
        for resolution in reversed(resolutions_to(self._resolution // 2)):
            short = sum(n for size, n in self._sizes.items() if min(size) < resolution)
            if short <= self._sizes.total() // 100:
                return resolution
        return None


@contextmanager
def _progress_bar(title: str, total: int, progress: bool) -> Iterator[tqdm]:
    """A bar on a terminal; elsewhere one line at the start and one at the end."""
    terminal, start = sys.stderr.isatty(), time.monotonic()
    plain = progress and not terminal
    if plain:
        print(f"{title}: preparing {total} images", file=sys.stderr, flush=True)
    with tqdm(total=total, desc=title, unit=" images", disable=not progress or plain) as bar:
        yield bar
    if plain:
        seconds = time.monotonic() - start
        rate = total / max(seconds, 1e-3)
        print(f"{title}: done in {seconds:.1f} s, {rate:.0f} images/s", file=sys.stderr, flush=True)


@contextmanager
def _writing(dest: Path) -> Iterator[None]:
    """Name the remedy where writing fails. Errors of reading are BadImage, never OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the prepared data {dest} ({error}); set data.cache or $PROGAN_CACHE to "
            "a folder that can be written and has room"
        ) from error
