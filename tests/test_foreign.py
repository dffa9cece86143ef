"""Networks of pytorch_GAN_zoo, pro_gan_pytorch and mmgeneration: files in their layouts, written
here, and their forward passes, written here from what their code computes."""

import io
import math
import pickle
import random
import sys
import types
import zipfile
from contextlib import contextmanager, nullcontext, suppress
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from progan.config.settings import NetworkConfig
from progan.interop import gan_zoo, mmgen, pro_gan_pth
from progan.interop.layout import width_settings
from progan.interop.torch_files import is_torch, read_torch
from progan.model.networks import Critic, Generator
from progan.runtime import zips
from progan.runtime.errors import UserError
from progan.runtime.pickles import UnknownNameError

WIDTHS = {4: 6, 8: 4, 16: 3}
Z, N = 5, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def lrelu(x):
    return F.leaky_relu(x, 0.2)


def norm(x):
    return x / ((x * x).mean(dim=1, keepdim=True) + 1e-8).sqrt()


def double(weights):
    return {name: tensor.double() for name, tensor in weights.items()}


def up(x):
    return F.interpolate(x, scale_factor=2)


def drawn(shapes):
    """Random weights, and biases that are not 0, so that a lost or misplaced one shows."""
    return {name: normal(*shape, seed=k) for k, (name, shape) in enumerate(shapes.items())}


def layers(shapes):
    return drawn(
        {f"{n}.weight": s for n, s in shapes.items()}
        | {f"{n}.bias": s[:1] for n, s in shapes.items()}
    )


# pytorch_GAN_zoo: (W x + b) * sqrt(2 / fan_in) ----------------------------------------------------


class BaseConfig:
    """Becomes `models.utils.config.BaseConfig` while a file is written."""


@contextmanager
def named(module):
    """The class above in a module of another project."""
    BaseConfig.__module__ = module
    names = ["models", "models.utils", module]
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[module].BaseConfig = BaseConfig
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def zoo(labels=(), alpha=0.0, channels=3, stddev=True, **settings):
    """What `torch.save` gets there."""
    config, widths = BaseConfig(), list(WIDTHS.values())
    config.__dict__ = {
        "noiseVectorDim": Z,
        "latentVectorDim": Z + sum(map(len, labels)),
        "depthScale0": widths[0],
        "depthOtherScales": widths[1:],
        "dimOutput": channels,
        "alpha": alpha,
        "leakyReluLeak": 0.2,
        "perChannelNormalization": True,
        "miniBatchStdDev": stddev,
        "equalizedlR": True,
        "lossCriterion": "WGANGP",
        "attribKeysOrder": {
            f"label{k}": {"order": k, "values": list(values)} for k, values in enumerate(labels)
        }
        or None,
    } | settings
    G = {"formatLayer.module": (16 * 6, Z + sum(map(len, labels)))}
    G |= {"groupScale0.0.module": (6, 6, 3, 3)}
    D = {"groupScaleZero.0.module": (6, 6 + stddev, 3, 3), "groupScaleZero.1.module": (6, 16 * 6)}
    D |= {"decisionLayer.module": (1 + sum(map(len, labels)), 6)}
    for k, width in enumerate(widths):
        if k:
            G |= {f"scaleLayers.{k - 1}.0.module": (width, widths[k - 1], 3, 3)}
            G |= {f"scaleLayers.{k - 1}.1.module": (width, width, 3, 3)}
            D |= {f"scaleLayers.{k - 1}.0.module": (width, width, 3, 3)}
            D |= {f"scaleLayers.{k - 1}.1.module": (widths[k - 1], width, 3, 3)}
        G |= {f"toRGBLayers.{k}.module": (channels, width, 1, 1)}
        D |= {f"fromRGBLayers.{k}.module": (width, channels, 1, 1)}
    live = {name: tensor + 1 for name, tensor in layers(G).items()}
    return {"config": config, "netG": live, "netD": layers(D), "avgG": layers(G), "tmp": None}


def zoo_layer(x, w, name, equalized=True):
    weight, bias = w[f"{name}.module.weight"], w[f"{name}.module.bias"]
    c = math.sqrt(2 / weight[0].numel()) if equalized else 1
    if weight.ndim == 2:
        return F.linear(x, weight, bias) * c
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2) * c


