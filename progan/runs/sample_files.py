"""Samples of a snapshot as files: a picture each, or all in one zip or npz."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from accelerate import Accelerator

from progan.model.grid import PICTURES, save_picture
from progan.runs.sample_archive import is_packed, pack
from progan.runs.samples import Samples
from progan.runtime.disk import open_plain, replaced, replacing
from progan.runtime.distributed import summed
from progan.runtime.errors import UserError
from progan.runtime.lock import Busy, file_lock
from progan.runtime.progress import Say, progress_bar
from progan.runtime.provenance import Provenance
from progan.runtime.text import human_bytes

FEW = 64  # images that are made without a word
WRITERS = 8  # threads: to compress a large PNG takes longer than a GPU needs to make it
SUFFIXES = tuple(PICTURES)
ARCHIVES = (".zip", ".npz")
FOREIGN = (".svg", ".pdf", ".gif", ".eps", ".npy", ".tar")  # that are not written
SEARCHED = 2**16  # bytes at both ends of a picture, of which its marks take 9,000 at most
ENDS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".webp": b""}


def is_picture(out: Path) -> bool:
    """Whether a path is meant as one picture, not as a folder: by its suffix."""
    return out.suffix.lower() in (*SUFFIXES, *FOREIGN) and not out.is_dir()


def is_archive(out: Path) -> bool:
    """Whether a path is meant as one file of many images."""
    return out.suffix.lower() in ARCHIVES and not out.is_dir()


def write_samples(
    samples: Samples, out: Path, suffix: str, accelerator: Accelerator | None, say: Say
) -> str:
    """Write each image as a picture of its own, or all into one zip or npz.

    Images that are there already, of the same snapshot and made in the same way, stay as they are.

    Args:
        out: a folder; a zip or npz; or the file of a single picture, such as `x.png`.
        suffix: of the pictures in a folder or zip.
        accelerator: of several processes, which make a share each.
        say: shows the progress of many images.

    Returns:
        A line for the user.

    Raises:
        UserError: `out` is one picture and the images are several, or it cannot be written.
    """
    if is_archive(out):
        return write_archive(samples, out, suffix, accelerator, say)
    if is_picture(out) and len(samples) > 1:
        raise UserError(
            f"--out {out} is one picture, and {len(samples):,} would be written; add --grid to "
            "have all in one, or give a folder"
        )
    paths = [out] if is_picture(out) else paths_in(out, samples, suffix)
    kept, others = write_pictures(samples, paths, accelerator, say)
    return f"{samples.counted} in {out}{remarks(len(samples), kept, others)}"


def write_archive(
    samples: Samples, out: Path, suffix: str, accelerator: Accelerator | None, say: Say
) -> str:
    """`write_samples` into one file. Until all are made, the pictures lie in a folder next to it,
    so that nothing is lost if this is stopped."""
    parts = parts_of(out)
    paths = paths_in(parts, samples, ".png" if out.suffix.lower() == ".npz" else suffix)
    made_by = samples.made_by()
    if is_packed(out, paths, made_by):
        return f"{samples.counted} in {out}{remarks(len(samples), len(samples), 0)}"
    note = replacing([out])
    main = accelerator is None or accelerator.is_main_process
    with alone_in(parts) if main else nullcontext():
        kept, _ = write_pictures(samples, paths, accelerator, say)
        if main:
            if say and len(paths) > FEW:
                say(f"packing them into {out}")
            pack(out, paths, made_by, samples.arrays())
    return f"{samples.counted} in {out}{remarks(len(samples), kept, 0)}{note}"


@contextmanager
def alone_in(parts: Path) -> Iterator[None]:
    """Holds the folder of an archive's pictures, and removes it if it is empty afterwards.

    Raises:
        UserError: another command, which would remove pictures that this one needs, holds it.
    """
    lock = parts / "lock"
    try:
        with file_lock(lock, wait=False, shared=False):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
                with suppress(OSError):  # something else lies there, too
                    parts.rmdir()
    except Busy:
        raise UserError(
            f"another command makes images in {parts}; wait for it, or give another --out"
        ) from None


def parts_of(out: Path) -> Path:
    """The folder of an archive's pictures until it is complete."""
    return out.with_name(f"{out.name}.partial")


def paths_in(folder: Path, samples: Samples, suffix: str) -> list[Path]:
    return [folder / f"{samples.stem(i)}{suffix}" for i in range(len(samples))]


def remarks(count: int, kept: int, others: int) -> str:
    """What to add to the name of results: how many were there, and how many replaced others."""
    words = []
    if kept:
        words.append("there already" if kept == count else f"{kept:,} of them there already")
    if others:
        words.append(replaced(others, count))
    return f" ({', '.join(words)})" if words else ""


def write_pictures(
    samples: Samples, paths: Sequence[Path], accelerator: Accelerator | None, say: Say
) -> tuple[int, int]:
    """Write the pictures that are not there yet, a batch on each process in turn.

    Returns:
        How many were there already, and how many other files were replaced.
    """
    count, batch, processes, rank = len(paths), samples.batch, 1, 0
    if accelerator is not None:
        processes, rank = accelerator.num_processes, accelerator.process_index
    shown = say if count > FEW else None
    if shown:
        size = human_bytes(count * samples.side**2 * samples.snapshot.G.channels)
        shown(f"{samples.counted}, at most about {size}; if stopped, the same command goes on")
    with ThreadPoolExecutor(WRITERS) as pool:
        missing, others = look_for_missing(samples, paths, accelerator, pool)
        kept = count - len(missing)
        with progress_bar("samples", count, kept, shown if missing else None) as done:
            for start in range(0, len(missing), batch * processes):
                mine = missing[start + rank * batch :][:batch]
                if mine:
                    images, files = samples.make(mine), [paths[i] for i in mine]
                    list(pool.map(save_picture, images, files, map(samples.made_by_each, mine)))
                # All meet after each batch, so that nobody waits long for another at the end.
                done(summed(accelerator, [len(mine)])[0])
    return kept, others


def look_for_missing(
    samples: Samples, paths: Sequence[Path], accelerator: Accelerator | None, pool: Executor
) -> tuple[list[int], int]:
    """The pictures that are not there yet, and in place of how many of them other files are.

    Each process looks for its share; all get the same answer.
    """
    processes, rank = 1, 0
    if accelerator is not None:
        processes, rank = accelerator.num_processes, accelerator.process_index
    share = range(rank, len(paths), processes)
    there = [0] * len(paths)
    files = [paths[i] for i in share]
    there[rank::processes] = pool.map(holds, files, map(samples.made_by_each, share))
    there = summed(accelerator, there)
    missing = [i for i, held in enumerate(there) if not held]
    others = sum(paths[i].is_file() for i in missing if i % processes == rank)
    return missing, summed(accelerator, [others])[0]


def holds(path: Path, made_by: Provenance) -> bool:
    """Whether a picture is there whose marks say just this, and that has not been cut short."""
    end = ENDS.get(path.suffix.lower())
    try:
        with open(path, "rb", opener=open_plain) as file:
            size = file.seek(0, 2)
            file.seek(0)
            first = file.read(SEARCHED)
            file.seek(max(0, size - SEARCHED))
            last = file.read(SEARCHED)
    except (OSError, UserError):  # nothing there, or a link
        return False
    marks = made_by.xmp()  # in a WEBP they come last
    return end is not None and last.endswith(end) and (marks in first or marks in last)
