"""How fast images are prepared and read, compared with the plain ways. Its last line is JSON.

    python benchmarks/data.py --photos faces.zip      # a zip of images of 128x128 or more
    python benchmarks/data.py                         # drawn images instead

Both sides of each comparison run in turn, on the same files. Trust the ratios: machines differ.
Needs about 6 GB of disk in --work. Functions import torch, not this file, as worker processes
import it again.
"""

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from progan.config.resolutions import resolutions_to
from progan.data.decode import Square
from progan.data.pyramid.format import Pyramid
from progan.data.pyramid.prepare import prepare
from progan.data.sources import demo
from progan.data.sources.find import find

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a zip of images of 128x128 or more")
    parser.add_argument("--work", type=Path, help="an empty folder [default: a temporary one]")
    parser.add_argument("--part", choices=["prepare", "read", "train"], help="only this")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="progan-bench-"))
    work.mkdir(exist_ok=True)
    parts = {"prepare": bench_prepare, "read": bench_read, "train": bench_train}
    figures: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    figures |= {name: version(name) for name in ("torch", "torchvision", "pillow", "simplejpeg")}
    try:
        for name, part in parts.items():
            if arguments.part in (None, name):
                figures[name] = part(work, arguments.photos)
    finally:
        if not arguments.work:
            shutil.rmtree(work)
    print(json.dumps(figures))


# --- preparing ---


def bench_prepare(work: Path, photos: Path | None) -> dict:
    """Prepare levels up to 128x128, from images of 128x128 and from JPEGs of 1024x1024."""
    photos = photos or draw_zip(work / "drawn128.zip", 4096, 128)
    large = draw_zip(work / "drawn1024.zip", 400, 1024)
    return {
        "128 from 128": compare_preparing(photos, work, 10_000),
        "128 from 1024": compare_preparing(large, work, 400),
    }


def compare_preparing(archive: Path, work: Path, limit: int) -> dict:
    """Images/s of both ways, until all is on the disk; the best of two rounds."""
    count = min(limit, len(find(str(archive))))
    seconds: dict[str, list[float]] = {
        "loop": [],
        "loop, decoding for each level": [],
        "progan": [],
    }
    for _ in range(2):
        seconds["loop"].append(timed(lambda: plain_loop(archive, work / "loop", limit, True)))
        seconds["loop, decoding for each level"].append(
            timed(lambda: plain_loop(archive, work / "loop", limit, False))
        )
        shutil.rmtree(work / "out", ignore_errors=True)
        source = find(str(archive), limit=limit)
        seconds["progan"].append(timed(partial(prepare, source, work / "out", Square(128))))
    rates = {name: count / min(times) for name, times in seconds.items()}
    report(f"preparing 128x128 from {archive.name} ({count} images)", rates)
    ratios = {f"ratio to the {name}": rates["progan"] / rates[name] for name in rates}
    del ratios["ratio to the progan"]
    return rates | ratios


def plain_loop(archive: Path, folder: Path, limit: int, once: bool) -> None:
    """The obvious way: open each image, resize it to each level, append."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with ExitStack() as stack:
        files = {
            r: stack.enter_context(open(folder / f"{r}.bin", "wb")) for r in resolutions_to(128)
        }
        opened = stack.enter_context(zipfile.ZipFile(archive))
        for name in [n for n in opened.namelist() if not n.endswith("/")][:limit]:
            data = opened.read(name)
            image = None
            for r, file in files.items():
                if image is None or not once:
                    image = Image.open(io.BytesIO(data)).convert("RGB")
                level = image.resize((r, r), Image.Resampling.BOX)
                file.write(np.asarray(level).transpose(2, 0, 1).tobytes())
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())


# --- reading ---


def bench_read(work: Path, photos: Path | None) -> dict:
    """Read shuffled float batches in [-1, 1] at each level, after emptying the disk's cache."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    folder = work / "images256"
    if not folder.exists():
        write_folder(folder, photos, 10_000, 256)
    pyramid = prepare(find(str(folder)), work / "pyramid256", Square(256))
    figures = {}
    for r in resolutions_to(256):
        dataset = ImageFolder(
            str(folder),
            transforms.Compose(
                [
                    transforms.Resize(r),
                    transforms.ToTensor(),
                    transforms.Normalize((0.5,) * 3, (0.5,) * 3),
                ]
            ),
        )
        count = 3000
        forget(folder)
        plain = read_loader(dataset, count)
        count = 9984 if r <= 64 else 4992
        forget(pyramid.path)
        cold = read_stream(pyramid, r, count)
        warm = read_stream(pyramid, r, count)
        rates = {"ImageFolder, 2 workers": plain, "progan": cold, "progan, in memory": warm}
        report(f"reading {r}x{r}", rates)
        figures[r] = rates | {"ratio": cold / plain}
    return figures