def zoo_images(content, z, c):
    w, config = double(content["avgG"]), content["config"]
    scale = config.equalizedlR
    x = norm(torch.cat([z, c], dim=1))
    x = norm(lrelu(zoo_layer(x, w, "formatLayer", scale)).view(N, -1, 4, 4))
    x = norm(lrelu(zoo_layer(x, w, "groupScale0.0", scale)))
    for k in range(len(WIDTHS) - 1):
        below, x = x, up(x)
        for each in (0, 1):
            x = norm(lrelu(zoo_layer(x, w, f"scaleLayers.{k}.{each}", scale)))
    old = up(zoo_layer(below, w, f"toRGBLayers.{k}", scale))
    x = zoo_layer(x, w, f"toRGBLayers.{k + 1}", scale)
    x = config.alpha * old + (1 - config.alpha) * x  # of the old path
    return x.tanh() if config.lossCriterion in ("MSE", "DCGAN") else x


def zoo_scores(content, x):
    w, config = double(content["netD"]), content["config"]
    last = len(WIDTHS) - 1
    old = lrelu(zoo_layer(F.avg_pool2d(x, 2), w, f"fromRGBLayers.{last - 1}"))
    x = lrelu(zoo_layer(x, w, f"fromRGBLayers.{last}"))
    for k in reversed(range(last)):
        for each in (0, 1):
            x = lrelu(zoo_layer(x, w, f"scaleLayers.{k}.{each}"))
        x = F.avg_pool2d(x, 2)
        if k == last - 1 and last > 1:
            x = config.alpha * old + (1 - config.alpha) * x
    if config.miniBatchStdDev:
        stddev = (x.var(dim=0, unbiased=True) + 1e-8).sqrt().mean()
        x = torch.cat([x, stddev.expand(N, 1, 4, 4)], dim=1)
    x = lrelu(zoo_layer(x, w, "groupScaleZero.0")).flatten(1)
    return zoo_layer(lrelu(zoo_layer(x, w, "groupScaleZero.1")), w, "decisionLayer")


# pro_gan_pytorch: W x * sqrt(2 / fan_in) + b -----------------------------------------------------


def version_3(channels=3, use_eql=True, grown=16, **conf):
    """What version 3 saves, and `grown`, which it does not."""
    widths = list(WIDTHS.values())
    G = {"layers.0.conv_1": (Z, 6, 4, 4), "layers.0.conv_2": (6, 6, 3, 3)}
    D = {"layers.2.conv_1": (6, 7, 3, 3), "layers.2.conv_2": (8, 6, 4, 4)}
    D |= {"layers.2.conv_3": (1, 8, 1, 1)}
    for k, width in enumerate(widths):
        if k:
            G |= {f"layers.{k}.conv_1": (width, widths[k - 1], 3, 3)}
            G |= {f"layers.{k}.conv_2": (width, width, 3, 3)}
            D |= {f"layers.{2 - k}.conv_1": (width, width, 3, 3)}
            D |= {f"layers.{2 - k}.conv_2": (widths[k - 1], width, 3, 3)}
        G |= {f"rgb_converters.{k}": (channels, width, 1, 1)}
        D |= {f"from_rgb.{2 - k}.0": (width, channels, 1, 1)}
    G, D = layers(G), layers(D)
    G["layers.0.conv_1.bias"] = normal(6)  # of a transposed convolution
    for k, r in enumerate(WIDTHS):
        if r > grown:
            G[f"rgb_converters.{k}.bias"].zero_()
    own = {"depth": 4, "num_channels": channels, "latent_size": Z, "use_eql": use_eql} | conf
    return {
        "generator": {"conf": dict(own), "state_dict": {name: w + 1 for name, w in G.items()}},
        "shadow_generator": {"conf": dict(own), "state_dict": G},
        "discriminator": {"conf": own | {"num_classes": None}, "state_dict": D},
        "gen_optim": torch.optim.Adam([torch.nn.Parameter(G["layers.0.conv_2.bias"])]).state_dict(),
        "dis_optim": {},
    }


