"""Power averages that are kept while a run trains, and snapshots of other lengths made of them."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from progan.config.config import Config
from progan.config.schedule import Schedule
from progan.model.growing import check_finite
from progan.model.networks import Generator
from progan.runs.folder import differences, read_config
from progan.runs.profiles import combination
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import DAMAGE, metadata_of, read_tensors, write_tensors
from progan.runtime.errors import UserError, brief
from progan.runtime.text import human_bytes, kimg_of, stamp

log = logging.getLogger("progan")

GROWTH = 1.05  # of the images shown, from one file to the next: profiles are then as far apart
KEPT = 60  # newest files; what is older than a twentieth of the run counts in no average
COPIES = ("0.", "1.")  # before the names of weights: of the shorter average, of the longer


def averages_path(run_dir: Path, nimg: int) -> Path:
    return run_dir / "averages" / f"averages-{stamp(nimg)}.safetensors"


def average_files(run_dir: Path) -> list[Path]:
    """Oldest first."""
    files = sorted((run_dir / "averages").glob("averages-*.safetensors"))
    return [file for file in files if kimg_of(file) >= 0]  # false for a name of somebody else's


def is_due(run_dir: Path, nimg: int) -> bool:
    """Whether enough images have been shown since the newest file. After a full disk, it still is.

    Depends on nothing but the folder, from which a start removes what it will write again.
    """
    files = average_files(run_dir)
    return not files or nimg >= GROWTH * 1000 * kimg_of(files[-1])


def save_averages(snapshot: Snapshot, networks: Sequence[Generator]) -> None:
    """Write `snapshot.file` with both averages' weights, as half-precision floats."""
    tensors = {
        copy + name: weight.half()
        for copy, network in zip(COPIES, networks, strict=True)
        for name, weight in network.state_dict().items()
    }
    write_tensors(snapshot.file, tensors, metadata_of(snapshot))


def about_disk(config: Config, run_dir: Path, G: Generator) -> list[str]:
    """What the files of a run take at most, in words; nothing for a run that keeps none."""
    if config.ema.kind != "power":
        return []
    size = 2 * len(COPIES) * sum(weight.numel() for weight in G.state_dict().values())
    return [
        f"averages for progan average: at most {KEPT} files of {human_bytes(size)} in "
        f"{run_dir / 'averages'}, {human_bytes(KEPT * size)} in all"
    ]


def forget_old(run_dir: Path) -> None:
    """Remove all but the newest files."""
    for path in average_files(run_dir)[:-KEPT]:
        path.unlink(missing_ok=True)


def read_averages(path: Path) -> tuple[Snapshot, dict[str, Tensor]]:
    """What a file holds: a snapshot without its weights, and both averages' weights.

    Raises:
        UserError: it is damaged, or of another kind.
    """
    try:
        snapshot, tensors = read_tensors(path, ["F16"], COPIES)
        check_finite(tensors)
        if snapshot.config.ema.lengths is None:
            raise ValueError("its ema.kind is not power")
    except (*DAMAGE, UserError) as error:
        raise UserError(f"{path} holds no averages of progan ({brief(error)})") from None
    return snapshot, tensors


@dataclass(frozen=True)
class KeptAverages:
    """The averages in a run's folder that are whole and belong together.

    Args:
        files: by images shown, in order.
        newest: the last of them, as a snapshot without its weights.
    """

    files: dict[int, Path]
    newest: Snapshot

    def snapshot(self, length: float) -> tuple[Snapshot, float]:
        """The average of a relative length at the newest file, without a file of its own yet.

        Returns:
            The snapshot; and how far its profile is from the wanted one, as a share (the most of
            all weights).
        """
        G, at = copy.deepcopy(self.newest.G), self.newest.nimg
        use_of = uses(G, self.newest.config.make_schedule())
        factors = {use: self.factors(*use, length) for use in {*use_of.values(), (at, at)}}
        total = {name: torch.zeros_like(weight) for name, weight in G.state_dict().items()}
        for nimg, path in self.files.items():
            _, tensors = read_averages(path)
            for name, weight in total.items():
                by_file, _ = factors[use_of.get(name, (at, at))]
                for copied, factor in zip(COPIES, by_file.get(nimg, (0.0, 0.0)), strict=True):
                    weight += factor * tensors[copied + name].float()
        G.load_state_dict(total)
        G.eval().requires_grad_(False)
        return replace(self.newest, G=G, length=length), max(error for _, error in factors.values())

    def factors(
        self, start: int, end: int, length: float
    ) -> tuple[dict[int, tuple[float, float]], float]:
        """How to add up the averages of weights in use from `start` to `end`.

        Returns:
            Factors of both averages, by file; and how far the profile is from the wanted one.
        """
        at, lengths = self.newest.nimg, self.newest.config.ema.lengths
        if start >= at or lengths is None:
            return {at: (1.0, 0.0)}, 0.0  # not in use yet, so they are as they were
        last = min(end, at)
        files: dict[int, int] = {}  # weights that are no longer in use have the same average since
        for nimg in self.files:
            if nimg > start:
                files.setdefault(min(nimg, last), nimg)
        found, error = combination(list(files), lengths, last, length, start)
        pairs = ((float(a), float(b)) for a, b in found)
        return dict(zip(files.values(), pairs, strict=True)), error


def find_averages(run_dir: Path) -> KeptAverages:
    """The averages of a run; what is damaged or of other settings is left out, with a warning.

    Raises:
        UserError: there are none.
    """
    read_config(run_dir, [])  # raises what there is to say of another folder
    whole: dict[int, tuple[Path, Config]] = {}
    newest: Snapshot | None = None
    for path in average_files(run_dir):
        try:
            newest, _ = read_averages(path)
            whole[newest.nimg] = path, newest.config
        except UserError as error:
            log.warning("%s; it is left out", error)
    if newest is None:
        raise UserError(
            f"{run_dir} keeps no averages of which others could be made; a run that is begun with "
            "-o ema.kind=power does"
        )
    files = {
        nimg: path
        for nimg, (path, config) in whole.items()
        if not differences(config, newest.config, nimg)
    }
    if len(files) < len(whole):
        log.warning("%s files are of other settings and are left out", len(whole) - len(files))
    return KeptAverages(files, newest)


def uses(G: Generator, schedule: Schedule) -> dict[str, tuple[int, int]]:
    """The images from which, and up to which, each weight of a generator is in use, by name."""
    found: dict[str, tuple[int, int]] = {}
    for phase in schedule.phases:
        for name in G.active_parameters(phase.resolution, phase.fading):
            start, _ = found.get(name, (phase.start_nimg, 0))
            found[name] = start, schedule.end_of(phase)
    return found
