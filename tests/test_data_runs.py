"""Whole runs on every kind of data: the same weights from the same images, exact resume."""

import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import options
from float64 import compute_in_float64
from PIL import Image
from test_processes import assert_equal_to_rounding, train_in_float64
from test_train import assert_identical, state, stop_after, train

from progan.cli.main import main
from progan.data.decode import Square
from progan.data.pyramid import plan, prepare
from progan.data.sources.find import find


def run(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Path:
    """32 images of 8x8, the runs' resolution, so that no filter takes part; in two classes."""
    folder = tmp_path_factory.mktemp("squares")
    draw = np.random.default_rng(5)
    for i in range(32):
        path = folder / "01"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def whole(squares, tmp_path_factory) -> Path:
    """Twelve updates on the folder, with labels."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    train(squares, run_dir, data__labels="true")
    return run_dir


def shards(squares: Path, folder: Path) -> str:
    """The same images, in the same order, as three shards with `.cls` files."""
    files = sorted(squares.glob("*/*.png"))
    folder.mkdir()
    for k in range(3):
        with tarfile.open(folder / f"part-{k}.tar", "w") as archive:
            for path in files[k * 11 : (k + 1) * 11]:
                for suffix, data in (
                    ("png", path.read_bytes()),
                    ("cls", path.parent.name.encode()),
                ):
                    info = tarfile.TarInfo(f"{path.stem}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return str(folder / "part-{0..2}.tar")


def prepared(squares: Path, folder: Path, storage: str) -> str:
    prepare.prepare(find(str(squares), labels=True), folder, Square(8), storage=storage)
    return str(folder)


def data_of_form(form: str, squares: Path, tmp_path: Path, monkeypatch) -> str:
    monkeypatch.setattr(plan, "FIRST_PNG", 8)
    if form == "shards":
        return shards(squares, tmp_path / "shards")
    return prepared(squares, tmp_path / "pyramid", form)


@pytest.mark.parametrize("form", ["raw", "png", "shards"])
def test_the_same_images_train_the_same_weights(squares, whole, tmp_path, monkeypatch, form):
    """Reference: the run on the folder, bit for bit: weights, optimizers, statistics. Only the
    identity of shards differs."""
    data = data_of_form(form, squares, tmp_path, monkeypatch)
    train(data, tmp_path / "run", data__labels="true")
    ignore = ("/progress", "/data") if form == "shards" else ("/progress",)
    assert_identical(state(tmp_path / "run", ignore), state(whole, ignore))


@pytest.mark.parametrize("form", ["png", "shards", "device_cache", "augment"])
def test_resume_is_exact(squares, tmp_path, monkeypatch, form):
    """Reference: twelve updates in one go; here stopped after five, within a fade."""
    settings, data = {"data__labels": "true"}, str(squares)
    if form == "device_cache":
        settings["data__device_cache"] = "true"
    elif form == "augment":
        settings["data__augment"] = "[color, translation, cutout]"
    else:
        data = data_of_form(form, squares, tmp_path, monkeypatch)
    train(data, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert "go on with" in train(data, tmp_path / "run", **settings)
    train(data, tmp_path / "run", **settings)
    assert_identical(state(tmp_path / "run"), state(tmp_path / "whole"))


def test_where_and_how_the_data_are_kept_may_change_on_resume(squares, whole, tmp_path):
    """Reference: the run that stayed with its folder. A run may move to prepared data."""
    shutil.copytree(whole, tmp_path / "run")
    for newest in sorted((tmp_path / "run" / "checkpoints").glob("*.pt"))[1:]:
        newest.unlink()
    data = prepared(squares, tmp_path / "pyramid", "raw")
    train(data, tmp_path / "run", data__labels="true", data__workers=0, data__max_bad=3)
    assert_identical(state(tmp_path / "run"), state(whole))


@pytest.mark.slow
def test_two_processes_equal_one_on_shards(squares, tmp_path, monkeypatch):
    """Reference: one process, in float64, to rounding. Both read their shares from the shards."""
    settings = {"data__labels": "true", "schedule__batch_size": 16, "schedule__total_kimg": 0.192}
    settings |= {"schedule__stable_kimg": 0.064, "schedule__fade_kimg": 0.064}
    data = shards(squares, tmp_path / "shards")
    words = ["train", "--data", data, "--run-dir", tmp_path / "two", *options(**settings)]
    train_in_float64(2, *words)
    compute_in_float64(monkeypatch.setattr)
    train(data, tmp_path / "one", **settings)
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")


def test_the_share_of_time_spent_on_data_is_reported(whole):
    """Reference: its definition: seconds in `Stream.batch` for each second of a tick, so from
    nothing to all of it, and never exactly nothing."""
    lines = [json.loads(line) for line in (whole / "stats.jsonl").read_text().splitlines()]
    assert lines and all(0 < line["Timing/data_wait"] < 1 for line in lines)


def test_a_run_whose_data_has_moved_is_told_how_to_go_on(squares, tmp_path):
    """Reference: the message's own advice, followed."""
    shutil.copytree(squares, tmp_path / "here")
    train(tmp_path / "here", tmp_path / "run", data__labels="true")
    (tmp_path / "run" / "complete").unlink()  # a complete run needs no data
    (tmp_path / "here").rename(tmp_path / "there")
    result = run("train", "--resume", tmp_path / "run")
    assert result.exit_code == 2
    assert f"--resume {tmp_path / 'run'} -o data.source=PATH" in result.stderr
    moved = f"data.source={tmp_path / 'there'}"
    result = run("train", "--resume", tmp_path / "run", "-o", moved)
    assert result.exit_code == 0 and "going on from" in result.stdout, result.stderr


MISTAKES = {
    "network.resolution is 16, and .* ends at 8; set -o network.resolution=8": {
        "network__resolution": 16
    },
    "network.channels is 1, and .* has 3; set -o network.channels=3": {"network__channels": 1},
    "prepared without labels; prepare it again with --labels": {"data__labels": "true"},
    "data.fit has no effect, as .* is prepared already; leave it out": {"data__fit": "pad"},
    "data.max_images has no effect": {"data__max_images": 3},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_prepared_data_that_do_not_fit(squares, tmp_path, message, any_end):
    """Reference: the part of each message that says what to do; exit code 2, no run folder."""
    prepare.prepare(find(str(squares)), tmp_path / "pyramid", Square(8))
    arguments = ["--data", tmp_path / "pyramid", "--run-dir", tmp_path / "run"]
    result = run("train", *arguments, *options(**MISTAKES[message]))
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    assert re.search(message, result.stderr.replace("\n", " ")), result.stderr
    assert not (tmp_path / "run").exists()


def test_unfinished_data_and_shards_with_useless_settings_are_refused(squares, tmp_path):
    """An interrupted preparation is never trained on; nothing is kept of shards."""
    prepare.prepare(find(str(squares)), tmp_path / "pyramid", Square(8))
    (tmp_path / "pyramid" / "meta.json").rename(tmp_path / "pyramid" / "unfinished.jsonl")
    result = run("train", "--data", tmp_path / "pyramid", *options())
    assert result.exit_code == 2 and "is not finished" in result.stderr
    data = shards(squares, tmp_path / "shards")
    result = run("train", "--data", data, *options(data__storage="png"))
    assert result.exit_code == 2 and "data.storage has no effect" in result.stderr
