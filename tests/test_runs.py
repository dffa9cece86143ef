"""Runs at hand: their states from files and processes, the table, the page, what can be cleaned."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import options

from progan.cli.main import main
from progan.cli.runs import HEAD
from progan.config.load import load_config
from progan.data.decode import Square
from progan.data.pyramid import prepare
from progan.data.pyramid.prepare import LOCK
from progan.data.sources.find import find
from progan.runs import state
from progan.runs.best import best_path
from progan.runs.folder import program, read_config
from progan.runs.heartbeat import RUNNING, SILENT, read_life
from progan.runs.hold import Hold
from progan.runs.records import STATS, record
from progan.runs.snapshot_file import snapshot_path
from progan.runs.spare_cache import DELETED
from progan.runs.state import state_of
from progan.runs.which_run import runs_below
from progan.runtime.lock import file_lock
from progan.runtime.stopping import StopRequest
from progan.training.trainer import Trainer

LEFT = ".partial-0123abcd"  # ends the name of a file that a killed process has begun
HOLDING = (
    "import sys, time; from pathlib import Path; from progan.runs.hold import Hold; "
    "hold = Hold(Path(sys.argv[1])); hold.begin(); print('holds', flush=True); time.sleep(600)"
)


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> tuple[Path, Path, set[str]]:
    """A complete run, one that was stopped after 64 images, and the states while they trained."""
    folder, seen, step = tmp_path_factory.mktemp("runs"), set[str](), Trainer.train_step

    def train_step(self, phase):
        step(self, phase)
        seen.add(state_of(self.run_dir).name)
        self.stop.over = "stopped" in str(self.run_dir) and self.progress.nimg == 64

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", train_step)
        patch.setattr(StopRequest, "reason", lambda self: "asked" if self.over else None)
        patch.setattr(StopRequest, "over", False, raising=False)
        for name in ("complete", "stopped"):
            words = ["--run-dir", folder / name, *options()]
            assert run("train", "--data", photos, *words).exit_code == 0
    return folder / "complete", folder / "stopped", seen


@pytest.fixture
def begun(trained, tmp_path) -> Path:
    """A copy of the stopped run."""
    return shutil.copytree(trained[1], tmp_path / "runs" / "begun")


def test_states_of_a_run_that_trains_and_ends(trained):
    """Reference: what has been done with the runs."""
    complete, stopped, seen = trained
    assert seen == {"running"}
    assert state_of(complete).name == "complete" and state_of(stopped).name == "stopped"
    assert not (complete / RUNNING).exists() and not (stopped / RUNNING).exists()


def test_a_process_that_trains_and_is_killed(begun):
    """Reference: a real process, which holds the folder as training does."""
    with subprocess.Popen([sys.executable, "-c", HOLDING, begun], stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        found = state_of(begun)
        assert found.name == "running" and f"process {other.pid} on" in found.because
        other.kill()
    found = state_of(begun)
    assert found.name == "dead" and f"process {other.pid} on" in found.because
    with Hold(begun) as hold:
        hold.begin()
        assert state_of(begun).name == "running", "of this process"
        hold.end()
    assert state_of(begun).name == "stopped"


@pytest.mark.parametrize("held", [False, None])
def test_on_a_disk_that_machines_share(begun, monkeypatch, held):
    """Reference: the time of the file `running`, where another machine's lock cannot be seen, or
    there are no locks."""
    monkeypatch.setattr(state, "is_held", lambda path: held)
    file = begun / RUNNING
    with Hold(begun) as hold:
        hold.begin()
        if held is False:
            file.write_text(file.read_text().replace(str(read_system(file)), "another"))
        assert state_of(begun).name == "running" and "last sign of life" in state_of(begun).because
    before = time.time() - SILENT - 1
    os.utime(file, (before, before))
    assert state_of(begun).name == "dead"
    file.write_text("{")
    assert read_life(begun) and state_of(begun).name == "running"


def read_system(file: Path) -> str:
    return json.loads(file.read_text())["system"]


@pytest.mark.parametrize("pid", ["1e400", "-1", "true", "[1]", "9" * 4000, "1.5", '"1"'])
def test_a_process_of_no_number(begun, pid):
    """Reference: the process is unknown, and the time of the file counts as of any other."""
    (begun / RUNNING).write_text(f'{{"host": "h", "pid": {pid}, "system": "s"}}')
    assert read_life(begun).host == "an unknown machine" and state_of(begun).name == "running"
    os.utime(begun / RUNNING, (0, 0))
    assert state_of(begun).name == "dead" and run("runs", begun.parent).exit_code == 0


def test_signs_of_life_come_by_themselves(begun, monkeypatch):
    """Reference: the time of the file, which is set back."""
    monkeypatch.setattr("progan.runs.heartbeat.BEAT", 0.01)
    with Hold(begun) as hold:
        hold.begin()
        os.utime(begun / RUNNING, (0, 0))
        end = time.monotonic() + 10
        while (begun / RUNNING).stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.01)
        life = read_life(begun)
        assert life and life.age < SILENT and life.pid == os.getpid() and life.here
        (begun / RUNNING).unlink()
        hold.keep(read_config(begun, []), 64)
        assert (begun / RUNNING).exists(), "it was deleted while the run trained"
        begun.rename(begun.with_name("moved"))
        hold.keep(load_config(None, []), 64)
        assert state_of(begun).name == "running", "the folder was moved while the run trained"


def test_runs_of_before(begun):
    """Reference: a run without the file, stopped in good order, killed long ago, or seconds ago."""
    file = begun / STATS
    assert state_of(begun).name == "stopped"
    line = json.loads(file.read_text().splitlines()[-1])
    with open(file, "a") as opened:
        opened.write(json.dumps(line | {"nimg": 80, "Timing/total_hours": 1.0}) + "\n")
    assert state_of(begun).name == "running", "ticks take an hour"
    os.utime(file, (0, 0))
    assert state_of(begun).name == "dead"


def test_how_a_command_is_recorded():
    """Reference: what people type. Programs that call progan stay as they are."""
    for path in ("/home/me/env/bin/progan", "progan"):
        assert program(path) == ["progan"]
    assert program("/home/me/progan/progan/__main__.py") == ["python", "-m", "progan"]
    assert program("/home/me/mine.py") == ["/home/me/mine.py"]


def test_the_table_and_the_page(trained, begun, tmp_path):
    """Reference: the files of the runs. Other folders, and what links lead to, are no runs."""
    runs = tmp_path / "runs"
    whole = shutil.copytree(trained[0], runs / "inner" / "whole")
    record(whole, 64, {"swd16": 2.5, "swd16_floor": 1.0})
    record(whole, 96, {"swd16": 3.5})
    shutil.copy(snapshot_path(whole, 96), best_path(whole, "swd16", 8, 64))
    broken = shutil.copytree(trained[1], runs / "broken")
    (broken / "config.yaml").write_text("run: [")
    (runs / "hydra").mkdir()
    (runs / "hydra" / "config.yaml").write_text("a: 1\n")
    (runs / "link").symlink_to(begun, target_is_directory=True)
    assert [path.name for path in runs_below(runs)] == ["begun", "broken", "whole"]
    result = run("runs", runs, "--json", tmp_path / "runs.json")
    lines = result.output.splitlines()
    assert tuple(lines[0].split()) == HEAD
    assert lines[1].split()[:6] == ["begun", "stopped", "0.064", "of", "0.096", "8x8"]
    assert lines[2].split()[:3] == ["broken", "damaged", "-"] and lines[4].startswith(str(broken))
    assert lines[3].split()[-6:] == "0.096 0.064 (swd16 2.5), swd16 3.5".replace(",", "").split()
    content = json.loads((tmp_path / "runs.json").read_text())
    assert [each["state"] for each in content] == ["stopped", "damaged", "complete"]
    assert content[0]["nimg"] == 64 and content[0]["seconds_left"] > 0
    assert content[2]["seconds_left"] < 1 and content[2]["snapshots"][-1] == 0.096
    with open(begun / STATS, "a") as file:
        file.write('{"nimg": 64, "Loss/D": [], "Timing/total_hours": -1}\n')
        file.write('{"nimg": 32, "Loss/D": 1}\n')
    page = run("show", begun).output
    assert f"{begun} is stopped" in page and f"progan train --resume {begun}" in page
    assert "  at 0.064 kimg:\n" in page and "0.064 of 0.096 kimg" in page
    assert "trained" not in page
    assert "phase 2 of 3, 8x8 fading" in page and "cats" not in page
    assert run("show", broken).exit_code == 2
    assert "no run in" in run("runs", runs / "hydra").output
    assert run("runs", tmp_path / "none").exit_code == 2


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_clean_a_run(begun, photos):
    """Reference: the run goes on from what is left, to its end. The newest checkpoint is damaged,
    so the one before it stays; nothing is deleted without --yes, or while it is running."""
    best = best_path(begun, "swd16", 8, 32)
    shutil.copy(snapshot_path(begun, 32), best)
    newest, older = sorted((begun / "checkpoints").iterdir())[::-1]
    os.truncate(newest, 1000)
    (begun / "images" / f"x.png{LEFT}").touch()
    before = files_of(begun)
    gone = {f"images/x.png{LEFT}", *(str(snapshot_path(Path(), n)) for n in (32, 48))}
    listed = run("clean", begun)
    assert {word.removeprefix(f"{begun}/") for word in listed.output.split()} & before == gone
    assert files_of(begun) == before and f"progan clean {begun} --yes" in listed.output
    with Hold(begun):
        assert "is running" in run("clean", begun, "--yes").output and files_of(begun) == before
    assert "deleted: " in run("clean", begun, "--yes").output
    assert files_of(begun) == before - gone and older.exists()
    assert run("clean", begun).output == "nothing to delete\n"
    assert run("train", "--resume", begun).exit_code == 0
    assert state_of(begun).name == "complete"
    older = sorted((begun / "checkpoints").glob("*.pt"))[0]
    older.rename(begun / "mine")
    older.symlink_to(begun / "mine")
    assert run("clean", begun, "--yes").exit_code == 2 and (begun / "mine").exists()


def test_what_is_not_of_a_run_stays(begun, caplog):
    """Reference: files of the user's with names like those of progan's own, which neither cleaning
    nor going on deletes; a folder that is in the way; a file that the system does not delete, which
    is named, and is not said to be deleted."""
    mine = ["x.partial-draft", "images/a.partial.odt", "my/b.png.partial", f"my/c{LEFT}"]
    for name in mine:
        (begun / name).parent.mkdir(exist_ok=True)
        (begun / name).touch()
    folder = begun / "checkpoints" / "checkpoint-000000.001.pt.damaged"
    folder.mkdir()
    kept, left = begun / "snapshots" / "kept.png.partial", begun / f"left{LEFT}"
    kept.touch()
    left.touch()
    real = Path.unlink

    def unlink(self, missing_ok=False):
        if self == kept:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(self))
        real(self, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        result = run("clean", begun, "--yes")
    assert str(left) in result.output and str(kept) not in result.output
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"{kept} is left, as it cannot be deleted: Operation not permitted"
    ]
    assert folder.is_dir() and kept.exists() and not left.exists()
    left.touch()
    assert run("train", "--resume", begun).exit_code == 0
    assert all((begun / name).exists() for name in mine) and not kept.exists() | left.exists()


def test_clean_the_cache(trained, photos, tmp_path, monkeypatch):
    """Reference: data that the runs were trained on, and others. Data of a run without a snapshot
    are those that are called as its source."""
    cars = tmp_path / "cars"
    shutil.copytree(photos / "dogs", cars)
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    used, other = (prepare.cached(find(str(path)), Square(8)).path for path in (photos, cars))
    pyramids, cache = used.parent, tmp_path / "cache"
    measured, code = cache / "metrics" / f"{other.name}-8-ab", cache / "compiled" / "x"
    begun = pyramids / f"old-{'0' * 16}{DELETED}"
    mine = (cache / "compiled-mine", pyramids / "egypt", pyramids / f"photos-{'x' * 16}")
    for folder in (measured, code, begun, *mine):  # the last are the user's
        folder.mkdir(parents=True)
    (pyramids / "link").symlink_to(photos, target_is_directory=True)
    runs = tmp_path / "runs"
    one = shutil.copytree(trained[1], runs / "one")
    with Hold(one):
        assert str(code.parent) not in run("clean", "--cache", runs).output
    words = run("clean", "--cache", runs).output.split()
    gone = {other, measured, code.parent, begun}
    assert {Path(word) for word in words if "/cache/" in word} == gone
    two = shutil.copytree(trained[1], runs / "two")
    shutil.rmtree(two / "snapshots")
    config = (two / "config.yaml").read_text()
    (two / "config.yaml").write_text(config.replace(str(photos), str(cars)))
    assert other.name not in run("clean", "--cache", runs).output
    shutil.rmtree(two)
    (one / "config.yaml").write_text("a")
    assert "is damaged" in run("clean", "--cache", runs, "--yes").output and other.exists()
    (one / "config.yaml").write_text(config)
    assert "deleted: " in run("clean", "--cache", runs, "--yes").output
    names = {used.name, "link", *(folder.name for folder in mine[1:])}
    assert {path.name for path in pyramids.iterdir()} == names and cars.exists()
    assert not code.exists() and not measured.exists() and any(photos.iterdir())
    assert all(folder.is_dir() for folder in mine)


def test_data_that_are_prepared_meanwhile_are_not_deleted(tmp_path, monkeypatch, caplog):
    """Reference: the lock that preparing holds, taken once the folder has been listed."""
    monkeypatch.setenv("PROGAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "pyramids" / f"cars-{'0' * 16}"
    folder.mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    with file_lock(folder / LOCK):
        monkeypatch.setattr("progan.runs.spare_cache.is_held", lambda path: False)
        assert "nothing to delete" in run("clean", "--cache", tmp_path / "runs", "--yes").output
    assert folder.is_dir() and "deleted: data are being prepared there" in caplog.text
