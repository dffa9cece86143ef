"""Draws images of a ProGAN. progan made this file and those beside it; it does not need progan.

python generator.py 0 1 7    the images of these seeds as PNG files, as `progan sample` draws them
python generator.py 0:2      with label 2 of those in settings.json; 0:1,4 has attributes 1 and 4
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, PngImagePlugin

HERE = Path(__file__).parent
S = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
W = torch.load(HERE / "weights.pt", weights_only=True)  # W[name].to("cuda") moves them


def norm(x):
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if S["norm"] == "rms":  # its epsilon for latents is another than for features
        return x * (length / x.shape[1] ** 0.5 + (1e-6 if x.ndim == 2 else 1e-5)).reciprocal()
    return x * (length.square() / x.shape[1] + 1e-8).rsqrt()


def activated(x, normalized=S["pixel_norm"]):
    return norm(F.leaky_relu(x, 0.2)) if normalized else F.leaky_relu(x, 0.2)


def conv(x, name):
    weight, bias = W[f"{name}.weight"], W[f"{name}.bias"]
    if weight.shape[-1] == 4:  # upsampling and a convolution in one
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    x = F.interpolate(x, scale_factor=2) if name.endswith("up") else x
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def generate(z, c):
    """Latents [N, z_dim], labels [N, c_dim] (c_dim 0: none) -> images [N, C, r, r], [-1, 1]."""
    x = norm(torch.cat([z, c], 1)) if S["label_norm"] else torch.cat([norm(z), c], 1)
    x = F.linear(x * S["dense_scale"], W["blocks.4.dense.weight"]).unflatten(1, (-1, 4, 4))
    x = x.contiguous(memory_format=torch.channels_last) + W["blocks.4.bias"]
    x = below = activated(x, S["pixel_norm"] and S["start_norm"])
    x = activated(conv(x, "blocks.4.conv"))
    for r in (2**k for k in range(3, S["resolution"].bit_length())):
        below = x
        for layer in ("conv_up", "conv"):
            x = activated(conv(x, f"blocks.{r}.{layer}"))
    images = conv(x, f"image_layers.{S['resolution']}")
    if S["alpha"] is not None:  # the newest block fades in
        old = F.interpolate(conv(below, f"image_layers.{S['resolution'] // 2}"), scale_factor=2)
        images = torch.lerp(old, images, torch.tensor(S["alpha"]).to(old))
    return images.tanh() if S["output"] == "tanh" else images


@torch.no_grad()
def draw(seed, labels=()):
    """The image of a seed, uint8 [r, r, C]."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 5, 0))))
    z = torch.from_numpy(rng.standard_normal((1, S["z_dim"]), np.float32))
    c = torch.zeros(1, len(S["labels"])).index_fill(1, torch.tensor(labels, dtype=torch.long), 1)
    images = generate(z, c).mul(127.5).add(127.5).round().clamp(0, 255).byte()
    return images[0].permute(1, 2, 0).numpy()


if __name__ == "__main__":
    mark = PngImagePlugin.PngInfo()
    mark.add_itxt("XML:com.adobe.xmp", S["xmp"])  # says that the picture was generated
    for word in sys.argv[1:] or ["0"]:
        seed, _, labels = word.partition(":")
        if S["label_kind"] == "classes" and not labels:
            sys.exit(f"give a class, as in {seed}:0, numbered from 0: {S['labels']!r}")
        pixels = draw(int(seed), [int(label) for label in labels.split(",") if label])
        Image.fromarray(pixels.squeeze()).save(f"{word.replace(':', '-')}.png", pnginfo=mark)