def read_loader(dataset, count: int) -> float:
    """Images/s after the first batch, so that starting the workers does not count against it."""
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2, drop_last=True)
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in range(count // BATCH):
        images, _ = next(batches)
        assert images.dtype == torch.float32
    return count // BATCH * BATCH / (time.perf_counter() - start)


def read_stream(pyramid: Pyramid, resolution: int, count: int) -> float:
    """Images/s of progan's batches, after the first."""
    import torch

    from progan.data.stream import Stream

    stream = Stream(pyramid, seed=0)
    stream.batch(0, BATCH, resolution)
    start = time.perf_counter()
    for batch in range(1, count // BATCH + 1):
        assert stream.batch(batch * BATCH, BATCH, resolution).images.dtype == torch.float32
    rate = count // BATCH * BATCH / (time.perf_counter() - start)
    stream.close()
    return rate


def forget(folder: Path) -> None:
    """Make the system drop a folder's files from its cache (Linux)."""
    os.sync()  # only what is on the disk can be dropped
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# --- training ---


def bench_train(work: Path, photos: Path | None) -> dict:
    """Share of the time that the demo, shortened to a fifth, waits for data."""
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "progan", "train", "--data", "demo", "--run-dir", str(run)]
    lengths = {"stable_kimg": 0.5, "fade_kimg": 0.5, "total_kimg": 5}
    for key, value in lengths.items():
        command += ["-o", f"schedule.{key}={value}"]
    command += ["-o", "run.tick_kimg=0.25", "-o", f"data.cache={work / 'cache'}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    waits: dict[int, list[float]] = {}
    waited = total = last = 0.0
    for line in lines:
        hours = line["Timing/total_hours"]
        seconds, last = 3600 * (hours - last), hours
        total += seconds
        waited += seconds * line["Timing/data_wait"]
        waits.setdefault(line["Progress/resolution"], []).append(line["Timing/data_wait"])
    figures = {f"{r}x{r}": sum(shares) / len(shares) for r, shares in waits.items()}
    figures["all"] = waited / total
    print("waiting for data while training the demo:", flush=True)
    for name, share in figures.items():
        print(f"  {name:<34} {100 * share:8.2f} %", flush=True)
    return figures


# --- images ---


def textured(indices: list[int], resolution: int) -> np.ndarray:
    """Drawn faces with grain, so that JPEGs are as large as photographs: uint8 [n, r, r, 3]."""
    draw = np.random.default_rng(indices[0])
    faces = demo.draw(0, indices, resolution).transpose(0, 2, 3, 1).astype(np.float32)
    grain = draw.standard_normal(faces.shape[:3] + (1,), dtype=np.float32) * 6
    return np.clip(faces + grain, 0, 255).astype(np.uint8)


def draw_zip(path: Path, count: int, resolution: int) -> Path:
    """Draw images into a zip of JPEGs."""
    if not path.exists():
        with zipfile.ZipFile(path, "w") as archive:
            for start in range(0, count, 16):
                images = textured(list(range(start, start + 16)), resolution)
                for i, image in enumerate(images, start):
                    archive.writestr(f"{i:05d}.jpg", to_jpeg(Image.fromarray(image)))
    return path


def write_folder(folder: Path, photos: Path | None, count: int, resolution: int) -> None:
    """Write a folder of JPEGs, in the one class folder that ImageFolder needs."""
    (folder / "all").mkdir(parents=True)
    if photos:
        source = find(str(photos), limit=count)
        for i in range(len(source)):
            content = source.content(i)
            assert isinstance(content, bytes), "an image file"
            image = Image.open(io.BytesIO(content)).convert("RGB")
            image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
            (folder / "all" / f"{i:05d}.jpg").write_bytes(to_jpeg(image))
        return
    for start in range(0, count, 16):
        for i, image in enumerate(textured(list(range(start, start + 16)), resolution), start):
            (folder / "all" / f"{i:05d}.jpg").write_bytes(to_jpeg(Image.fromarray(image)))


def to_jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(title: str, rates: dict[str, float]) -> None:
    print(f"{title}:", flush=True)
    for name, rate in rates.items():
        print(f"  {name:<34} {rate:8.0f} images/s", flush=True)


if __name__ == "__main__":
    main()
