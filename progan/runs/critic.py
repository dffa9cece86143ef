"""The critic that a snapshot's generator was trained with, from a checkpoint of the same run."""

from progan.model.networks import Critic
from progan.runs.checkpoint import checkpoints_of
from progan.runs.init_file import Other, of_checkpoint
from progan.runs.snapshot import Snapshot
from progan.runtime.errors import UserError, brief


def load_critic(snapshot: Snapshot, purpose: str) -> tuple[Critic, int]:
    """The newest one that fits, for use and not for training; and how many images it was shown.

    Args:
        purpose: what needs it, for messages, such as `--loss critic`.

    Raises:
        UserError: there is no checkpoint that can be read and fits.
    """
    folder = snapshot.file.resolve().parent
    files = checkpoints_of(folder.parent) if folder.name == "snapshots" else []
    if not files:
        raise UserError(
            f"{purpose} needs the critic, which is in a run's checkpoints/ and not in a snapshot: "
            f"there is none for {snapshot.file}; give a run with its checkpoints"
        )
    wrong = []
    for file in reversed(files):
        try:
            other = of_checkpoint(file)
            check_fits(other, snapshot)
            D = Critic(**other.network.critic_settings() | {"c_dim": other.c_dim})
            D.load_state_dict(other.weights["D"])
        except Exception as error:  # whatever damage makes the reader raise
            wrong.append(f"{file.name}: {brief(error)}")
            continue
        return D.eval().requires_grad_(False), other.origin.nimg
    raise UserError(
        f"{purpose} needs the critic, and no checkpoint in {folder.parent}/checkpoints has one "
        f"for {snapshot.file.name} ({'; '.join(wrong)}); give a newer snapshot of the run"
    )


def check_fits(other: Other, snapshot: Snapshot) -> None:
    """Raises ValueError if its networks are none of the snapshot's run, or have grown less."""
    if (other.network, other.c_dim) != (snapshot.config.network, snapshot.G.c_dim):
        raise ValueError("it is of another network")
    if other.origin.resolution < snapshot.resolution:
        grown, r = other.origin.resolution, snapshot.resolution
        raise ValueError(f"it has grown to {grown}x{grown}, not to {r}x{r}")
