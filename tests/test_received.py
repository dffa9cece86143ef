"""Runs, prepared folders and caches from somebody else: links, hostile files; no locks."""

import copy
import errno
import io
import math
import os
import pickle
import shutil
import stat
import tracemalloc
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import flat, launched
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_train import train

from progan.cli.dry_run import show_folder
from progan.cli.evaluate import keep
from progan.cli.main import main
from progan.config.load import load_config
from progan.data.decode import Square
from progan.data.pyramid import prepare
from progan.data.sources.find import find
from progan.doctor import folders as doctor
from progan.model.sampling import warn_of_nan
from progan.outputs.report import check_out
from progan.runs.checkpoint import Checkpoint, Progress, read
from progan.runs.folder import check_own, check_run_dir, record_start
from progan.runs.hold import Hold
from progan.runs.records import drop_lines_after, record
from progan.runs.snapshot_file import MOST_HEADER, digest, load_snapshot
from progan.runtime.cache import lock
from progan.runtime.disk import (
    DiskError,
    append,
    append_line,
    read_lines,
    read_plain,
    write_atomically,
    write_json,
)
from progan.runtime.errors import UserError, brief
from progan.runtime.lock import Busy, file_lock
from progan.training.statistics import RunningMeans, Skipped

STAYS = "of the user's\n"


