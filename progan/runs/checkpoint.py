"""Checkpoints: everything needed to resume, in files that cannot run code when they are loaded."""

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from progan.config.config import Config
from progan.config.load import as_begun, validate
from progan.config.optimizers import KEEPS
from progan.config.value_types import LIMIT
from progan.model.growing import check_finite
from progan.runs.checkpoint_file import read_parts
from progan.runs.folder import differences, fixed_settings
from progan.runs.which_run import CONFIG
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError, brief
from progan.runtime.text import stamp

log = logging.getLogger("progan")

NETWORKS = {"G", "D", "G_ema", "G_ema_2"}  # whose weights must be finite
NOT_NEGATIVE = {"step", "exp_avg_sq", "square_avg", "sum"}  # counts and squares of an optimizer
OPTIMIZERS = {"G_opt", "D_opt"}  # whose moments must be, too


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


@dataclass
class Progress:
    """How far a run is: all that a checkpoint needs besides weights."""

    nimg: int = 0
    tick: int = 0
    seconds: float = 0.0  # spent on updates, over all starts
    compiled: bool | None = None  # whether the phase's updates are; None: not decided yet
    joules: float | None = 0.0  # taken by all GPUs, over all starts; None: not measured in all

    def spend(self, seconds: float, joules: float | None) -> None:
        """Add what a part of the training took; None: the joules are unknown."""
        self.seconds += seconds
        self.joules = None if self.joules is None or joules is None else self.joules + joules

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(self.of(state)))

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Progress":
        """Raises ValueError or TypeError if no run can be so far."""
        it = cls(**{"joules": None, **state})  # older checkpoints have none
        right = type(it.nimg) is int and type(it.tick) is int
        right = right and 0 <= it.tick <= it.nimg <= 1000 * LIMIT
        right = right and type(it.seconds) in (int, float) and 0 <= it.seconds < math.inf
        if it.joules is not None:
            right = right and type(it.joules) in (int, float) and 0 <= it.joules < math.inf
        if not right or it.compiled not in (None, True, False):
            raise ValueError(f"no run can be so far: {it}")
        return it


class Checkpoint:
    """Training state in `run_dir/checkpoints`.

    Args:
        config: checkpoints of other settings, but for those that may change, are refused.
        parts: `G=G, G_opt=optimizer, …`, whatever has `state_dict()` and `load_state_dict()`.
    """

    def __init__(self, run_dir: Path, config: Config, **parts: Stateful):
        self.run_dir = run_dir
        self.config = config
        self.folder = run_dir / "checkpoints"
        self.parts = parts

    def newest(self) -> Path | str:
        """The newest file; "the beginning" if there is none."""
        return max(checkpoints_of(self.run_dir), default="the beginning")

    def save(self, nimg: int, keep: int) -> Path:
        """Write atomically, then remove all but the newest `keep`.

        Files of more images could not be read when this start began; they are renamed so that
        they do not count.
        """
        path = self.folder / f"checkpoint-{stamp(nimg)}.pt"
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["settings"] = fixed_settings(self.config)
        write_atomically(path, lambda temporary: torch.save(state, temporary))
        for unread in (file for file in checkpoints_of(self.run_dir) if file > path):
            unread.rename(unread.with_name(unread.name + ".damaged"))
        for old in checkpoints_of(self.run_dir)[:-keep]:
            old.unlink(missing_ok=True)
        return path

    def load_newest(self) -> Path | None:
        """Restore from the newest file that can be read; returns it, or None if there is none.

        A damaged file gets a warning, and the one before it is used.

        Raises:
            UserError: there are checkpoints and none can be read, or it is of other settings.
        """
        files = checkpoints_of(self.run_dir)
        for path in reversed(files):
            try:
                state = read(path)
                changed = self.changes(state)
                if not changed:
                    self.check(state)
            except Exception as error:  # whatever damage makes the reader raise
                log.warning(
                    "checkpoint %s cannot be read (%s); trying the one before", path, brief(error)
                )
                continue
            if changed:
                raise UserError(
                    f"{path} was written with other settings than {self.run_dir / CONFIG} has:\n  "
                    + "\n  ".join(changed)
                    + "\na run keeps these from its first image to its last: set them back there, "
                    "or train in another --run-dir"
                )
            self.restore(state, path)
            return path
        if files:
            raise UserError(
                f"none of the {len(files)} checkpoints in {self.folder} can be read; "
                "start again with another --run-dir"
            )
        return None

    def changes(self, state: dict[str, Any]) -> list[str]:
        """`section.key: old -> new` for settings that may not differ. Older files have none."""
        if "settings" not in state:
            return []
        began = validate(as_begun(state["settings"]), "its settings")
        now = self.config.with_places({"network.init": began.network.init})
        return differences(began, now, state["progress"]["nimg"])

    def check(self, state: dict[str, Any]) -> None:
        """Raises ValueError if the run cannot go on from here."""
        if missing := self.parts.keys() - state.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        nimg, schedule = state["progress"]["nimg"], self.config.make_schedule()
        if nimg <= schedule.total_nimg and not schedule.ends_step(nimg):
            raise ValueError(f"no update of this run ends at {nimg} images")

    def restore(self, state: dict[str, Any], path: Path) -> None:
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state[name])
            except UserError:
                raise
            except (RuntimeError, TypeError, LookupError, AttributeError, ValueError) as error:
                raise UserError(
                    f"{path} does not fit this config or this version of progan: "
                    f"{name}: {brief(error)}; start again with another --run-dir"
                ) from None


def checkpoints_of(run_dir: Path) -> list[Path]:
    """Oldest first."""
    return sorted((run_dir / "checkpoints").glob("checkpoint-*.pt"))


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file, if it is whole and a run can be in it.

    Raises:
        Exception: of any type, if the file is damaged.
    """
    state = read_parts(path)
    progress = Progress.of(state["progress"])
    for name in NETWORKS & state.keys():
        check_finite(state[name], f"{name}.")
    for name in OPTIMIZERS & state.keys():
        keeps = KEEPS[state[name].get("optimizer", "adam")]
        if progress.nimg and keeps and not state[name]["state"]:
            raise ValueError(f"{name} has no moments")
        for number, moments in state[name]["state"].items():
            if missing := set(keeps) - moments.keys():
                raise ValueError(f"{name}.{number} lacks {', '.join(sorted(missing))}")
            check_finite(moments, f"{name}.{number}.")
            if any((moments[key] < 0).any() for key in NOT_NEGATIVE & moments.keys()):
                raise ValueError(f"a square or a count in {name}.{number} is below zero")
    return state