def version_2():
    """What version 2 saves on a GPU: weights alone."""
    weights = version_3()["shadow_generator"]["state_dict"]
    first = {n: f"initial_block.{n.removeprefix('layers.0.')}" for n in weights if "ers.0.c" in n}
    later = {n: f"layers.{int(n[7]) - 1}{n[8:]}" for n in weights if n[7] in "12"}
    names = first | {n: name for n, name in later.items() if n.startswith("layers")}
    return {f"module.{names.get(n, n)}": tensor for n, tensor in weights.items()}


def pth_layer(x, w, name, equalized=True, padding=1):
    weight = w[f"{name}.weight"]
    weight = weight * (math.sqrt(2 / weight[0].numel()) if equalized else 1)
    return F.conv2d(x, weight, w[f"{name}.bias"], padding=padding)


def pth_images(content, z, grown=16, c=None):
    part = content["shadow_generator"]
    w, scale = double(part["state_dict"]), part["conf"]["use_eql"]
    weight = w["layers.0.conv_1.weight"] * (math.sqrt(2 / Z) if scale else 1)
    x = norm(z) if c is None else torch.cat([c, norm(z)], dim=1)
    x = lrelu(F.conv_transpose2d(x[:, :, None, None], weight, w["layers.0.conv_1.bias"]))
    x = norm(lrelu(pth_layer(x, w, "layers.0.conv_2", scale)))  # no norm after the first layer
    for k, r in enumerate(WIDTHS):
        if 4 < r <= grown:
            x = norm(lrelu(pth_layer(up(x), w, f"layers.{k}.conv_1", scale)))
            x = norm(lrelu(pth_layer(x, w, f"layers.{k}.conv_2", scale)))
    return pth_layer(x, w, f"rgb_converters.{int(math.log2(grown)) - 2}", scale, padding=0)


