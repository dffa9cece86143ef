"""Small real runs: a folder of images, a tiny config, the command line in a new process."""

import gc
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from progan.config.config import Config
from progan.data.stream import Stream
from progan.model import sampling
from progan.model.sampling import WIDEST_GRID
from progan.runtime import speeds
from progan.runtime.stopping import ENDINGS
from progan.training import bench, build, trials, work
from progan.training.trials import Trials

# 4x4 for 4 updates, 8x8 fading in for 4, then 8x8: twelve updates see two phase boundaries.
TINY = {
    "network.resolution": 8,
    "network.z_dim": 8,
    "network.channel_base": 64,
    "network.channel_max": 8,
    "schedule.stable_kimg": 0.032,
    "schedule.fade_kimg": 0.032,
    "schedule.total_kimg": 0.096,
    "schedule.batch_size": 8,
    "schedule.learning_rate": "{start: 0.002, end: 0.001}",
    "data.mirror": "true",
    "ema.half_life_kimg": 0.05,
    "ema.rampup": "null",
    "run.tick_kimg": 0.016,
    "run.snapshot_ticks": 3,
    "run.checkpoint_ticks": 1,
    "run.tracker": "null",
    "run.precision": "fp32",  # on every machine
    "run.compile": "false",  # likewise
}
HAS_GPU = torch.cuda.is_available()
AVAILABLE = {module: module.is_available for module in (torch.cuda, torch.accelerator)}
VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")


def pytest_collection_modifyitems(items):
    """Tests of a GPU are skipped where there is none."""
    for item in items:
        if item.get_closest_marker("gpu") and not HAS_GPU:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session", autouse=True)
def no_gpu():
    """Hides GPUs from all other tests, as equality bit for bit holds on CPUs only."""
    with pytest.MonkeyPatch.context() as patch:
        if HAS_GPU:
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for processes that we start
            for module in AVAILABLE:
                patch.setattr(module, "is_available", lambda: False)
        yield


@pytest.fixture
def gpu(no_gpu, monkeypatch):
    """Shows the GPU to one test. Accelerate keeps the device of a process's first Accelerator."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if VISIBLE is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE)
    for module, real in AVAILABLE.items():
        monkeypatch.setattr(module, "is_available", real)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keeps the user's folders unread and unwritten, here and in processes that tests start."""
    os.environ["PROGAN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["OMP_NUM_THREADS"] = "1"  # more threads only slow tiny networks down
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def little_to_collect():
    """Excludes loaded modules from garbage collection: torch's take a third of a second to scan."""
    gc.collect()
    gc.freeze()


def shape_of(network: torch.nn.Module) -> str:
    """Everything that an update's FLOPs depend on: settings and sizes, layer by layer."""
    plain = (int, float, str, tuple, type(None))
    return repr(
        [
            (name, {key: value for key, value in vars(layer).items() if isinstance(value, plain)})
            for name, layer in network.named_modules()
        ]
        + [tuple(parameter.shape) for parameter in network.parameters()]
    )


class TriedOnce(Trials):
    """Times an update once per shape."""

    known: dict[object, float] = {}

    def update(self, phase, n):
        shape = shape_of(self.G), shape_of(self.D), repr(self.loss), self.interval
        kind = phase.resolution, phase.fading, phase.critic_updates
        update = (*shape, *kind, n, trials.random_update)
        if update not in self.known:
            self.known[update] = super().update(phase, n)
        return self.known[update]


@pytest.fixture(scope="session", autouse=True)
def counted_once():
    """Counts an update's FLOPs once per shape, and runs try it once: both take as long as a tiny
    run trains."""
    count, known = work.work_per_image, {}

    def work_per_image(G, D, loss, phase, generator=True):
        update = (shape_of(G), shape_of(D), loss, phase.resolution, phase.fading, generator)
        if update not in known:
            known[update] = count(G, D, loss, phase, generator)
        return known[update]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "work_per_image", work_per_image)
        patch.setattr(build, "Trials", TriedOnce)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_grids():
    """Runs in this process show 4 samples at a tick, not 64, which take as long as they train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "WIDEST_GRID", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_synced():
    """Leaves what tests write to the system: no test cuts the power, and a tiny run would wait for
    the disk longer than it trains. Processes that tests start do sync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@contextmanager
