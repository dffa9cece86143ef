"""`import progan`: names, signatures, what is loaded, and whole runs from Python."""

import _thread
import inspect
import logging
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import TINY
from nbclient import NotebookClient
from PIL import Image

import progan
from progan.cli.main import main
from progan.config.load import assignments
from progan.config.yaml_io import parse_yaml
from progan.data.pyramid.format import Pyramid
from progan.model.sampling import TrainedGenerator, latents, slerp
from progan.runs.hold import Hold
from progan.runs.init_file import read_other
from progan.runs.which_snapshot import find_snapshot
from progan.training.request import new_run, old_run
from progan.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
# Each name and how it is called; None: a class whose arguments are those of its module's tests.
SIGNATURES = {
    "Config": None,
    "Critic": "(resolution: int, channels: int = 3, c_dim: int = 0, channel_base: int = 16384, "
    "channel_max: int = 512, fused_scale: bool = True, stddev_group: int = 4, "
    "equalized: bool = True, widths: collections.abc.Mapping[int, int] | None = None, "
    "hidden: int | None = None, stddev_variance: Literal['biased', 'unbiased'] = 'biased', "
    "first_fade: bool = True)",
    "Generator": "(resolution: int, channels: int = 3, z_dim: int = 512, c_dim: int = 0, "
    "channel_base: int = 16384, channel_max: int = 512, fused_scale: bool = True, "
    "equalized: bool = True, pixel_norm: bool = True, "
    "widths: collections.abc.Mapping[int, int] | None = None, "
    "start_bias: Literal['channel', 'position'] = 'channel', start_norm: bool = True, "
    "norm: Literal['mean-square', 'rms'] = 'mean-square', label_norm: bool = True, "
    "output: Literal['linear', 'tanh'] = 'linear')",
    "Phase": None,
    "Schedule": None,
    "Snapshot": None,
    "UserError": None,
    "evaluate": "(snapshot: progan.runs.snapshot.Snapshot | str | pathlib.Path, "
    "metrics: str | collections.abc.Sequence[str] = ('swd16k', 'msssim10k'), "
    "data: str | pathlib.Path | None = None, *, device: str = 'auto', "
    "inception: str | pathlib.Path | None = None) -> dict[str, float]",
    "load": "(run_or_snapshot: str | pathlib.Path, which: str | float = 'newest') "
    "-> progan.runs.snapshot.Snapshot",
    "load_config": "(name: str | pathlib.Path | None = None, "
    "overrides: collections.abc.Sequence[str] | collections.abc.Mapping[str, typing.Any] = ()) "
    "-> progan.config.config.Config",
    "measure": "(metric: str | progan.metrics.metric.Metric, "
    "reals: numpy.ndarray | torch.Tensor | "
    "collections.abc.Iterable[numpy.ndarray | torch.Tensor], "
    "fakes: numpy.ndarray | torch.Tensor | "
    "collections.abc.Iterable[numpy.ndarray | torch.Tensor], "
    "device: torch.device | str = 'cpu') -> dict[str, float]",
    "open_data": "(config: progan.config.config.Config, download: bool = False, "
    "say: collections.abc.Callable[[str], None] = <built-in function print>) "
    "-> progan.data.dataset.Dataset",
    "resume": "(run_dir: str | pathlib.Path, "
    "overrides: collections.abc.Mapping[str, typing.Any] | None = None, *, "
    "max_hours: float | None = None) -> progan.runs.snapshot.Snapshot",
    "to_pil": "(images: numpy.ndarray) -> list[PIL.Image.Image]",
    "train": "(data: str | pathlib.Path | None = None, "
    "config: str | pathlib.Path | progan.config.config.Config | None = None, "
    "run_dir: str | pathlib.Path | None = None, "
    "overrides: collections.abc.Mapping[str, typing.Any] | None = None, *, "
    "init: str | pathlib.Path | None = None, freeze_d: int | None = None, "
    "download: bool = False, max_hours: float | None = None) -> progan.runs.snapshot.Snapshot",
}
METHODS = {
    "sample": "(self, seeds: collections.abc.Iterable[int] = range(0, 16), *, "
    "classes: int | str | collections.abc.Iterable[int | str] | None = None, "
    "resolution: int | None = None) -> numpy.ndarray",
    "interpolate": "(self, a: int, b: int, steps: int = 16, *, classes: int | str | None = None, "
    "resolution: int | None = None) -> numpy.ndarray",
}
TINY_16 = {key: parse_yaml(str(value), key) for key, value in TINY.items()} | {
    "network.resolution": 16,
    "schedule.total_kimg": 0.16,
    "data.workers": 0,
}