def pth_scores(content, x):
    w = double(content["discriminator"]["state_dict"])
    x = lrelu(pth_layer(x, w, "from_rgb.0.0", padding=0))
    for k in (0, 1):
        x = lrelu(pth_layer(x, w, f"layers.{k}.conv_1"))
        x = F.avg_pool2d(lrelu(pth_layer(x, w, f"layers.{k}.conv_2")), 2)
    stddev = (x.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    x = torch.cat([x, stddev.expand(N, 1, 4, 4)], dim=1)
    x = lrelu(pth_layer(x, w, "layers.2.conv_1"))
    x = lrelu(pth_layer(x, w, "layers.2.conv_2", padding=0))
    return pth_layer(x, w, "layers.2.conv_3", padding=0).view(N, 1)


# mmgeneration: a fused kernel's fan counts the channels that go out ------------------------------


def mmgen_file(fused=True, labels=0, scale=16, weight=1.0, widths=WIDTHS, config=None):
    """What mmcv saves."""
    numbers = list(widths.values())
    convs = {"conv_blocks.0.conv": (numbers[0], numbers[0], 3, 3)}
    for k, width in enumerate(numbers):
        if k:
            convs |= {f"conv_blocks.{2 * k - 1}.conv": (width, numbers[k - 1], 3, 3)}
            convs |= {f"conv_blocks.{2 * k}.conv": (width, width, 3, 3)}
        convs |= {f"torgb_layers.{k}.conv": (3, width, 1, 1)}
    G = {name.replace(".weight", ".weight_orig"): w for name, w in layers(convs).items()}
    for k in range(1, len(numbers) if fused else 0):
        name = f"conv_blocks.{2 * k - 1}.conv.weight_orig"
        G[name] = G[name].transpose(0, 1).contiguous()
    G["noise2feat.linear.weight_orig"] = normal(16 * numbers[0], Z + labels)
    G["noise2feat.bias"] = normal(1, numbers[0], 1, 1)
    D = {"discriminator.decision.linear1.weight_orig": normal(1 + labels, numbers[0])}
    state = {f"generator_ema.{name}": w for name, w in G.items()} | D
    state |= {f"generator.{name}": w + 1 for name, w in G.items()}
    state |= {"shown_nkimg": torch.tensor(3.0), "_next_scale_int": torch.tensor(scale)}
    state |= {"_curr_scale_int": torch.tensor(scale, dtype=torch.int32)}
    state |= {"_curr_transition_weight": torch.tensor(weight)}
    return {"meta": {"config": config, "mmcv_version": "1.3"}, "state_dict": state}


def rms_norm(x, eps=1e-5):
    """mmcv gives 1e-5 to each norm that it builds; the latents' is built without it."""
    return x / ((x * x).mean(dim=1, keepdim=True).sqrt() + eps)


def mmgen_layer(x, w, name, gain=2**0.5):
    weight, bias = w[f"{name}.weight_orig"], w[f"{name}.bias"]
    weight = weight * gain / math.sqrt(weight[0].numel())
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def mmgen_up(x, w, name, fused):
    if not fused:
        return mmgen_layer(up(x), w, name)
    weight = w[f"{name}.weight_orig"]  # [in, out, 3, 3], so torch takes out * 9 for its fan
    weight = F.pad(weight * math.sqrt(2 / weight[0].numel()), (1, 1, 1, 1))
    parts = (weight[..., i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))
    return F.conv_transpose2d(x, sum(parts), w[f"{name}.bias"], stride=2, padding=1)


def mmgen_images(content, z, c, fused, scale=16, weight=1.0):
    state = double(content["state_dict"])
    w = {n.removeprefix("generator_ema."): t for n, t in state.items() if "generator_ema" in n}
    x = rms_norm(torch.cat([z, c], dim=1), 1e-6)
    dense = w["noise2feat.linear.weight_orig"] * math.sqrt(2) / 4 / math.sqrt(x.shape[1])
    x = rms_norm(lrelu((x @ dense.T).view(N, -1, 4, 4) + w["noise2feat.bias"]))
    x = below = rms_norm(lrelu(mmgen_layer(x, w, "conv_blocks.0.conv")))
    for k, r in enumerate(WIDTHS):
        if 4 < r <= scale:
            below = x
            x = rms_norm(lrelu(mmgen_up(x, w, f"conv_blocks.{2 * k - 1}.conv", fused)))
            x = rms_norm(lrelu(mmgen_layer(x, w, f"conv_blocks.{2 * k}.conv")))
    last = int(math.log2(scale)) - 2
    new = mmgen_layer(x, w, f"torgb_layers.{last}.conv", gain=1)
    old = up(mmgen_layer(below, w, f"torgb_layers.{last - 1}.conv", gain=1))
    return (old + weight * (new - old)).flip(1)  # theirs are BGR


# Equality -----------------------------------------------------------------------------------------


def saved(content, tmp_path, zipped=True):
    """What is read from a file that `torch.save` has written."""
    path = tmp_path / "file.pth"
    with named("models.utils.config"):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert is_torch(path.read_bytes()[:16])
    with open(path, "rb") as file:
        return read_torch(file)


def networks(imported):
    """Ours, in float64; strict, so each of our weights has come from somewhere."""
    config, c_dim = NetworkConfig(**imported.network), len(imported.labels)
    G = Generator(c_dim=c_dim, **config.generator_settings()).double()
    G.load_state_dict(imported.weights["G_ema"])
    if "D" not in imported.weights:
        return G, None
    D = Critic(c_dim=c_dim, **config.critic_settings()).double()
    D.load_state_dict(imported.weights["D"])
    return G, D


def images_of(imported, z, c):
    G, _ = networks(imported)
    alpha = None if imported.alpha is None else torch.tensor(imported.alpha).double()
    own = c if c.shape[1] else None
    with torch.no_grad():
        return G(z, own, resolution=imported.resolution, alpha=alpha)


DIGITS = [["zero", "one"]]
ZOO = {
    "stable": {},
    "fading": {"alpha": 0.7},
    "classes": {"labels": DIGITS},
    "attributes": {"labels": [*DIGITS, ["F", "M", "X"]]},
    "grey": {"channels": 1},
    "tanh": {"lossCriterion": "DCGAN", "alpha": 0.7},
    "no stddev": {"stddev": False},
    "not equalized": {"equalizedlR": False},
}


@pytest.mark.parametrize("case", ZOO)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_networks_of_gan_zoo(case, zipped, tmp_path):
    """Reference: the forward passes above, in float64 with weights of float32. Labels are in the
    order of the config; the logits of labels begin in the score's column."""
    content = zoo(**ZOO[case])
    read = saved(content, tmp_path, zipped)
    assert gan_zoo.recognize(read)
    imported = gan_zoo.convert(read)
    names = {"classes": ("zero", "one"), "attributes": ("label0=zero", "label0=one")}
    assert imported.labels[:2] == names.get(case, ()) and imported.resolution == 16
    assert imported.label_kind == (case if case in names else None)
    z, c = normal(N, Z).double(), torch.eye(N, len(imported.labels)).double()
    expected = zoo_images(content, z, c)
    torch.testing.assert_close(images_of(imported, z, c), expected, rtol=0, atol=1e-5)
    if case != "not equalized":
        x = normal(N, content["config"].dimOutput, 16, 16).double()
        _, D = networks(imported)
        alpha = None if imported.alpha is None else torch.tensor(imported.alpha).double()
        scores, logits = D(x, alpha)
        expected = zoo_scores(content, x)
        torch.testing.assert_close(scores, expected[:, 0], rtol=0, atol=1e-5)
        if logits is not None:
            torch.testing.assert_close(logits, expected[:, :-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [{}, {"channels": 1}, {"use_eql": False}, {"grown": 8}])
def test_networks_of_version_3(case, tmp_path):
    """Reference: the forward passes above. How far a network has grown is seen from its biases."""
    content = version_3(**case)
    read = saved(content, tmp_path)
    assert pro_gan_pth.recognize(read)
    imported = pro_gan_pth.convert(read)
    z, c = normal(N, Z).double(), torch.empty(N, 0)
    expected = pth_images(content, z, case.get("grown", 16))
    torch.testing.assert_close(images_of(imported, z, c), expected, rtol=0, atol=1e-5)
    if not case:
        x = normal(N, 3, 16, 16).double()
        expected = pth_scores(content, x)[:, 0]
        torch.testing.assert_close(networks(imported)[1](x)[0], expected, rtol=0, atol=1e-5)


def test_networks_of_version_2(tmp_path):
    """Reference: version 3's forward pass; weights of the size of torch's default are unscaled."""
    weights = version_2()
    read = saved(weights, tmp_path, zipped=False)
    assert pro_gan_pth.recognize(read)
    z = normal(N, Z).double()
    images = images_of(pro_gan_pth.convert(read), z, torch.empty(N, 0))
    torch.testing.assert_close(images, pth_images(version_3(), z), rtol=0, atol=1e-5)
    weights["module.initial_block.conv_2.weight"] /= math.sqrt(3 * 6 * 9)
    assert pro_gan_pth.convert(weights).network["equalized"] is False


def test_labels_that_a_file_does_not_tell(tmp_path):
    """Reference: version 2's forward pass, which takes labels and then a latent; mmgeneration's
    file with its critic, whose logits tell. Elsewhere labels are known, and more cannot be."""
    read = saved(version_2(), tmp_path)
    imported = pro_gan_pth.convert(read, 2)
    assert imported.labels == ("0", "1") and imported.network["z_dim"] == Z - 2
    assert not any("--labels" in note for note in imported.notes)
    assert any("--labels" in note for note in pro_gan_pth.convert(read).notes)
    z, c = normal(N, Z - 2).double(), torch.eye(N, 2).double()
    expected = pth_images(version_3(), z, c=c)
    torch.testing.assert_close(images_of(imported, z, c), expected, rtol=0, atol=1e-5)
    content = saved(mmgen_file(labels=2), tmp_path)
    told = mmgen.convert(content)
    with pytest.raises(UserError, match="its critic knows 2 labels, not 3"):
        mmgen.convert(content, 3)
    del content["state_dict"][mmgen.LOGITS]
    assert mmgen.convert(content, 2).network == told.network
    assert any("--labels" in note for note in mmgen.convert(content).notes)
    for convert, labels in ((pro_gan_pth.convert, Z), (pro_gan_pth.convert, 10**9)):
        with pytest.raises(UserError, match="cannot be labels; 0 to 4 can"):
            convert(read, labels)
    with pytest.raises(UserError, match="version 3 take no labels"):
        pro_gan_pth.convert(version_3(), 2)


def test_no_file_makes_a_message_or_a_network_of_any_size(tmp_path):
    """Reference: sizes that no numbers stand behind: a tensor of none with 10^9 rows, which would
    be so many labels, and one of 60,000 axes."""
    content = mmgen_file(labels=2)
    content["state_dict"][mmgen.LOGITS] = torch.empty(0).as_strided((10**9, 0), (1, 1))
    with pytest.raises(UserError, match="lacks discriminator.decision"):
        mmgen.convert(saved(content, tmp_path))
    content["state_dict"][mmgen.LOGITS] = torch.empty(1).as_strided((1,) * 60_000, (1,) * 60_000)
    with pytest.raises(ValueError, match="has 60000 axes$"):
        saved(content, tmp_path)


def test_names_that_become_one_are_refused(tmp_path):
    """Reference: a file with both spellings of a weight, and one with a label twice."""
    content = saved(zoo(), tmp_path)
    content["netG"]["formatLayer.weight"] = content["netG"]["formatLayer.module.weight"]
    with pytest.raises(UserError, match="two weights that are called formatLayer.weight"):
        gan_zoo.convert(content)
    content = version_2() | {"initial_block.conv_1.bias": normal(6)}
    with pytest.raises(UserError, match="two weights that are called initial_block.conv_1.bias"):
        pro_gan_pth.convert(content)
    with pytest.raises(UserError, match="a value twice"):
        gan_zoo.convert(saved(zoo(labels=[["one", "one"]]), tmp_path))
    long = ["y" * 60 + "1", "y" * 60 + "2"]
    assert gan_zoo.convert(saved(zoo(labels=[long]), tmp_path)).labels == tuple(long)


@pytest.mark.parametrize(
    "case", [{}, {"fused": False, "labels": 2}, {"scale": 8, "weight": 0.25}], ids=str
)
def test_generators_of_mmgeneration(case, tmp_path):
    """Reference: the forward pass above. Its critic is left out, and it is said."""
    content, fused = mmgen_file(**case), case.get("fused", True)
    read = saved(content, tmp_path)
    assert mmgen.recognize(read)
    imported = mmgen.convert(read)
    z, c = normal(N, Z).double(), torch.eye(N, case.get("labels", 0)).double()
    expected = mmgen_images(content, z, c, fused, case.get("scale", 16), case.get("weight", 1.0))
    torch.testing.assert_close(images_of(imported, z, c), expected, rtol=0, atol=1e-5)
    assert imported.network["fused_scale"] is fused and "critic is left out" in imported.notes[0]


# Tables -------------------------------------------------------------------------------------------

TABLES = {
    "zoo": (gan_zoo, zoo, lambda content: [content["netG"], content["netD"], content["avgG"]]),
    "version 3": (
        pro_gan_pth,
        version_3,
        lambda content: [part["state_dict"] for part in list(content.values())[:3]],
    ),
    "version 2": (pro_gan_pth, version_2, lambda content: [content]),
    "mmgen": (mmgen, mmgen_file, lambda content: [content["state_dict"]]),
}
SPARE = ("shown_nkimg", "_curr", "_next", "discriminator.")  # mmgeneration's, and not needed


@pytest.mark.parametrize("layout", TABLES)
def test_tables_are_complete_both_ways(layout, tmp_path):
    """Reference: each file without any one of its weights, with one more, and with one of another
    shape. The message has its name."""
    importer, make, dictionaries = TABLES[layout]
    content = saved(make(), tmp_path)
    for weights in dictionaries(content):
        for name in [name for name in weights if not name.startswith(SPARE)]:
            short = name.removeprefix("module.").replace(".module.", ".").split("generator", 1)[-1]
            tensor = weights.pop(name)
            with pytest.raises(UserError, match=short.split(".", short.count("_ema."))[-1]):
                importer.convert(content)
            weights[name] = tensor[..., None]
            with pytest.raises(UserError, match="shape|tensor of"):
                importer.convert(content)
            weights[name] = tensor
        more = f"{name}.more"
        weights[more] = tensor
        with pytest.raises(UserError, match="more"):
            importer.convert(content)
        del weights[more]
    importer.convert(content)


def test_older_names_and_files_without_an_average(tmp_path):
    """Reference: the same networks with today's names, and the live ones."""
    content = saved(zoo(), tmp_path)
    today = gan_zoo.convert(content)
    for part in ("netG", "netD", "avgG"):
        content[part] = {n.replace(".module.", "."): w for n, w in content[part].items()}
    before = gan_zoo.convert(content)
    assert before.network == today.network
    for part, weights in today.weights.items():
        assert all(torch.equal(w, before.weights[part][name]) for name, w in weights.items())
    del content["avgG"]
    alone = gan_zoo.convert(content)
    assert "G" not in alone.weights and "no average" in alone.notes[0]
    name = "blocks.4.conv.weight"
    assert torch.equal(alone.weights["G_ema"][name], today.weights["G"][name])


def test_what_cannot_be_ours_is_said():
    """Reference: critics with a projection, or without an activation; another network; a slope."""
    projection = version_3()
    projection["discriminator"]["conf"]["num_classes"] = 3
    early = version_3()
    names = early["discriminator"]["state_dict"]
    early["discriminator"]["state_dict"] = {
        n.replace(".0.weight", ".weight") if n.startswith("from_rgb") else n: w
        for n, w in names.items()
    }
    for content, word in [(projection, "projection"), (early, "activation")]:
        imported = pro_gan_pth.convert(content)
        assert "D" not in imported.weights and word in imported.notes[-1]
    with pytest.raises(UserError, match="a critic alone"):
        pro_gan_pth.convert({"module.final_block.conv_1.weight": normal(1)})
    alone = {name: version_3()[name] for name in ("shadow_generator", "discriminator")}
    assert pro_gan_pth.convert(alone).weights.keys() == {"G_ema", "D"}
    with pytest.raises(UserError, match="holds no generator"):
        pro_gan_pth.convert({"discriminator": alone["discriminator"]})

    def read(**settings):
        content = zoo(**settings)
        return content | {"config": vars(content["config"])}

    with pytest.raises(UserError, match="leakyReluLeak=0.1"):
        gan_zoo.convert(read(leakyReluLeak=0.1))
    with pytest.raises(UserError, match="depthScale0 .* is -3"):
        gan_zoo.convert(read(depthScale0=-3))
    with pytest.raises(UserError, match="lossCriterion .* is 'hinge'|is hinge"):
        gan_zoo.convert(read(lossCriterion="hinge"))
    with pytest.raises(UserError, match="a StyleGAN or a DCGAN"):
        gan_zoo.convert(read() | {"netG": {"main.0.weight": normal(1)}})
    with pytest.raises(UserError, match="another network than a PGGAN"):
        mmgen.convert({"state_dict": {"generator.style_mapping.1.weight": normal(1)}})
    with pytest.raises(UserError, match="resolution 64 with a transition weight of 1"):
        mmgen.convert(mmgen_file(scale=64))


@pytest.mark.parametrize(
    "config, named",
    [
        ("G = dict(noise_size=5)", ""),
        ("G = dict(upsample_cfg=dict(type='bilinear'))", "upsample_cfg"),
    ],
)
def test_layers_that_a_config_changes_are_said(config, named):
    """Reference: the config's text; what it changes is not among the weights."""
    notes = " ".join(mmgen.convert(mmgen_file(config=config)).notes)
    assert (f"layers of its own ({named})" in notes) == bool(named)
    assert ("layers of its own" in notes) == bool(named)


@pytest.mark.parametrize("config, fused", [("x = dict(fused_upconv=False)", False), (None, True)])
def test_fusing_that_no_shape_shows(config, fused):
    """Reference: the config's text, or their default, which a note says."""
    imported = mmgen.convert(mmgen_file(widths={4: 6, 8: 6}, scale=8, config=config, fused=fused))
    assert imported.network["fused_scale"] is fused
    assert any("fused_upconv" in note for note in imported.notes) == (config is None)


def test_widths_by_rule():
    """Reference: the paper's widths, pro_gan_pytorch's at 1024x1024, and some that fit no rule."""
    paper = {r: min(16384 // r, 512) for r in (4, 8, 16, 32, 64, 128)}
    assert width_settings(paper) == {"channel_base": 16384, "channel_max": 512}
    twice = {r: min(32768 // r, 512) for r in (4, 8, 16, 32, 64, 128)}
    assert width_settings(twice) == {"channel_base": 32768, "channel_max": 512}
    assert width_settings(WIDTHS, 8) == {"conventions": {"widths": WIDTHS, "hidden": 8}}


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_files_read_as_torch_reads_them(zipped, tmp_path):
    """Reference: `torch.load`. Views keep their strides; parameters are tensors."""
    whole = torch.arange(12.0).reshape(3, 4)
    dtypes = [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool]
    content = {
        "views": [whole, whole.T, whole[1:, ::2]],
        "types": {str(dtype): whole.to(dtype) for dtype in dtypes},
        "parameter": torch.nn.Parameter(whole),
        "plain": (1, 2.5, "text", None, True, [{"a": 1}]),
        "none": torch.empty(0),
    }
    read = saved(content, tmp_path, zipped)
    for mine, theirs in zip(read["views"], content["views"], strict=True):
        assert torch.equal(mine, theirs) and mine.stride() == theirs.stride()
    for name, tensor in content["types"].items():
        assert read["types"][name].dtype == tensor.dtype and torch.equal(
            read["types"][name], tensor
        )
    assert torch.equal(read["parameter"], whole) and read["plain"] == content["plain"]
    assert read["none"].shape == (0,)


class Harm:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_hostile_files_are_refused(zipped, tmp_path, monkeypatch):
    """Reference: a call and a class that are not on the list, named in the message; a good file
    cut off anywhere, one that claims more numbers than it has, and 150 with two other bytes. None
    takes more memory than the file has bytes."""
    with pytest.raises(UnknownNameError, match="exec"):
        saved({"weights": Harm()}, tmp_path, zipped)
    with pytest.raises(UnknownNameError, match="Fraction"):
        saved({"weights": Fraction(1, 2)}, tmp_path, zipped)
    saved({"weights": normal(300)}, tmp_path, zipped)
    good, spoilt = (tmp_path / "file.pth").read_bytes(), tmp_path / "spoilt"
    monkeypatch.setattr(torch, "empty", small_only)
    rng = random.Random(0)
    files = [claiming(good, zipped), *(good[:k] for k in range(len(good) - 1, 0, -37))]
    for content in files:
        spoilt.write_bytes(content)
        with pytest.raises(Exception), open(spoilt, "rb") as file:  # noqa: B017
            read_torch(file)
    for _ in range(150):
        place = rng.randrange(len(good))
        spoilt.write_bytes(good[:place] + rng.randbytes(2) + good[place + 2 :])
        with suppress(Exception), open(spoilt, "rb") as file:  # numbers may differ unseen
            read_torch(file)


def claiming(good, zipped):
    """The file with 30,000 in place of 300 in its pickle, and checksums that are right."""
    before, after = (b"M" + n.to_bytes(2, "little") for n in (300, 30_000))
    assert before in good
    if not zipped:
        return good.replace(before, after)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(before, after))
    return out.getvalue()


class TooMuch(BaseException):
    """No error that a reader of damaged files would take for damage."""


def small_only(count, **settings):
    if count > 4000:
        raise TooMuch
    return torch.zeros(count, **settings)


def test_a_zip_of_many_parts_is_refused(tmp_path, monkeypatch):
    """Reference: a limit that a whole file is just above. zipfile would keep each part's name."""
    saved({"weights": normal(3)}, tmp_path)
    with zipfile.ZipFile(tmp_path / "file.pth") as archive:
        parts = len(archive.namelist())
    for most, refused in ((parts, False), (parts - 1, True)):
        monkeypatch.setattr(zips, "MOST_PARTS", most)
        with (
            pytest.raises(ValueError, match="more than") if refused else nullcontext(),
            open(tmp_path / "file.pth", "rb") as file,
        ):
            read_torch(file)


def test_a_compressed_file_is_refused(tmp_path):
    """Reference: a zip of torch's names whose parts would expand."""
    with zipfile.ZipFile(tmp_path / "file", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}))
    with pytest.raises(ValueError, match="compressed"), open(tmp_path / "file", "rb") as file:
        read_torch(file)
