"""Runs the command blocks of README and docs, one after the other, on tiny images and networks.

A block that needs what a test machine lacks has a comment before it that says what, such as
`<!-- needs: a GPU -->`. It is only parsed, by test_docs.py, as are lines of other programs.
"""

import glob
import inspect
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY
from PIL import Image

import progan
from progan.cli.main import main

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- needs: [^>]+ -->\n)?^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "samples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TINY_16 = {key: value for key, value in TINY.items() if not key.startswith("ema.")}
TINY_16 |= {"network.resolution": 16, "schedule.total_kimg": 0.288}
TINY_16 |= {"data.workers": 0, "data.max_images": 64}
SMALL = {  # what is added to a command, so that it takes a second
    "balance": ["--num", "100"],
    "bench": [word for item in TINY_16.items() for word in ("-o", "=".join(map(str, item)))],
    "evaluate": ["--num", "48"],
    "neighbours": ["--seeds", "0-3"],
    "timelapse": ["--seconds", "3"],
    "video": ["--seconds", "3", "--fps", "5"],
}
SMALL["train"] = SMALL["bench"]
NOT_HERE = {"doctor": "two minutes", "explore": "a browser", "project": "a photograph"}
INCEPTION = re.compile(r"\b(fid|kid|pr|is)\d*k?\b")  # metrics that need its weights, a download


def blocks(page: Path, *kinds: str) -> list[str]:
    """The blocks in a page that need nothing, of one of these languages."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [body for needs, kind, body in found if not needs and kind in kinds]


def commands(page: Path) -> list[list[str]]:
    """The commands of progan in a page that are to be run."""
    found = []
    for body in blocks(page, "", "sh"):
        lines = body.replace("\\\n", " ").splitlines()
        shown = lines[0].startswith("$ ")  # then what it prints follows
        for line in lines[:1] if shown else lines:
            line = line.removeprefix("$ ")
            if line.startswith("progan ") and not INCEPTION.search(line.split("#")[0]):
                found.append(shlex.split(line, comments=True)[1:])
    found = [words for words in found if words[0] not in NOT_HERE and "--class" not in words]
    return found


RUN = {page.relative_to(ROOT).as_posix(): commands(page) for page in PAGES}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """64 images in two folders: as many as `progan balance` needs."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for i in range(64):
        path = folder / ("cats" if i % 3 else "dogs") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """A run that stands for all runs that a page has not trained itself."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings = ["-o", "run.metrics={swd48: 6}", "-o", "ema.kind=power"]
    words = ["train", "--data", str(photos), "--run-dir", str(folder), *SMALL["train"], *settings]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


def prepared(words: list[str], trained: Path) -> list[str]:
    """A small form of a command, all that it reads being there."""
    words = [re.sub(r"\b(swd|msssim)\d+k?\b", r"\g<1>48", word) for word in words]
    words = [word.replace("006600.000", "000000.288") for word in words]
    words = [word.replace("start_resolution=128", "start_resolution=16") for word in words]
    for word in words if words[0] != "train" or "--init" in words else []:
        run = re.match(r"runs/[\w-]+", word)
        if run and not Path(run[0]).exists() and words[words.index(word) - 1] != "--run-dir":
            shutil.copytree(trained, run[0])
        if run and words[0] == "average" and not (Path(run[0]) / "averages").exists():
            shutil.rmtree(run[0])  # "begun with -o ema.kind=power"
            shutil.copytree(trained, run[0])
    if "--num" in words:
        words[words.index("--num") + 1] = "30"
    words = [file for word in words for file in (sorted(glob.glob(word)) or [word])]
    if words[0] == "find-rate":
        words += ["--updates", "20", *(SMALL["train"] if "--data" in words else [])]
    if words[0] == "average" and "--sweep" in words:
        words += ["--metric", "swd48"]
    return words + SMALL.get(words[0], [])


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, commands in RUN.items() if commands])
def test_blocks(page, photos, trained, here, monkeypatch):
    """Reference: exit code 0, and where a page shows what a command prints, these lines."""
    for name in ("photos", "labelled"):
        os.symlink(photos, name)
    for folder in ("experiments", "runs"):
        shutil.copytree(trained, Path(folder) / "first")
    tiny = "network: {resolution: 16, z_dim: 8, channel_base: 64, channel_max: 8}\n"
    Path("my.yaml").write_text(tiny, encoding="utf-8")
    for words in RUN[page]:
        small = prepared(words, trained)
        result = CliRunner().invoke(main, small)
        told = f"progan {shlex.join(words)}\n{shlex.join(small)}\n{result.output}"
        assert result.exit_code == 0, f"{told}\n{result.exception!r}"


def test_output_that_pages_show():
    """Reference: what the command prints, line by line."""
    shown = 0
    for page in PAGES:
        for body in blocks(page, "", "sh"):
            if body.startswith("$ progan "):
                line, _, output = body.partition("\n")
                result = CliRunner().invoke(main, shlex.split(line)[2:], catch_exceptions=False)
                assert result.output == output
                shown += 1
    assert shown


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUN if blocks(ROOT / page, "python")])
def test_python_blocks(page, trained, here, monkeypatch):
    """Reference: Python. No line fails on a finished run (which README's would train first)."""
    arguments = inspect.signature(progan.train)

    def finished(*given, **named):
        return progan.load(arguments.bind(*given, **named).arguments["run_dir"])

    for name in ("demo", "faces", "photos"):
        shutil.copytree(trained, Path("runs") / name)
    monkeypatch.setattr(progan, "train", finished)
    names: dict[str, object] = {}
    for body in blocks(ROOT / page, "python"):
        small = re.sub(r"seconds=\d+", "seconds=1", body.replace("swd2000", "swd48"))
        exec(small, names)
