"""A generator as a script of 60 lines and its weights: the same images without progan."""

import json
import os
import shlex
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

import torch

from progan.interop.export_formats import facts_of, parts_of
from progan.interop.plain import PlainGenerator
from progan.model.networks import GeneratorStart
from progan.runs.snapshot import Snapshot
from progan.runtime.disk import DiskError, why_write_failed

SETTINGS = ("pixel_norm", "start_norm", "norm", "label_norm", "output")


def write_standalone(snapshot: Snapshot, out: Path) -> list[str]:
    """Write a folder: generator.py, settings.json, and weights.pt, a dictionary of tensors.

    The weights are in torch's own format, as torch is all that is there to read them, with
    `weights_only=True`, which runs no code. See `exporting.export`.
    """
    network = PlainGenerator(snapshot)
    start = network.G.blocks["4"]
    assert isinstance(start, GeneratorStart)
    weights = network.G.state_dict()
    weights["blocks.4.bias"] = weights["blocks.4.bias"].reshape(start.bias_shape)
    own = snapshot.config.network.generator_settings()
    settings = facts_of(snapshot) | {name: own[name] for name in SETTINGS}
    settings |= {"dense_scale": start.dense.scale, "xmp": snapshot.provenance().xmp().decode()}
    script = files("progan.interop").joinpath("standalone.py").read_bytes()
    write_whole(out, weights, json.dumps(settings, indent=2), script)
    classes = settings["label_kind"] == "classes"  # the script wants one for each seed
    path, seeds = shlex.quote(str(out / "generator.py")), "0:0 1:0 2:0" if classes else "0 1 2"
    return [f"it needs torch, NumPy and Pillow: python {path} {seeds}"]


def write_whole(out: Path, weights: dict[str, torch.Tensor], settings: str, script: bytes) -> None:
    """Write the three files next to the folder first, then move them into it."""
    parts = parts_of(out)
    made = Path(tempfile.mkdtemp(prefix=f"{out.name}.partial-", dir=out.parent))
    try:
        torch.save(weights, made / "weights.pt")
        (made / "settings.json").write_text(settings + "\n", encoding="utf-8")
        (made / "generator.py").write_bytes(script)
        out.mkdir(exist_ok=True)
        for part in parts:
            os.replace(made / part.name, part)
    except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
        raise DiskError(f"cannot write {out}: {why_write_failed(error, out.parent)}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
