"""Makes the network that comes with progan from a complete run of the preset:

    progan train --data demo && python samples/pretrained.py runs/demo

It writes progan/pretrained/demo.safetensors: the run's last snapshot, and what the run was made
with. Weights are of half precision, as in full the file would be larger than a megabyte.
"""

import json
import sys
from pathlib import Path

from progan.config.load import load_config
from progan.runs.folder import STARTS, is_complete, read_config
from progan.runs.snapshot_file import load_snapshot, metadata_of, without_places, write_tensors
from progan.runs.which_snapshot import DEMO_FILE, find_snapshot
from progan.runtime.disk import read_lines
from progan.runtime.errors import UserError

MADE_WITH = (
    "torch",
    "precision",
    "threads",
    "device",
)  # what the bits of a run's weights depend on


def main(run_dir: Path) -> None:
    """Write the file.

    Raises:
        UserError: the run has other settings than the preset, or is not complete.
    """
    config = read_config(run_dir, [])
    if without_places(config) != without_places(load_config("demo")):
        raise UserError(f"{run_dir} has other settings than the preset demo; train it anew")
    starts = read_lines(run_dir / STARTS)
    if not is_complete(run_dir, config) or len(starts) != 1:
        raise UserError(f"{run_dir} is not a complete run of one start; train it to its end")
    snapshot = load_snapshot(find_snapshot(run_dir))
    made = {name: starts[0][name] for name in MADE_WITH}
    metadata = metadata_of(snapshot) | {"made_with": json.dumps(made)}
    halves = {name: weight.half() for name, weight in snapshot.G.state_dict().items()}
    write_tensors(DEMO_FILE, halves, metadata)
    print(f"{DEMO_FILE}: {DEMO_FILE.stat().st_size:,} bytes, made with {made}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
