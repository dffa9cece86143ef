"""Are imported networks equal to those of other projects? Images, scores and losses, side by side.

    python benchmarks/imports.py --tf --zoo pytorch_GAN_zoo --progan-pth pro_gan_pytorch \
        --progan-pth-2 pro_gan_pytorch-v2 --mmgen mmgeneration

Takes checkouts of the projects, and runs their own code on random weights, biases included:
facebookresearch/pytorch_GAN_zoo (b75dee4), akanimax/pro_gan_pytorch (8f892f6, as the newest does
not import, and 126a953 for version 2), open-mmlab/mmgeneration (ccd1f56; needs mmcv 1.x). --tf
takes the official networks by their published equations, in NumPy. What they save is imported,
and both draw images of the same latents, in float32 and float64. Prints the largest differences, as
shares of the images' range (scores and losses: of the largest), a table of the images in float32,
and JSON. Minutes on two cores.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from imports_pth import PTH_2_CASES, PTH_CASES, of_pth, of_pth_2, pth_2_modules, pth_modules
from imports_theirs import (
    FULL,
    MMGEN_CASES,
    SMALL,
    TF_CASES,
    WEIGHTS,
    ZOO_CASES,
    Kind,
    Theirs,
    Widths,
    mmgen_modules,
    of_mmgen,
    of_tf,
    of_zoo,
    tf_modules,
    zoo_modules,
)
from torch import Tensor

from progan.config.settings import NetworkConfig
from progan.interop.imported import Imported
from progan.interop.importing import read_file
from progan.model.networks import Critic, Generator
from progan.training.losses import wgan_gp

KINDS = {
    "tf": Kind(tf_modules, of_tf, TF_CASES),
    "zoo": Kind(zoo_modules, of_zoo, ZOO_CASES),
    "progan-pth": Kind(pth_modules, of_pth, PTH_CASES),
    "progan-pth-2": Kind(pth_2_modules, of_pth_2, PTH_2_CASES),
    "mmgen": Kind(mmgen_modules, of_mmgen, MMGEN_CASES),
}
COLUMNS = ("stable", "fading", "labels", "grey")  # the other cases in small widths only
WIDTHS: dict[str, Widths] = {"small": SMALL, "full": FULL}
N = {"small": 4, "full": 2}  # images; small ones fill a group of minibatch stddev
Differences = dict[str, dict[str, float]]  # by case, and by what is compared


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tf", action="store_const", const=Path(), help="the official equations in NumPy"
    )
    parser.add_argument("--zoo", type=Path, help="a checkout of pytorch_GAN_zoo")
    parser.add_argument("--progan-pth", type=Path, help="of pro_gan_pytorch")
    parser.add_argument("--progan-pth-2", type=Path, help="of its version 2")
    parser.add_argument("--mmgen", type=Path, help="of mmgeneration")
    parser.add_argument("--size", choices=WIDTHS, help="small or full widths only")
    options = vars(parser.parse_args())
    sizes = [options["size"]] if options["size"] else [*WIDTHS]
    found: Differences = {}
    for name, kind in KINDS.items():
        if checkout := options[name.replace("-", "_")]:
            found |= compare_kind(name, kind, checkout.resolve(), sizes)
    print("\n".join(table(found)))
    print(json.dumps(found))


def compare_kind(name: str, kind: Kind, checkout: Path, sizes: list[str]) -> Differences:
    """Differences in all cases of a project."""
    modules, found = kind.modules(checkout), {}
    for size in sizes:
        for case, settings in kind.cases.items():
            if size == "full" and case not in COLUMNS:
                continue
            torch.manual_seed(0)
            theirs = kind.make(modules, WIDTHS[size], **settings)
            found[f"{name}, {size}, {case}"] = differences = compare(theirs, size)
            cells = ", ".join(f"{what} {value:.1e}" for what, value in differences.items())
            print(f"{name}, {size}, {case}: {cells}", flush=True)
    return found


def compare(theirs: Theirs, size: str) -> dict[str, float]:
    """The largest differences between their networks and ours."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save(Path(folder) / "file")
        ours = read_file(Path(folder) / "file", labels=theirs.labels)
    config = NetworkConfig(**ours.network)
    G = Generator(c_dim=len(ours.labels), **config.generator_settings())
    G.load_state_dict(ours.weights["G_ema"])
    alpha = theirs.alpha or ours.alpha
    z = torch.randn(N[size], config.z_dim)
    c = (
        torch.eye(len(ours.labels))[torch.arange(len(z)) % len(ours.labels)]
        if ours.labels
        else None
    )
    found = {}
    for dtype in (torch.float32, torch.float64):
        for network in (G, *theirs.networks):
            network.to(dtype)
        fade = None if alpha is None else torch.tensor(alpha, dtype=dtype)
        given = z.to(dtype), None if c is None else c.to(dtype)
        with torch.no_grad():
            there, here = theirs.images(*given), G(*given, resolution=ours.resolution, alpha=fade)
        found[f"images {str(dtype)[6:]}"] = difference(there, here, there.max() - there.min())
    if "D" in ours.weights and theirs.critic:
        found |= compare_critics(ours, config, theirs, alpha, size)
    return found


def difference(there: Tensor, here: Tensor, span: Tensor) -> float:
    """The largest, as a share of `span`."""
    assert there.shape == here.shape, (there.shape, here.shape)
    return float(((there - here).abs().max() / span).detach())


def compare_critics(
    ours: Imported, config: NetworkConfig, theirs: Theirs, alpha: float | None, size: str
) -> dict[str, float]:
    """Differences of scores, of logits and of the critic's loss, in float64."""
    assert theirs.critic
    D = Critic(c_dim=len(ours.labels), **config.critic_settings()).double()
    D.load_state_dict(ours.weights["D"])
    shape = (N[size], config.channels, ours.resolution, ours.resolution)
    reals, fakes = torch.randn(shape).double(), torch.randn(shape).double()
    fade = None if alpha is None else torch.tensor(alpha).double()
    with torch.no_grad():
        there, (scores, logits) = theirs.critic(reals), D(reals, fade)
    found = {"scores": difference(there[:, 0], scores, there.abs().max())}
    if logits is not None:
        found["logits"] = difference(there[:, 1:], logits, there.abs().max())
    if theirs.loss and size == "small":  # of large ones it takes minutes
        torch.manual_seed(1)
        mix = 1 - torch.rand(len(reals), 1)[:, 0].double()
        real, fake = D(reals, fade)[0], D(fakes, fade)[0]
        penalty, _ = wgan_gp(lambda x: D(x, fade)[0], reals, fakes, mix, 1.0)
        of_images = fake - real + WEIGHTS["penalty"] * penalty
        loss = (of_images + WEIGHTS["drift"] * real.square()).mean()
        other = theirs.loss(reals, fakes)
        found["loss"] = difference(other, loss, other.abs())
    return found


def table(found: Differences) -> list[str]:
    """Lines in Markdown: the images' differences in float32, by kind, size and stage."""
    lines = [f"| kind | widths | {' | '.join(COLUMNS)} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for kind in KINDS:
        for size in WIDTHS:
            cells = [found.get(f"{kind}, {size}, {column}") for column in COLUMNS]
            if any(cells):
                words = [f"{cell['images float32']:.0e}" if cell else "–" for cell in cells]
                words = [word.replace("e-0", "e-") for word in words]
                lines.append(f"| `{kind}` | {size} | {' | '.join(words)} |")
    return lines


if __name__ == "__main__":
    main()
