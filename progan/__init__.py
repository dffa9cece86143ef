"""progan: a faithful, exact trainer for progressive-growing GANs (Karras et al., ICLR 2018).

    snapshot = progan.train("photos", config="demo", run_dir="runs/photos")
    images = progan.load("runs/photos").sample(range(16))

Each name is loaded when it is first used, so `import progan` takes no time and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from progan.config.config import Config
    from progan.config.load import load_config
    from progan.config.schedule import Phase, Schedule
    from progan.data.opening import open_data
    from progan.metrics.measuring import measure
    from progan.metrics.of_snapshot import evaluate
    from progan.model.networks import Critic, Generator
    from progan.runs.snapshot import Snapshot, to_pil
    from progan.runs.snapshot_file import load
    from progan.runtime.errors import UserError
    from progan.training.start import resume, train

__version__ = "0.1.0"

__all__ = [
    "Config",
    "Critic",
    "Generator",
    "Phase",
    "Schedule",
    "Snapshot",
    "UserError",
    "evaluate",
    "load",
    "load_config",
    "measure",
    "open_data",
    "resume",
    "to_pil",
    "train",
]

HOMES = {
    "Config": "config.config",
    "Critic": "model.networks",
    "Generator": "model.networks",
    "Phase": "config.schedule",
    "Schedule": "config.schedule",
    "Snapshot": "runs.snapshot",
    "UserError": "runtime.errors",
    "evaluate": "metrics.of_snapshot",
    "load": "runs.snapshot_file",
    "load_config": "config.load",
    "measure": "metrics.measuring",
    "open_data": "data.opening",
    "resume": "training.start",
    "to_pil": "runs.snapshot",
    "train": "training.start",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'progan' has no attribute '{name}'")
    value = getattr(import_module(f"progan.{HOMES[name]}"), name)
    globals()[name] = value  # found at once next time
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
