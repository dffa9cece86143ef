"""The command `progan import`: weights of other projects, as progan's own files."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import PathOption, check_folder, check_target, say
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes, printable, stage_text

if TYPE_CHECKING:
    from progan.interop.imported import Imported

NETWORKS = {"G_ema": "averaged generator", "G": "generator", "D": "critic"}


@click.command("import")
@click.argument("file", metavar="FILE", type=PathOption())
@click.option(
    "--out", type=PathOption(), metavar="FILE", help="Write a snapshot, a .safetensors file."
)
@click.option(
    "--from",
    "kind",
    type=click.Choice(["tf", "zoo", "progan-pth", "mmgen"]),
    help="Which code wrote the file: tf, the official code; zoo, pytorch_GAN_zoo; progan-pth, "
    "pro_gan_pytorch; or mmgen, mmgeneration. [default: found out from the file]",
)
@click.option(
    "--checkpoint",
    "run_dir",
    type=PathOption(),
    metavar="DIR",
    help="Make a run in this new folder, which goes on training the networks. The file must hold "
    "a critic, too.",
)
@click.option(
    "--labels",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many labels the generator takes, for files that do not tell: those of version 2 of "
    "pro_gan_pytorch, and of mmgeneration without a critic.",
)
def import_(
    file: Path, out: Path | None, kind: str | None, run_dir: Path | None, labels: int | None
) -> None:
    """Read a network that another project's code has trained.

    It makes the same images here as there. Give --out for a snapshot, to make images with,
    --checkpoint for a run, to train on, or both. Nothing that is in the file is run. docs/import.md
    says which files can be read, and what their networks do in another way.

    \b
    progan import karras2018iclr-celebahq-1024x1024.pkl --out celebahq.safetensors
    progan sample celebahq.safetensors --grid
    progan import network-final.pkl --checkpoint runs/on
    progan train --resume runs/on -o data.source=faces.zip
    """
    if not is_main():
        return
    check_targets(out, run_dir)
    if file.is_file():
        say(f"reading {file} ({human_bytes(file.stat().st_size)})")

    from progan.interop.importing import (
        check_critic,
        check_new,
        read_file,
        write_run,
        write_snapshot,
    )

    if run_dir:
        check_new(run_dir)
    it = read_file(file, kind, labels)
    if run_dir:
        check_critic(it)
    for line in about(it):
        click.echo(line)
    if out:
        write_snapshot(it, file, out)
        click.echo(f"snapshot: {out}\n  progan sample {shlex.quote(str(out))} --grid")
    if run_dir:
        write_run(it, file, run_dir)
        click.echo(
            f"run: {run_dir}, which begins with {'both' if 'G' in it.weights else 'these'} "
            f"networks at {it.resolution}x{it.resolution}; see {run_dir / 'config.yaml'}\n"
            f"  progan train --resume {shlex.quote(str(run_dir))} -o data.source=PATH"
        )


def check_targets(out: Path | None, run_dir: Path | None) -> None:
    """Raises UserError unless something is to be written, and can be."""
    if out is None and run_dir is None:
        raise UserError("progan import needs --out FILE.safetensors, --checkpoint DIR, or both")
    if out and out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors")
    check_target(out, "--out")
    if run_dir:
        check_folder(run_dir, "--checkpoint")
        if out and out.resolve() == run_dir.resolve():
            raise UserError(f"--out and --checkpoint are both {out}; give each its own name")


def about(it: "Imported") -> list[str]:
    """What a file holds, in lines."""
    from progan.interop.imported import PROJECTS

    counts = {
        name: sum(w.numel() for w in weights.values()) for name, weights in it.weights.items()
    }
    networks = (f"{NETWORKS[name]} ({count:,} parameters)" for name, count in counts.items())
    lines = [
        f"{it.kind}: of {PROJECTS[it.kind]}, trained up to "
        f"{stage_text(it.resolution, it.alpha)}; it can grow to "
        f"{it.network['resolution']}x{it.network['resolution']}",
        f"networks: {', '.join(networks)}",
    ]
    if it.labels:
        names = ", ".join(map(printable, it.labels[:10])) + ", …" * (len(it.labels) > 10)
        lines.append(f"{len(it.labels)} {it.label_kind}: {names}")
    lines += [f"note: {printable(note)}" for note in it.notes]
    if it.licence:
        lines.append(
            f"licence of the weights: {it.licence}; it holds for what is made of them, too"
        )
    return lines