OTHER = progan.load_config("demo")


def started_with(code: str, *arguments: object) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run_dir(photos, tmp_path_factory) -> Path:
    """A run with classes, made by the command; 4x4 to 16x16."""
    folder = tmp_path_factory.mktemp("runs") / "photos"
    settings = TINY_16 | {"data.labels": True, "run.metrics": {"swd48": 6}}
    arguments = [word for each in assignments(settings) for word in ("-o", each)]
    command = ["train", "--data", str(photos), "--run-dir", str(folder), *arguments]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


# Names ------------------------------------------------------------------------------------------


def test_every_name_and_its_signature():
    """Reference: the table above; a change of a signature is a change of what users call."""
    assert list(SIGNATURES) == progan.__all__ == sorted(progan.HOMES)
    for name, signature in SIGNATURES.items():
        public = getattr(progan, name)
        if signature is None:
            assert inspect.isclass(public)
        else:
            assert str(inspect.signature(public)) == signature
    for name, signature in METHODS.items():
        assert str(inspect.signature(getattr(progan.Snapshot, name))) == signature
    assert [name for name in dir(progan) if not name.startswith("__")] == progan.__all__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        progan.trian  # noqa: B018


def test_import_loads_nothing():
    """Reference: the loaded modules of a new interpreter; torch takes seconds."""
    heavy = ("torch", "pydantic", "numpy")
    code = f"import sys, progan; print([name for name in {heavy} if name in sys.modules])"
    assert started_with(code).strip() == "[]"


def test_imports_in_the_documentation():
    """Reference: Python; every import of progan that the documentation shows works."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    imports = [line for line in lines if re.match("(import|from) progan", line)]
    assert imports
    exec("\n".join(imports), {})


def test_types_are_published():
    """Reference: PEP 561: a file py.typed in the package."""
    assert (Path(progan.__file__).parent / "py.typed").exists()


# Training ---------------------------------------------------------------------------------------


def test_train_is_the_command(photos, run_dir, tmp_path, capfd):
    """Reference: the run that the command has made: equal weights and settings. Logging and
    signals are as before."""
    before = signal.getsignal(signal.SIGINT), list(logging.getLogger().handlers)
    settings = TINY_16 | {"data.labels": True, "run.metrics": {"swd48": 6}}
    made = progan.train(photos, run_dir=str(tmp_path / "run"), overrides=settings)
    expected = progan.load(run_dir)
    assert made.file.read_bytes() == expected.file.read_bytes()
    assert (tmp_path / "run" / "config.yaml").read_text() == (run_dir / "config.yaml").read_text()
    assert (made.nimg, made.config) == (160, expected.config)
    assert (signal.getsignal(signal.SIGINT), list(logging.getLogger().handlers)) == before
    assert "done; the run is in" in capfd.readouterr().out


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C after the fifth update."""
    step = Trainer.train_step

    def train_step(self, phase):
        step(self, phase)
        if self.progress.nimg == 40:
            _thread.interrupt_main()

    monkeypatch.setattr(Trainer, "train_step", train_step)


def test_an_interrupt_ends_training_in_good_order(photos, run_dir, tmp_path, interrupted, capfd):
    """Reference: the run that was not interrupted, after `resume`: equal bytes."""
    settings = TINY_16 | {"data.labels": True, "run.metrics": {"swd48": 6}}
    made = progan.train(photos, run_dir=tmp_path, overrides=settings)
    assert made.nimg == 40
    assert f"stopped (SIGINT), nothing is lost; go on with progan.resume('{tmp_path}')" in (
        capfd.readouterr().out
    )
    whole = progan.resume(str(tmp_path))
    assert whole.file.read_bytes() == progan.load(run_dir).file.read_bytes()


def test_training_in_another_thread(photos, tmp_path, any_end):
    """Reference: Python itself, which lets only the main thread set handlers of signals."""
    made = []
    settings = TINY_16 | {"schedule.total_kimg": 0.016}

    def work():
        made.append(progan.train(photos, run_dir=tmp_path, overrides=settings))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert made[0].nimg == 16


