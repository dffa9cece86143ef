"""Which snapshot is meant: of a run the newest, the best, or one by its kimg; one from the Hugging
Face Hub; or the one that comes with progan. Loads no torch."""

import logging
import os
import re
from pathlib import Path

from progan.runs.best import best_files
from progan.runs.which_run import other_run
from progan.runtime.errors import UserError, nearest
from progan.runtime.hub import SCHEME, fetch, is_on_hub, parts
from progan.runtime.launch import is_main
from progan.runtime.paths import to_path
from progan.runtime.text import kimg_of

log = logging.getLogger("progan")

MOST_LISTED = 10  # snapshots in a message
MODEL = "model.safetensors"  # the snapshot in a folder as the Hub has it
MOST_BYTES = 2 * 10**9  # of one from there; a network at 1024x1024 takes 92 MB
PAGE = re.compile(r"https?://(?:huggingface|hf)\.co/([\w.-]+/[\w.-]+)")
DEMO = Path("demo")  # where nothing here is called so, the network that comes with progan
DEMO_FILE = Path(__file__).parent.parent / "pretrained" / "demo.safetensors"


def to_source(given: str | os.PathLike[str], what: str) -> Path:
    """`to_path`, which takes `hf://user/model` and `hf://user/model@revision`, too.

    Raises:
        UserError: it is no path, or another URL.
    """
    if page := PAGE.match(str(given)):
        raise UserError(f"{what}: for {given} of the Hub give {SCHEME}{page[1]}")
    if not str(given).startswith(SCHEME):
        return to_path(given, what)
    path = Path(given)
    parts(path)
    return path


def find_snapshot(path: Path, which: str | float = "newest") -> Path:
    """The file of a snapshot.

    Args:
        path: a run, the file itself, RUN@WHICH, a folder with a `model.safetensors` as the Hub
            has it, `hf://user/model`, or `demo`: the network that comes with progan.
        which: of a run's snapshots the "newest"; the "best" by the one metric in `run.metrics`;
            "best-METRIC"; or a number: the one at so many thousand images (kimg). Rounding to the
            given digits may differ: 600 is the one at 600.064, unless there is one at 600.

    Raises:
        UserError: there is none, or several are meant.
    """
    run, chosen = split(here(path))
    if chosen is not None:
        if which != "newest":
            raise UserError(f"{path} chooses a snapshot already; leave out which={which!r}")
        which = chosen
    if not run.exists():
        raise UserError(f"no such run or snapshot: {path}{other_run(run)}")
    if not run.is_dir():
        if which != "newest":
            raise UserError(f"{str(which)!r} chooses from a run, and {run} is one snapshot")
        return run
    files = snapshots_of(run) or [run / MODEL] * (run / MODEL).is_file()
    if not files and (which == "newest" or not best_files(run)):
        raise UserError(
            f"no snapshots in {run}: give a run that has trained, or a .safetensors file"
            f"{other_run(run)}"
        )
    if which == "newest":
        return files[-1]
    word, _, metric = str(which).partition("-")
    return find_best(run, metric) if word == "best" else at_kimg(run, str(which))


def here(path: Path) -> Path:
    """The path; of what is elsewhere the file: on the Hub, or in progan itself."""
    if is_on_hub(path):
        return fetch(path, MODEL, MOST_BYTES)
    if path == DEMO:
        tell_which_demo()
    return DEMO_FILE if is_shipped(path) else path


def is_shipped(path: Path) -> bool:
    """Whether the network that comes with progan is meant, as nothing here is called so."""
    return path == DEMO and not path.exists()


def tell_which_demo() -> None:
    """Say whether `demo` is the network that comes with progan, or something of that name here."""
    own = Path("runs") / DEMO
    if DEMO.exists():
        line = "demo: the one in this folder; in other folders, the network that comes with progan"
    else:
        other = f"; your own run is {own}" if own.is_dir() else ""
        line = f"demo: the network that comes with progan{other}"
    if is_main():
        log.info(line)


def split(path: Path) -> tuple[Path, str | None]:
    """RUN@WHICH in its parts; None where nothing is chosen, or a file or folder is called so."""
    run, at, which = path.name.rpartition("@")
    return (path.parent / run, which) if at and not path.exists() else (path, None)


def find_best(run_dir: Path, metric: str = "") -> Path:
    """The best snapshot by a metric; without a name, by the only one of the run."""
    best = {name: files[-1] for name, files in best_files(run_dir).items()}
    choices = " or ".join(f"{run_dir}@best-{name}" for name in best)
    if not best:
        raise UserError(
            f"{run_dir} keeps no best snapshot, as it was trained without run.metrics; give "
            f"{run_dir} for its newest one"
        )
    if metric and metric not in best:
        raise UserError(
            f"{run_dir} keeps no best snapshot by {metric}{nearest(metric, best)}; give {choices}"
        )
    if len(best) > 1 and not metric:
        raise UserError(f"several metrics have a best snapshot; give {choices}")
    return best[metric or next(iter(best))]


def at_kimg(run_dir: Path, which: str) -> Path:
    """The snapshot at so many kimg."""
    files = by_kimg(run_dir)
    try:
        wanted = float(which)
    except ValueError:
        wanted = float("nan")
    if wanted in files:
        return files[wanted]
    half = 0.5 * 10.0 ** -len(which.partition(".")[2])  # of the last digit given
    fitting = [kimg for kimg in files if abs(kimg - wanted) <= half]
    if len(fitting) == 1:
        return files[fitting[0]]
    by_distance = sorted(files, key=lambda kimg: abs(kimg - wanted) if wanted >= 0 else -kimg)
    listed = ", ".join(f"{kimg:g}" for kimg in sorted(by_distance[:MOST_LISTED]))
    those = "these kimg" if len(files) <= MOST_LISTED else "these kimg, the nearest"
    several = f"no snapshot {f'at {which} kimg' if wanted >= 0 else repr(which)}"
    if fitting:
        several = f"more than one snapshot near {which} kimg"
    words = ", ".join(["newest", *(f"best-{name}" for name in best_files(run_dir))])
    raise UserError(f"{run_dir} has {several}; give {words} or one of {those}: {listed}")


def snapshots_of(run_dir: Path, kind: str = "snapshot") -> list[Path]:
    """A run's snapshots, oldest first; of the kind "best" those that were best by a metric."""
    return sorted((run_dir / "snapshots").glob(f"{kind}-*.safetensors"))


def by_kimg(run_dir: Path) -> dict[float, Path]:
    """A run's snapshots by their kimg; a best one only where it has no other at that time."""
    kinds = ("best", "snapshot")
    return {kimg_of(file): file for kind in kinds for file in snapshots_of(run_dir, kind)}
