"""A snapshot's generator to a file that others read."""

from pathlib import Path

from progan.interop.export_formats import GRAPHS, check_request
from progan.interop.export_graph import write_onnx, write_torch_export
from progan.interop.export_tensorflow import write_official
from progan.interop.export_torch import write_standalone
from progan.runs.snapshot import Snapshot


def export(snapshot: Snapshot, to: str, out: Path, dtype: str | None = None) -> list[str]:
    """Write a generator in a format of `export_formats.ENDINGS`, as far as it has grown.

    Args:
        out: a file that ends as the format does; for "torch" a folder, new or of an export before.
        dtype: of the images of a graph, "uint8" or "float32"; None: uint8.

    Returns:
        Sentences on what was written.

    Raises:
        UserError: the format cannot hold this network, or needs a package that is missing.
        DiskError: it could not be written.
    """
    check_request(to, out, dtype)
    if to in GRAPHS:
        write = write_onnx if to == "onnx" else write_torch_export
        return write(snapshot, out, dtype or "uint8")
    return write_standalone(snapshot, out) if to == "torch" else write_official(snapshot, out)
