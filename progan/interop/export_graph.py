"""A generator as a graph that runs without progan: ONNX, and torch.export's .pt2.

TorchScript, its elder, is deprecated: torch.jit.trace and .script warn of it since torch 2.10.
"""

import io
import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from progan.interop.export_formats import facts_of
from progan.interop.plain import PlainGenerator
from progan.runs.snapshot import Snapshot
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError
from progan.runtime.extras import how_to_install
from progan.runtime.text import human_bytes

MOST_BYTES = 2**31 - 2**20  # of an ONNX file: protobuf's limit, less what is not weights
ABOUT_SOURCES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn")


def write_onnx(snapshot: Snapshot, out: Path, dtype: str) -> list[str]:
    """One file, with `facts_of` the snapshot in its metadata. See `exporting.export`."""
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError(f"--to onnx needs onnx and onnxscript: {how_to_install('onnx')}")
    network = PlainGenerator(snapshot, dtype)
    size = sum(4 * weight.numel() for weight in network.parameters())
    if size > MOST_BYTES:
        raise UserError(
            f"its weights take {human_bytes(size)}, and an ONNX file holds 2 GB; give --to "
            "torch-export"
        )
    graph = trace(network, snapshot)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # latents and labels share it
        warnings.filterwarnings("ignore", ".*LeafSpec")  # torch 2.11 warns of what it does itself
        made = torch.onnx.export(graph, (), dynamo=True, output_names=["images"], verbose=False)
    assert made is not None
    model = made.model
    model.producer_name = "progan"
    model.metadata_props.clear()
    model.metadata_props.update(
        {name: x if isinstance(x, str) else json.dumps(x) for name, x in facts_of(snapshot).items()}
    )
    for node in model.graph:
        node.metadata_props.clear()  # where in torch and progan it came from
    write_atomically(out, lambda part: made.save(part, external_data=False))
    return [describe(snapshot, dtype)]


def write_torch_export(snapshot: Snapshot, out: Path, dtype: str) -> list[str]:
    """One file, with `facts_of` the snapshot in it as progan.json. See `exporting.export`."""
    graph = trace(PlainGenerator(snapshot, dtype), snapshot)
    more: dict[str, Any] = {"progan.json": json.dumps(facts_of(snapshot))}

    # In memory first, as torch ends the process where it cannot write.
    file = io.BytesIO()
    torch.export.save(graph, file, extra_files=more)
    write_atomically(out, lambda part: part.write_bytes(file.getbuffer()))
    return [describe(snapshot, dtype)]


def trace(network: PlainGenerator, snapshot: Snapshot) -> ExportedProgram:
    """The graph for any number of images, without the paths of this machine."""
    widths = {"latents": snapshot.G.z_dim, "labels": snapshot.G.c_dim}
    inputs = tuple(torch.zeros(2, width) for width in widths.values() if width)
    shapes = tuple({0: Dim("N")} for _ in inputs)
    graph = torch.export.export(network, inputs, dynamic_shapes=shapes)
    for node in graph.graph.nodes:
        for name in ABOUT_SOURCES:
            node.meta.pop(name, None)
    return graph


def describe(snapshot: Snapshot, dtype: str) -> str:
    """What goes in and comes out."""
    r, channels, c_dim = snapshot.resolution, snapshot.G.channels, snapshot.G.c_dim
    labels = f" and labels float32 [N, {c_dim}]" if c_dim else ""
    shape = f"[N, {r}, {r}, {channels}]" if dtype == "uint8" else f"[N, {channels}, {r}, {r}]"
    taken = f"latents float32 [N, {snapshot.G.z_dim}]{labels}"
    return f"it takes {taken}, and gives images {dtype} {shape}"
