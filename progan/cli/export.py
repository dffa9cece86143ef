"""The command progan export."""

from pathlib import Path

import click

from progan.cli.options import CheckedOption, PathOption, check_target, say
from progan.interop.export_formats import ENDINGS, GRAPHS, check_request, parts_of, to_format
from progan.runtime.disk import replacing
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes


@click.command("export")
@click.argument("source", metavar="RUN|SNAPSHOT", type=PathOption())
@click.option(
    "--to",
    type=CheckedOption("format", to_format),
    required=True,
    metavar="|".join(ENDINGS),
    help="onnx: for ONNX Runtime, browsers and other programs. torch-export: torch's own graph, "
    ".pt2. torch: a folder with a short generator.py and its weights. tf-names: an .npz with the "
    "official TensorFlow code's variables.",
)
@click.option(
    "--out",
    type=PathOption(),
    required=True,
    metavar="FILE|FOLDER",
    help="A file that ends in .onnx, .pt2 or .npz; a folder for torch.",
)
@click.option(
    "--dtype",
    type=click.Choice(["uint8", "float32"]),
    help="Of the images of onnx and torch-export: uint8 [N, H, W, C], or float32 [N, C, H, W], "
    "about -1 to 1. [default: uint8]",
)
def export_command(source: Path, to: str, out: Path, dtype: str | None) -> None:
    """Write a generator in a format that is used without progan.

    Latents go in, and labels if it has any; images come out, as `progan sample` draws them.
    onnx needs pip install '.[onnx]' (in a clone of progan).

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
        say(f"tracing {snapshot.file}: {weights:,} weights; this takes up to a minute")
    lines = export(snapshot, to, out, dtype)
    written = [out] if ENDINGS[to] else parts_of(out)
    size = human_bytes(sum(file.stat().st_size for file in written))
    click.echo("\n".join([f"{shown}: {size}", *lines]))