@pytest.fixture(scope="module")
def kept(photos, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "kept"
    train(photos, run_dir, run__tracker="tensorboard", schedule__learning_rate=0.001)
    return run_dir


@pytest.fixture
def run_dir(kept, tmp_path) -> Path:
    """A copy, to be spoilt, which cannot know that it is complete."""
    return Path(shutil.copytree(kept, tmp_path / "run", ignore=lambda *_: ["complete"]))


@pytest.fixture
def target(tmp_path) -> Path:
    """A file of the user's, which must stay as it is."""
    file = tmp_path / "target"
    file.write_text(STAYS)
    yield file
    assert file.read_text() == STAYS and not (tmp_path / "made").exists()


def resume(run_dir: Path, *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["train", "--resume", str(run_dir), *more])
    assert result.exit_code in (0, 2) and "Traceback" not in result.output, result.exception
    return result.exit_code, " ".join(result.output.split())


# Links in place of files


def test_a_link_at_any_name_that_a_run_writes_is_refused(run_dir, target):
    """Reference: the names that a run has written, each with a link there to a file of the user's,
    or to one that does not exist yet; the folders likewise. The name is in the message."""
    written = [path for path in run_dir.rglob("*") if not path.name.startswith("events")]
    assert len(written) > 20
    events = run_dir / "events.out.tfevents.1"
    for path in (*written, run_dir / "stop", run_dir / "metrics.jsonl", events):
        aside = path.with_name("aside")
        there = path.exists()
        for goal in (target, target.with_name("made")):
            if there:
                path.rename(run_dir.parent / aside.name)
            path.symlink_to(goal)
            for check in (check_own, lambda run: check_run_dir(run, load_config())):
                with pytest.raises(UserError, match=path.name):
                    check(run_dir)
            path.unlink()
            if there:
                (run_dir.parent / aside.name).rename(path)
    check_own(run_dir)


def test_a_run_with_links_is_left_alone(run_dir, target):
    """Reference: the command's own message and exit code; a link above the run is the user's."""
    above = run_dir.with_name("above")
    above.symlink_to(run_dir)
    assert resume(above)[0] == 0
    (run_dir / "starts.jsonl").unlink()
    (run_dir / "starts.jsonl").symlink_to(target)
    code, says = resume(run_dir)
    assert code == 2 and f"starts.jsonl is a link to {target}; progan keeps" in says


def test_evaluate_records_nothing_through_a_link(run_dir, target, capsys):
    """Reference: the user's folder, which gets no file, and the reason in what is printed."""
    folder = target.with_name("folder")
    folder.mkdir()
    (run_dir / "evaluated").symlink_to(folder)
    keep(run_dir, load_snapshot(sorted(run_dir.glob("snapshots/*"))[-1]), {"swd": 1.0})
    assert not list(folder.iterdir()) and not (run_dir / "metrics.jsonl").exists()
    assert "not recorded in" in (says := capsys.readouterr().err) and "must be a folder" in says


def plant(kind: str, path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "dangling":
        path.symlink_to(target.with_name("made"))
    elif kind == "hard link":
        os.link(target, path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


WRITERS = {
    "starts.jsonl": lambda run: record_start(run, {}),
    "metrics.jsonl": lambda run: record(run, 8, {"swd": 1.0}),
    "stats.jsonl": lambda run: append(run / "stats.jsonl", "{}\n"),
    "complete": lambda run: append(run / "complete", ""),
    ".lock": lambda run: Hold(run),
}


@pytest.mark.parametrize("kind", ["symlink", "dangling", "hard link", "pipe", "folder"])
def test_nothing_is_written_through_a_link(tmp_path, target, kind):
    """Reference: the user's file. Whatever appends or locks refuses and names the file; whatever
    replaces a file replaces the link."""
    for name, write in WRITERS.items():
        plant(kind, tmp_path / name, target)
        with pytest.raises(UserError, match=name):
            write(tmp_path)
    if kind in ("pipe", "folder"):
        return
    path = tmp_path / "config.yaml"
    for write in (
        lambda: write_atomically(path, lambda part: part.write_text("ours")),
        lambda: write_json(path, "ours", replace=True),
    ):
        plant(kind, path, target)
        write()
        assert "ours" in path.read_text() and not path.is_symlink()
    plant(kind, tmp_path / "stats.jsonl", target)
    if kind == "hard link":
        drop_lines_after(tmp_path / "stats.jsonl", 0)  # replaces the file
    elif kind == "symlink":
        with pytest.raises(UserError, match="stats"):
            drop_lines_after(tmp_path / "stats.jsonl", 0)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_a_folder_is_not_replaced(tmp_path, target, kind):
    """Reference: it is there afterwards, nothing has been made for it, and the message names it."""
    path = tmp_path / "report.html"
    plant(kind, path, target)
    before, made = path.stat().st_mode, []
    for write in (lambda: write_atomically(path, made.append), lambda: check_out(path.parent)):
        with pytest.raises(UserError, match=r"report\.html: there is a (pipe|folder)"):
            write()
    assert path.stat().st_mode == before and not made


def test_records_with_holes(tmp_path):
    """Reference: by hand. A terabyte that takes no room on the disk is not read, but for its end,
    and what is appended to it does not need the rest."""
    file = tmp_path / "stats.jsonl"
    file.touch()
    os.truncate(file, 2**40)
    with pytest.raises(UserError, match=r"stats\.jsonl has 1,099,511,627,776 bytes"):
        read_lines(file)
    append_line(file, {"nimg": 8})
    append_line(file, {"nimg": 16})
    assert read_lines(file, last=100) == [{"nimg": 8}, {"nimg": 16}]
    assert read_plain(file, last=13) == b'{"nimg": 16}\n'
    small = tmp_path / "small"
    small.write_bytes(b"ab")
    assert read_plain(small, last=100) == read_plain(small) == b"ab"


def test_temporaries_have_names_of_their_own(tmp_path, target, monkeypatch):
    """Reference: the user's file, at every name that the last attempt has used; modes as `open`
    gives them; what torch writes into the file has no part by chance."""
    used = []
    for _ in range(2):
        write_atomically(tmp_path / "a.pt", lambda part: [used.append(part), torch.save({}, part)])
        used[-1].symlink_to(target)
    assert used[0] != used[1]
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.namelist()[0] == "a.pt/data.pkl"
    assert (tmp_path / "a.pt").stat().st_mode == target.stat().st_mode
    monkeypatch.setattr("progan.runtime.disk.secrets.token_hex", lambda n: used[-1].name[-8:])
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(tmp_path / "a.pt", lambda part: part.write_text("x"))


def test_prepared_data_are_not_written_through_links(tmp_path, target):
    """Reference: the user's file. Links lie among the files of an unfinished preparation."""
    images = np.zeros((2, 3, 8, 8), np.uint8)
    np.save(tmp_path / "images.npy", images)
    source, square = find(str(tmp_path / "images.npy")), Square(8)
    out = tmp_path / "out"

    def interrupt(writer, *_):
        writer.sync()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare.PyramidWriter, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(source, out, square)
    begun = sorted(path.name for path in out.iterdir())
    assert {"0004.npy", "0008.npy", "unfinished.jsonl", ".lock"} <= set(begun)
    for name in (*begun, "labels.npy", "bad-files.txt", "meta.json"):
        copy = Path(shutil.copytree(out, tmp_path / f"out-{name}"))
        plant("dangling" if name == "meta.json" else "symlink", copy / name, target)
        try:
            prepare.prepare(source, copy, square)
        except UserError as error:
            assert name in str(error)
        else:
            assert not any(path.is_symlink() for path in copy.iterdir())


# File systems without locks


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    """Reference: one process goes on and is warned once; several that need the lock are refused,
    with what helps; a second process without the lock does not wait."""
    for code in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):

        def flock(descriptor, operation, code=code):
            raise OSError(code, os.strerror(code))

        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.flock", flock)
            with Hold(tmp_path / "run"), lock("download", tmp_path):
                assert caplog.text.count("cannot be locked") == 2
                assert os.strerror(code) in caplog.text and "second process" in caplog.text
            assert doctor.locks().says == "a lock in the cache folder excludes nobody"
            launched(patch)
            with Hold(tmp_path / "run"):  # only the main process takes it
                pass
            with pytest.raises(UserError, match=r"PROGAN_CACHE"), lock("download", tmp_path):
                pass


def test_folders_that_cannot_be_synced(tmp_path, monkeypatch):
    """Reference: the file is there; another error of the disk is still one."""
    for code, right in ((errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)):

        def fsync(descriptor, real=os.fsync, code=code):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(code, os.strerror(code))
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with nullcontext() if right else pytest.raises(DiskError, match="Input/output error"):
                write_json(tmp_path / str(code), 1)
        assert (tmp_path / str(code)).read_text() == "1\n"


def test_locks(tmp_path, monkeypatch):
    """Reference: flock: one holder; free again at the end, after an error too, and where the last
    holder has removed the file; a folder that cannot be written is named, not traced."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), file_lock(tmp_path / "a"):
            with pytest.raises(Busy), file_lock(tmp_path / "a", wait=False):
                pass
            1 / 0  # noqa: B018
    real = os.open
    removed = []

    def remove_first(path, *arguments):
        descriptor = real(path, *arguments)
        if not removed:
            removed.append(os.unlink(path))
        return descriptor

    monkeypatch.setattr("progan.runtime.disk.os.open", remove_first)
    with file_lock(tmp_path / "a"), pytest.raises(Busy), file_lock(tmp_path / "a", wait=False):
        pass
    assert removed

    def read_only(path, *arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("progan.runtime.disk.os.open", read_only)
    with pytest.raises(UserError, match="Read-only file system"), lock("a", tmp_path):
        pass


# Checkpoints


def archive_of(path: Path, content: bytes, **parts: bytes) -> Path:
    """A file in torch's format with this pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
        for name, part in parts.items():
            file.writestr(f"archive/data/{name.lstrip('_')}", part)
    return path


class Call:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def storage(kind: str, key: str, count: int, *view: object) -> bytes:
    """A pickle of {"x": a tensor}, whose storage is claimed to have `count` numbers."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", getattr(torch, kind), key, "cpu", count) if value is Call else None

    data = io.BytesIO()
    build = Call(torch._utils._rebuild_tensor_v2, Call, *view, False, {})
    Pickler(data, protocol=2).dump({"x": build})
    return data.getvalue()


HUGE = 3 << 30
VIEW = storage("FloatStorage", "0", 2, 0, (2,), (1,))[:-2]  # without its end
AGAIN = b"(h\x07QK\0J\0\0\0\x7f\x85K\1\x85t"  # its storage, and a size of 2 ** 31
LAUGHS = b"]q\0" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
HOSTILE = {
    "bytearray": (pickle.dumps({"x": Call(bytearray, HUGE)}, 2), {}),
    "bytearray by its own operation": (b"\x80\x05\x96" + HUGE.to_bytes(8, "little") + b".", {}),
    "memo, as text": (b"\x80\x02}p%d\n." % 2**31, {}),
    "laughs": (b"\x80\x02}X\1\0\0\0x" + LAUGHS + b"s.", {}),
    "laughs as a key": (b"\x80\x02}" + LAUGHS + b"\x85K\1s.", {}),
    "a size of lists": (
        storage("FloatStorage", "0", 2, 0, ([0] * 9, HUGE), (1,)),
        {"_0": bytes(8)},
    ),
    "a tensor enlarged": (VIEW + AGAIN + b"bs.", {"_0": bytes(8)}),
    "a tensor as a dictionary": (VIEW + b"K\0K\1ss.", {"_0": bytes(8)}),
    "storage": (storage("FloatStorage", "0", HUGE, 0, (2,), (1,)), {"_0": bytes(8)}),
    "size": (storage("FloatStorage", "0", 2, 0, (HUGE,), (1,)), {"_0": bytes(8)}),
    "stride": (storage("FloatStorage", "0", 2, 0, (HUGE, HUGE), (0, 0)), {"_0": bytes(8)}),
    "beyond": (storage("FloatStorage", "0", 2, 1, (2,), (1,)), {"_0": bytes(8)}),
    "before": (storage("FloatStorage", "0", 2, -1, (2,), (1,)), {"_0": bytes(8)}),
    "code": (pickle.dumps({"x": Call(os.mkdir, "made")}, 2), {}),
    "long": (pickle.dumps({"x": "x" * 2**21}, 2), {}),
    "no dictionary": (pickle.dumps([], 2), {}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_checkpoint_unfolds_to_no_more_than_it_has(tmp_path, case):
    """Reference: memory that Python and torch take: less than 10 MB for files of 3 MB at most."""
    content, parts = HOSTILE[case]
    path = archive_of(tmp_path / "a.pt", content, **parts)
    tracemalloc.start()
    with pytest.raises((ValueError, RuntimeError)):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_parts_that_lie_on_each_other_are_refused(kept, tmp_path):
    """Reference: an index that has the same part a hundred times, of which each could be read."""
    path = Path(shutil.copy(sorted(kept.glob("checkpoints/*"))[-1], tmp_path))
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        for number in range(100):
            archive.filelist.append(copy.copy(largest))
            archive.filelist[-1].filename += str(number)
        archive._didModify = True
    with pytest.raises(ValueError, match="its parts are larger than the file"):
        read(path)


def test_what_is_read_is_what_was_saved(kept, tmp_path):
    """Reference: torch's own reader, on a run's checkpoint; tensors that share a storage, lie in
    it in another order, or have no number."""
    newest = sorted(kept.glob("checkpoints/*"))[-1]
    base = torch.arange(12.0)
    more = {"a": base[2:5], "b": base.view(3, 4).T, "c": base[:0], "d": torch.ones(2).bfloat16()}
    more |= {"n": [1, -(2**40), 0.5, None, True, "é", (1, 2, 3, 4)], "e": torch.tensor(7)}
    torch.save({"progress": {}, "data": more}, tmp_path / "more.pt")
    for path in (newest, tmp_path / "more.pt"):
        ours, torchs = flat(read(path)), flat(torch.load(path, weights_only=True))
        assert ours.keys() == torchs.keys()
        for name, value in torchs.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(ours[name], value) and ours[name].dtype == value.dtype
                assert ours[name].stride() == value.stride()
            else:
                assert ours[name] == value and type(ours[name]) is type(value)


def change(run_dir: Path, edit, newest_only: bool = True) -> Path:
    """Edit the state in checkpoints; returns the newest."""
    files = sorted(run_dir.glob("checkpoints/checkpoint-*.pt"))
    for path in files[-1:] if newest_only else files:
        state = torch.load(path, weights_only=True)
        edit(state)
        torch.save(state, path)
    return files[-1]


@pytest.mark.parametrize(
    "wrong",
    [{"nimg": v} for v in (-8, 96.0, "96", True, None, 10**13)]
    + [{"tick": v} for v in (-1, 1.0, 97, False)]
    + [{"seconds": v} for v in (-1.0, math.nan, math.inf, "1", None)]
    + [{"compiled": v} for v in (1.5, "yes", [])],
)
def test_progress_that_no_run_has(wrong):
    """Reference: types and ranges, by hand."""
    right = {"nimg": 96, "tick": 6, "seconds": 1.5, "compiled": None}
    assert Progress.of(right).tick == 6
    with pytest.raises(ValueError, match="no run can be so far"):
        Progress.of(right | wrong)


def test_a_checkpoint_with_wrong_content_is_passed_over(run_dir, caplog):
    """Reference: the checkpoint before it, from which the run goes on: progress that is off a
    batch; a weight that is not finite, by name; both kinds in all of them end the run."""
    change(run_dir, lambda state: state["progress"].update(nimg=95))
    assert resume(run_dir)[0] == 0
    assert "no update of this run ends at 95 images" in caplog.text

    def moments(state, name):
        return state["G_opt"]["state"][0][name]

    def poison(state):
        state["G_ema"]["blocks.4.dense.weight"][0, 0] = math.nan

    (run_dir / "complete").unlink()
    change(run_dir, lambda state: moments(state, "exp_avg").fill_(math.nan))
    assert resume(run_dir)[0] == 0
    assert "numbers in G_opt.0.exp_avg are not finite" in caplog.text
    (run_dir / "complete").unlink()
    change(run_dir, lambda state: moments(state, "exp_avg_sq").fill_(-1))
    assert resume(run_dir)[0] == 0
    assert "a square or a count in G_opt.0 is below zero" in caplog.text
    (run_dir / "complete").unlink()
    newest = change(run_dir, poison, newest_only=False)
    code, says = resume(run_dir)
    assert code == 2 and "none of the 2 checkpoints" in says
    assert "in G_ema.blocks.4.dense.weight are not finite" in caplog.text
    result = CliRunner().invoke(main, ["checkpoint", "verify", str(run_dir)])
    assert result.exit_code == 2 and f"{newest}: DAMAGED: 1 of " in result.output


def test_a_checkpoint_says_what_it_lacks(run_dir):
    """Reference: what was taken out of it."""
    for taken, says in (
        (lambda state: state["G_opt"]["state"][0].pop("step"), "G_opt.0 lacks step"),
        (lambda state: state["G_opt"]["state"].clear(), "G_opt has no moments"),
        (lambda state: state["G_opt"].pop("state"), "it lacks 'state'"),
        (lambda state: state.pop("progress"), "it lacks 'progress'"),
    ):
        with pytest.raises((ValueError, KeyError)) as error:
            read(change(run_dir, taken))
        assert brief(error.value) == says
    assert brief(OSError("no image <_io.BytesIO object at 0x7fa533faccc0>")) == "no image"


def test_statistics_of_another_shape_are_refused():
    """Reference: the shapes that `state_dict` gives; a broadcast could take any memory."""
    means, skipped = RunningMeans(), Skipped()
    means.add({"a": torch.tensor(1.0)}, 4)
    means.load_state_dict(means.state_dict())
    skipped.load_state_dict(skipped.state_dict())
    for wrong in (torch.zeros(2, 3), torch.zeros(())):
        with pytest.raises(ValueError, match="statistics"):
            means.load_state_dict({"sums": {("a",): wrong}})
    for wrong in (torch.zeros(3), torch.full((2, 2), math.nan), -torch.ones(2, 2)):
        with pytest.raises(ValueError, match="no counts"):
            skipped.load_state_dict({"counts": wrong})


# Settings


def test_a_config_edited_by_hand_is_noticed(run_dir):
    """Reference: the settings that the run was trained with, by the checkpoint itself; those that
    may change may; a file without them, of an older progan, is believed. Where the config is lost,
    the message says how to make it again."""
    config = run_dir / "config.yaml"
    right = config.read_text()
    config.write_text(right.replace("seed: 0", "seed: 7").replace("drift: 0.001", "drift: 0.1"))
    changed = config.read_text()
    code, says = resume(run_dir)
    assert code == 2 and "checkpoint-000000.096.pt was written with other settings than" in says
    assert "run.seed: 0 -> 7" in says and "loss.weights.drift: 0.001 -> 0.1" in says
    assert says.count(" -> ") == 2 and config.read_text() == changed
    with pytest.raises(UserError, match="was written with other settings"):  # in --dry-run, too
        show_folder(load_config(str(config)), run_dir, print)
    checkpoint = Checkpoint(run_dir, load_config(str(config), ["run.keep_checkpoints=9"]))
    assert checkpoint.changes({}) == []
    older = {
        "settings": {"run": {"seed": 7}},
        "progress": {"nimg": 0},
    }  # of a progan that had no other setting
    changes = checkpoint.changes(older)
    assert "network.resolution: 128 -> 8" in changes and not any("run.seed" in c for c in changes)
    config.write_text("# nothing")
    code, says = resume(run_dir)
    assert code == 2 and "config.yaml is empty; delete it. Make it again" in says
    config.unlink()
    code, says = resume(run_dir)
    assert code == 2 and "config.yaml is not there. Make it again with the settings that" in says
    config.write_text(right)
    checkpoint = Checkpoint(run_dir, load_config(str(config), ["run.keep_checkpoints=9"]))
    newest = sorted(run_dir.glob("checkpoints/*"))[-1]
    assert checkpoint.changes(read(newest)) == []
    for file in run_dir.glob("checkpoints/*"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="none of the .* checkpoints in .* can be read"):
        show_folder(load_config(str(config)), run_dir, print)


# Snapshots


def test_a_snapshot_whose_weights_are_not_finite(kept, tmp_path, caplog):
    """Reference: refused by name and number, with a checksum that is right; finite ones that make
    images of NaN are told once."""
    newest = sorted(kept.glob("snapshots/*"))[-1]
    with safe_open(newest, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(newest)
    tensors["blocks.8.conv.weight"][0, :2, 0, 0] = torch.tensor([math.nan, -math.inf])
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, metadata | {"sha256": digest(tensors, metadata)})
    with pytest.raises(UserError, match=r"2 of \d+ numbers in blocks\.8\.conv\.weight are not"):
        load_snapshot(bad)
    tensors = {name: torch.full_like(x, 3e38) for name, x in load_file(newest).items()}
    save_file(tensors, bad, metadata | {"sha256": digest(tensors, metadata)})
    warn_of_nan.cache_clear()
    load_snapshot(bad).sample(range(40))
    assert caplog.text.count("images that the generator makes hold NaN") == 1


def test_a_snapshot_with_a_long_header_or_no_file(kept, tmp_path):
    """Reference: refused by the length that the header claims, and at once where it would wait."""
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes((MOST_HEADER + 1).to_bytes(8, "little") + b" " * 100)
    with pytest.raises(UserError, match="does not begin as a .safetensors file does"):
        load_snapshot(bad)
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(UserError, match="it is no file"):
        load_snapshot(tmp_path / "pipe.safetensors")