def test_data_is_closed_if_the_run_is_refused(photos, tmp_path, monkeypatch):
    """Reference: counting. The folder is locked, so the run never begins."""
    closed = []
    monkeypatch.setattr(Pyramid, "close", lambda data: closed.append(data.title))
    settings = {"network.resolution": 8, "schedule.batch_size": 8}
    with Hold(tmp_path), pytest.raises(progan.UserError, match="another process is training"):
        progan.train(photos, run_dir=tmp_path, overrides=settings)
    assert len(closed) == 1


def test_a_script_needs_no_guard(photos, tmp_path):
    """Reference: the lines that it prints, each once. Workers would run it again, and wait for
    themselves, if they imported it."""
    script = tmp_path / "script.py"
    settings = TINY_16 | {"schedule.total_kimg": 0.016, "data.workers": 2}
    settings |= {"network.resolution": 4}
    script.write_text(
        "import progan\nprint('begun', flush=True)\n"
        f"print(progan.train({str(photos)!r}, run_dir='run', overrides={settings}).nimg)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1 and done.stdout.endswith("16\n")


def test_settings_from_python(tmp_path):
    """Reference: the same settings in YAML; a `Config` again, changed."""
    file = tmp_path / "mine.yaml"
    file.write_text("network: {resolution: 64}\nschedule: {fade_kimg: {4: 1, 32: 2}}\n")
    overrides = {"network.resolution": 64, "schedule.fade_kimg": {4: 1, 32: 2}}
    made = progan.load_config(overrides=overrides)
    assert made == progan.load_config(file) == progan.load_config(str(file))
    numpy = {"network.resolution": np.int64(64), "schedule.fade_kimg": {4: 1, 32: np.float32(2)}}
    assert made == progan.load_config(overrides=numpy)
    data = progan.open_data(
        progan.load_config("demo", {"data.source": "demo", "data.max_images": 20}),
        say=lambda line: None,
    )
    assert data.count == 20
    data.close()


def test_paths_at_home(photos, run_dir, tmp_path, monkeypatch):
    """Reference: the same paths in full. A shell expands `~`; Python and YAML files do not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "run").symlink_to(run_dir)
    config, folder, _ = new_run("~/photos", "demo", {}, "~/new")
    assert (config.data.source, folder) == (str(photos.resolve()), tmp_path / "new")
    assert old_run("~/run", {})[1] == tmp_path / "run"
    with pytest.raises(progan.UserError, match=f"looked for {tmp_path}/sets/ffhq"):
        progan.open_data(progan.load_config(None, {"data.source": "ffhq", "data.root": "~/sets"}))


def test_a_refused_length_leaves_the_run_complete(photos, tmp_path, any_end):
    """Reference: the file `complete`, for which scripts look."""
    settings = TINY_16 | {"schedule.total_kimg": 0.016, "schedule.learning_rate": 0.001}
    progan.train(photos, run_dir=tmp_path, overrides=settings)
    with pytest.raises(progan.UserError, match="more than schedule.total_kimg"):
        progan.resume(tmp_path, {"schedule.total_kimg": 0.008})
    assert (tmp_path / "complete").exists()


# Snapshots --------------------------------------------------------------------------------------


def test_samples_are_those_of_the_command(run_dir, tmp_path):
    """Reference: the PNG files of `progan sample`, pixel by pixel, for each class."""
    command = ["sample", str(run_dir), "--seeds", "3,5", "--out", str(tmp_path)]
    CliRunner().invoke(main, command, catch_exceptions=False)
    snapshot = progan.load(run_dir)
    for k, name in enumerate(("cats", "dogs")):
        images = snapshot.sample([3, 5], classes=name)
        assert images.shape == (2, 16, 16, 3) and images.dtype == np.uint8
        assert (images == snapshot.sample(iter([3, 5]), classes=[k, np.int64(k)])).all()
        for image, picture, seed in zip(images, progan.to_pil(images), (3, 5), strict=True):
            with Image.open(tmp_path / f"seed{seed:04d}-class-{name}.png") as file:
                assert (np.asarray(file) == image).all()
            assert picture.mode == "RGB" and (np.asarray(picture) == image).all()
    assert (snapshot.sample([3], classes=1) == snapshot.sample([3])).all()  # in turn: 3 is odd
    assert (snapshot.sample([2**70]) == snapshot.sample([2**70], classes=2**70 % 2)).all()


def test_samples_of_an_earlier_stage(run_dir):
    """Reference: the network itself at 8x8."""
    snapshot = progan.load(run_dir)
    images = snapshot.sample([1], classes=0, resolution=np.int64(8))
    z, c = latents([1], 8), torch.tensor([[1.0, 0.0]])
    expected = snapshot.G(z, c, resolution=8) * 127.5 + 127.5
    found = torch.from_numpy(images).permute(0, 3, 1, 2)
    assert (found - expected.clamp(0, 255)).abs().max() <= 0.51


def test_overrides_are_written_as_people_write_them():
    """Reference: the options of the command line, as `starts.jsonl` records them."""
    given = {"run.device": "cpu", "schedule.batch_size": {4: 16}, "data.mirror": True}
    written = ["run.device=cpu", "schedule.batch_size={4: 16}", "data.mirror=true"]
    assert assignments(given) == written


def test_interpolation_begins_and_ends_at_the_seeds(run_dir):
    """Reference: the samples of both seeds; between them other images; one seed twice is still."""
    snapshot = progan.load(run_dir)
    images = snapshot.interpolate(1, 2, 5, classes="dogs")
    ends = snapshot.sample([1, 2], classes="dogs")
    assert images.shape == (5, 16, 16, 3)
    assert (images[[0, -1]] == ends).all()
    assert all((images[i] != images[i + 1]).any() for i in range(4))
    assert (snapshot.interpolate(1, 1, 3) == snapshot.sample([1])).all()
    assert (snapshot.interpolate(1, 2, 2)[1] == snapshot.sample([2], classes=1)).all()


def test_slerp():
    """Reference: closed form: between orthogonal vectors of one length the angle grows evenly and
    the length stays."""
    a, b = torch.tensor([2.0, 0]), torch.tensor([0, 2.0])
    angle = torch.linspace(0, torch.pi / 2, 7)
    expected = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    torch.testing.assert_close(slerp(a, b, 7), expected, rtol=0, atol=1e-6)
    assert torch.equal(slerp(a, a, 3), a.expand(3, 2))


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_the_generator_alone(alpha):
    """Reference: the network, told resolution and alpha. It can be exported as a graph."""
    torch.manual_seed(0)
    G = progan.Generator(16, z_dim=8, c_dim=2, channel_base=64, channel_max=8)
    bound = TrainedGenerator(G, 16, alpha)
    z, c = torch.randn(3, 8), torch.eye(2)[[0, 1, 0]]
    at = None if alpha is None else torch.tensor(alpha)
    expected = G(z, c, resolution=16, alpha=at)
    assert torch.equal(bound(z, c), expected)
    graph = torch.export.export(bound, (z, c)).module()
    torch.testing.assert_close(graph(z, c), expected)


def test_which_snapshot(run_dir, tmp_path):
    """Reference: the files of the run, and of one that was ended before its first snapshot."""
    folder = run_dir / "snapshots"
    assert progan.load(str(run_dir)).file == folder / "snapshot-000000.160.safetensors"
    assert progan.load(run_dir, 0.096).file == folder / "snapshot-000000.096.safetensors"
    (best,) = folder.glob("best-*")
    assert progan.load(run_dir, which="best").file == best
    first = folder / "snapshot-000000.032.safetensors"
    same = {"newest": folder / "snapshot-000000.160.safetensors", "best": best, "best-swd48": best}
    same |= {"0.032": first, "0.03": first, ".032": first}  # rounded as the number is
    for which, file in same.items():
        assert find_snapshot(Path(f"{run_dir}@{which}")) == file == find_snapshot(run_dir, which)
        assert find_snapshot(run_dir / f"@{which}") == file, "as a shell completes a folder"
    (tmp_path / "a@best").mkdir()
    with pytest.raises(progan.UserError, match="no snapshots in .*a@best"):  # it is called so
        find_snapshot(tmp_path / "a@best")
    assert read_other(Path(f"{run_dir}@best")).origin.name == f"photos/{best.name}"
    assert progan.load(best).nimg == progan.load(run_dir, "best").nimg
    assert repr(progan.load(best)).endswith("2 classes>")
    (tmp_path / "snapshots").mkdir()
    alone = shutil.copy(best, tmp_path / "snapshots")
    assert progan.load(tmp_path, "best").file == progan.load(tmp_path, 0.16).file == Path(alone)
    with pytest.raises(progan.UserError, match="no snapshots in"):
        progan.load(tmp_path)


# Metrics ----------------------------------------------------------------------------------------


def test_evaluate_is_the_command(run_dir, tmp_path):
    """Reference: the command's figures. Nothing is written in the run."""
    figures = tmp_path / "figures.json"
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    found = progan.evaluate(progan.load(run_dir), ["swd48", "msssim20"])
    assert before == {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    assert found == progan.evaluate(str(run_dir), "swd48,msssim20", device="cpu")
    command = ["evaluate", str(run_dir), "--metrics", "swd48,msssim20", "--json", str(figures)]
    CliRunner().invoke(main, command, catch_exceptions=False)
    assert parse_yaml(figures.read_text(), "figures")["snapshots"][0]["metrics"] == found


def test_measure_takes_samples(run_dir):
    """Reference: the same images with channels first, in batches."""
    images = progan.load(run_dir).sample(range(24))
    found = progan.measure("swd12", images[:12], images[12:])
    batches = [torch.from_numpy(images[i : i + 4]).permute(0, 3, 1, 2) for i in range(0, 24, 4)]
    assert found == progan.measure("swd12", batches[:3], batches[3:])
    assert found["swd12"] > 0


# Mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake, message",
    [
        (lambda s: progan.load("nowhere"), "no such run or snapshot: nowhere"),
        (lambda s: progan.load("."), "no snapshots in"),
        (lambda s: progan.load(".", "best"), "no snapshots in"),
        (lambda s: progan.evaluate(s, "swd64", device=None), "device 'None' must be"),
        (
            lambda s: progan.load(s.file.parents[1], "latest"),
            "give newest, best-swd48 or one of",
        ),
        (lambda s: progan.load(f"{s.file.parents[1]}@0.1", 3), "chooses a snapshot already"),
        (lambda s: progan.load(f"{s.file.parents[1]}@0"), "more than one snapshot near 0 kimg"),
        (lambda s: progan.load(f"{s.file.parents[1]}@"), "no snapshot ''; give newest"),
        (lambda s: progan.load(f"{s.file.parents[1]}@best-swd64"), "did you mean 'swd48'"),
        (lambda s: progan.load("nowhere@best"), "no such run or snapshot: nowhere@best"),
        (lambda s: progan.load(f"{s.file}@best"), "'best' chooses from a run, and .* is one"),
        (lambda s: progan.load(s.file.parents[1], 7), "0.032, .*0.16"),
        (lambda s: progan.load(s.file.parents[1], float("nan")), "0.032, .*0.16"),
        (lambda s: progan.load(s.file, "best"), "is one snapshot"),
        (lambda s: s.sample([]), "at least one; got none"),
        (lambda s: s.sample([1, -1]), "from 0, at least one; got -1"),
        (lambda s: s.sample([0.5]), "got 0.5"),
        (lambda s: s.sample(3), "give a list or a range"),
        (lambda s: s.sample("0-3"), "give a list or a range"),
        (lambda s: s.sample(classes="cat"), "did you mean 'cats'"),
        (lambda s: s.sample(classes=2), "classes: 0 cats, 1 dogs"),
        (lambda s: s.sample(classes=0.5), "class '0.5' is unknown"),
        (lambda s: s.sample([1, 2], classes=[0]), "1 classes for 2 seeds"),
        (lambda s: s.sample(resolution=32), "none of this snapshot's: 4, 8, 16"),
        (lambda s: s.sample(resolution=8.0), "8.0 is none of this snapshot's: 4, 8, 16"),
        (lambda s: progan.to_pil(s.sample()[0]), r"\[N, r, r, C\], .*got uint8 \[16, 16, 3\]"),
        (lambda s: s.interpolate(1, 2, 1), "give 2 or more"),
        (lambda s: s.interpolate(1, -2), "got -2"),
        (lambda s: s.generator(torch.zeros(1, 8)), r"z \[N, 8\] and c \[N, 2\]"),
        (lambda s: progan.evaluate(s, "swx"), "'swx' is no metric"),
        (lambda s: progan.evaluate(s, 48), "'48' is no metric"),
        (lambda s: progan.evaluate(s, "swd48", data="nowhere"), "no known data set"),
        (lambda s: progan.evaluate(s, "swd48", device="gpu"), "must be auto, cpu"),
        (
            lambda s: progan.evaluate(s, "fid48", inception="nowhere"),
            "cannot read nowhere, the|need torch",
        ),
        (lambda s: progan.measure("swx", [], []), "'swx' is no metric"),
        (lambda s: progan.measure("swd48", s.sample(), s.sample()), "looks at 48 reals"),
        (lambda s: progan.measure("swd16", s.sample() / 255, s.sample()), "take batches"),
        (lambda s: progan.measure("swd16", progan.to_pil(s.sample()), s.sample()), "got Image"),
        (lambda s: progan.measure("swd16", s.sample(), s.sample(resolution=8)), "of one size"),
        (lambda s: progan.train(), "what to train on"),
        (lambda s: progan.train("nowhere"), "no known data set"),
        (lambda s: progan.train("demo", config="celba"), "did you mean 'celeba'"),
        (lambda s: progan.train("demo", overrides={"run.sed": 1}), "did you mean 'seed'"),
        (lambda s: progan.train("demo", overrides={"seed": 1}), "keys with their section"),
        (lambda s: progan.train("demo", overrides={"run": {"seed": 1}}), "keys with their section"),
        (lambda s: progan.train("demo", overrides="run.seed=1"), "keys with their section"),
        (lambda s: progan.train("demo", max_hours=-1), "hours above 0"),
        (lambda s: progan.train("demo", max_hours="1"), "hours above 0"),
        (lambda s: progan.resume(s.file.parents[1], max_hours=float("nan")), "hours above 0"),
        (lambda s: progan.train("demo", overrides={"run.seed": object()}), "give a number"),
        (lambda s: progan.train(None, OTHER, s.file.parents[1]), "with other settings"),
        (lambda s: progan.resume("."), "is no run"),
        (lambda s: progan.resume(s.file.parents[1], {"run.seed": 3}), "run.seed: 0 -> 3"),
        (lambda s: progan.open_data(progan.load_config()), "data.source is not set"),
    ],
)
def test_mistakes_are_explained(run_dir, here, mistake, message):
    """Reference: the sentence that says what to do, in a `UserError`."""
    with pytest.raises(progan.UserError, match=message):
        mistake(progan.load(run_dir))


def test_best_by_several_metrics(run_dir, tmp_path):
    """Reference: a rule would choose for the user; the message names the files instead."""
    for name in ("swd48", "fid50k"):
        file = tmp_path / "snapshots" / f"best-{name}-000000.048.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (tmp_path / "snapshots" / "snapshot-000000.160.safetensors").touch()
    with pytest.raises(progan.UserError, match="best-fid50k.*best-swd48"):
        progan.load(tmp_path, "best")


# The notebook -----------------------------------------------------------------------------------


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebooks_code_runs(tmp_path, monkeypatch):
    """Reference: no line fails, and the notebook is kept without outputs. A tiny run, in this
    process."""
    monkeypatch.chdir(tmp_path)
    cells = code_cells(nbformat.read(ROOT / "examples" / "first_steps.ipynb", as_version=4))
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    code = "\n".join(cell.source for cell in cells)
    tiny = '"schedule.stable_kimg": 0.016, "schedule.fade_kimg": 0.016, "data.max_images": 64}'
    for whole, shorter in {
        "KIMG = 16": "KIMG = 0.08",
        "KIMG}": f"KIMG, {tiny}",
        "swd1000": "swd20",
        "range(200)": "range(5)",
    }.items():
        assert code.count(whole) == 1
        code = code.replace(whole, shorter)
    exec(code, {})


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """Reference: no cell fails, in Jupyter's kernel; and there are pictures. It trains for seconds
    here."""
    notebook = nbformat.read(ROOT / "examples" / "first_steps.ipynb", as_version=4)
    cells = code_cells(notebook)
    training = next(cell for cell in cells if "KIMG = 16" in cell.source)
    training.source = training.source.replace("KIMG = 16", "KIMG = 0.5")
    shorter = '"schedule.stable_kimg": 0.1, "schedule.fade_kimg": 0.1}'
    training.source = training.source.replace("KIMG}", f"KIMG, {shorter}")
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    pictures = [
        output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 2
