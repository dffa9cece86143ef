"""The command progan export."""

from pathlib import Path

import click

from progan.cli.options import SNAPSHOT, CheckedOption, PathOption, check_target, say
from progan.interop.export_formats import ENDINGS, GRAPHS, check_request, parts_of, to_format
from progan.runtime.disk import replacing
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes


@click.command("export")
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@click.option(
    "--to",
    type=CheckedOption("format", to_format),
    required=True,
    metavar="|".join(ENDINGS),
    help="onnx: a file for ONNX Runtime, browsers and other languages. torch-export: a .pt2 file "
    "that torch alone can run. torch: a folder with a short script, generator.py, and the weights. "
    "tf-names: an .npz file with the variables of the official TensorFlow code.",
)
@click.option(
    "--out",
    type=PathOption(),
    required=True,
    metavar="DIR|FILE",
    help="Where to write it: a file that ends in .onnx, .pt2 or .npz; for torch a folder.",
)
@click.option(
    "--dtype",
    type=click.Choice(["uint8", "float32"]),
    help="The images that an onnx or torch-export file makes: uint8 [N, H, W, C], or float32 "
    "[N, C, H, W] from about -1 to 1. [default: uint8]",
)
def export_command(source: Path, to: str, out: Path, dtype: str | None) -> None:
    """Write a generator to a file that works without progan.

    The file takes latents, and labels if the generator was trained with labels. It makes the same
    images from them as progan. To write onnx you need pip install '.[onnx]' (in a clone of progan).

    \b
    progan export runs/faces --to onnx --out faces.onnx
    progan export runs/faces@best --to torch --out faces
    """
    if not is_main():
        return
    from progan.interop.exporting import export
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot

    check_request(to, out, dtype)
    shown = check_target(out, "--out") if ENDINGS[to] else f"{out}{replacing(parts_of(out))}"
    snapshot = load_snapshot(find_snapshot(source))
    if to in GRAPHS:
        weights = sum(weight.numel() for weight in snapshot.G.parameters())
        say(f"tracing {snapshot.file}: {weights:,} weights; this takes seconds to minutes")
    lines = export(snapshot, to, out, dtype)
    written = [out] if ENDINGS[to] else parts_of(out)
    size = human_bytes(sum(file.stat().st_size for file in written))
    click.echo("\n".join([f"{shown}: {size}", *lines]))