def whole_grids():
    """Grids as runs in other processes show them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "WIDEST_GRID", WIDEST_GRID)
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Makes tests receive Ctrl-C, which a shell lets its background processes ignore, and SIGHUP,
    which nohup lets them ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def own_handlers(interruptible):
    """Ends what a test sets for signals with it: the next one in this process may send them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDINGS)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def same_draws():
    """Begins the draws of global generators anew, so that no test depends on those before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """24 images in two class folders, of several sizes and modes."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for i in range(24):
        path = folder / ("cats" if i % 3 else "dogs") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        size = (16 + i, 16)
        pixels = draw.integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).convert("L" if i % 5 == 0 else "RGB").save(path)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stream(pyramid):
    """Makes streams of the module's `pyramid`, and ends their threads after the test."""
    made = []

    def make(data=pyramid, **settings) -> Stream:
        made.append(Stream(data, **{"seed": 3, "mirror": True} | settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def any_end(monkeypatch):
    """Runs may end below their resolution, as those of earlier versions did."""
    monkeypatch.setattr(Config, "shortfall", lambda config: "")


@pytest.fixture
def quick(monkeypatch):
    """`progan bench` times one update of each kind, where the figures' values do not matter."""
    monkeypatch.setattr(bench, "WARM_UP", 1)
    monkeypatch.setattr(bench, "REPEATS", {0.0: 1})
    monkeypatch.setattr(speeds, "CONVOLUTIONS", [[4, 8], [8, 4]])


@pytest.fixture
def all_float64(monkeypatch):
    """`.float()` keeps float64, so that the maths can be compared far below float32's 1e-7."""

    def keep(x):
        return x if x.dtype == torch.float64 else x.to(torch.float32)

    monkeypatch.setattr(torch.Tensor, "float", keep)


def options(**settings) -> list[str]:
    """`-o` arguments: the tiny config, with dots written as double underscores changed."""
    merged = TINY | {name.replace("__", "."): value for name, value in settings.items()}
    return [part for name, value in merged.items() for part in ("-o", f"{name}={value}")]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "progan", *map(str, arguments)]


def progan(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a new process."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, timeout=120)


def launched(patch, size: int = 2, rank: int = 0, here: int = 2) -> None:
    """Set what torchrun sets for one of several processes."""
    variables = {"WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": here}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1, "TORCHELASTIC_RUN_ID": "none"}
    for name, value in variables.items():
        patch.setenv(name, str(value))


def free_port() -> int:
    """A port at which nothing listens, as tests run in parallel."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def torchrun(processes: int, *arguments: object) -> None:
    """Run the real command line as several processes that train together."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    launch += ["--master_port", str(free_port()), "-m", "progan", *map(str, arguments)]
    result = subprocess.run(launch, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr


def load_checkpoint(run_dir: Path) -> dict:
    """The newest one's state, without the settings: runs that end equal may differ there."""
    newest = sorted((run_dir / "checkpoints").glob("checkpoint-*.pt"))[-1]
    state = torch.load(newest, weights_only=True)
    del state["settings"]
    return state


def flat(tree, prefix: str = "") -> dict[str, object]:
    """Nested dicts and lists as `{path: leaf}`."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    else:
        return {prefix: tree}
    return {path: leaf for key, v in items for path, leaf in flat(v, f"{prefix}/{key}").items()}


def assert_identical(a: dict[str, object], b: dict[str, object]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), f"{name} differs"
        else:
            assert value == b[name], f"{name} differs"
