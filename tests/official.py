"""The official networks by their equations, in NumPy float64, and files as saved.

After Karras et al. 2018, Table 2 and appendix A, and the names that the official code has. Weights
are [height, width, in, out], images [N, C, H, W].
"""

import contextlib
import pickle
import sys
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

OPTIONS = {"num_channels": 3, "resolution": 16, "label_size": 0, "fmap_base": 32, "fmap_max": 6}
OPTIONS |= {"latent_size": 5, "fused_scale": True, "mbstd_group_size": 4}


product = partial(np.einsum, optimize=True)  # by BLAS: networks may be of full size


def maps(options: dict[str, Any], stage: int) -> int:
    decay = options.get("fmap_decay", 1.0)
    return min(int(options["fmap_base"] / 2.0 ** (stage * decay)), options["fmap_max"])


def shapes_of_generator(
    options: dict[str, Any],
) -> Iterator[tuple[str, tuple[int, ...], int, float]]:
    """Name, shape, biases and gain of each layer."""
    c, top = options["num_channels"], options["resolution"].bit_length() - 1
    inputs, first = options["latent_size"] + options["label_size"], maps(options, 1)
    yield "4x4/Dense", (inputs, 16 * first), first, np.sqrt(2) / 4
    yield "4x4/Conv", (3, 3, first, first), first, np.sqrt(2)
    for k in range(2, top + 1):
        wide, below = maps(options, k - 1), maps(options, k - 2)
        yield f"ToRGB_lod{top - k}", (1, 1, wide, c), c, 1.0
        if k > 2:
            up = (3, 3, wide, below) if options["fused_scale"] else (3, 3, below, wide)
            name = "Conv0_up" if options["fused_scale"] else "Conv0"
            yield f"{2**k}x{2**k}/{name}", up, wide, np.sqrt(2)
            yield f"{2**k}x{2**k}/Conv1", (3, 3, wide, wide), wide, np.sqrt(2)


def shapes_of_critic(options: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...], int, float]]:
    """Name, shape, biases and gain of each layer."""
    c, top = options["num_channels"], options["resolution"].bit_length() - 1
    first, hidden = maps(options, 1), maps(options, 0)
    for k in range(2, top + 1):
        wide, below = maps(options, k - 1), maps(options, k - 2)
        yield f"FromRGB_lod{top - k}", (1, 1, c, wide), wide, np.sqrt(2)
        if k > 2:
            name = "Conv1_down" if options["fused_scale"] else "Conv1"
            yield f"{2**k}x{2**k}/Conv0", (3, 3, wide, wide), wide, np.sqrt(2)
            yield f"{2**k}x{2**k}/{name}", (3, 3, wide, below), below, np.sqrt(2)
    more = options["mbstd_group_size"] > 1
    yield "4x4/Conv", (3, 3, first + more, first), first, np.sqrt(2)
    yield "4x4/Dense0", (16 * first, hidden), hidden, np.sqrt(2)
    yield "4x4/Dense1", (hidden, 1 + options["label_size"]), 1 + options["label_size"], 1.0


def drawn(role: str, options: dict[str, Any], lod: float, seed: int) -> dict[str, Any]:
    """Variables of a network; biases are not zero."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"lod": np.float32(lod)}
    layers = shapes_of_generator if role == "G" else shapes_of_critic
    for name, shape, biases, gain in layers(options):
        scale = 1.0 if options.get("use_wscale", True) else gain / np.sqrt(np.prod(shape[:-1]))
        found[f"{name}/weight"] = rng.standard_normal(shape).astype("f4") * np.float32(scale)
        found[f"{name}/bias"] = 0.3 * rng.standard_normal(biases).astype("f4")
    return found


def scaled(role: str, options: dict[str, Any], variables: dict[str, np.ndarray]) -> dict[str, Any]:
    """Weight and bias by layer, as they are used: equalized by the fan-in of the layer."""
    found, layers = {}, shapes_of_generator if role == "G" else shapes_of_critic
    for name, shape, _, gain in layers(options):
        fan_in = np.prod([*shape[:2], shape[3]]) if name.endswith("_up") else np.prod(shape[:-1])
        scale = gain / np.sqrt(fan_in) if options.get("use_wscale", True) else 1.0
        weight = variables[f"{name}/weight"].astype("f8") * scale
        found[name] = weight, variables[f"{name}/bias"].astype("f8")
    return found


def act(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.2 * x)


def norm(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)


def up(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, 2).repeat(2, 3)


def down(x: np.ndarray) -> np.ndarray:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Of the same size, with zeros around."""
    side, (n, _, h, w) = len(weight), x.shape
    padded = np.pad(x, ((0, 0), (0, 0), *((side // 2, side // 2),) * 2))
    out = np.zeros((n, weight.shape[3], h, w))
    for a in range(side):
        for b in range(side):
            out += product("nihw,io->nohw", padded[..., a : a + h, b : b + w], weight[a, b])
    return out + bias[:, None, None]


def summed(weight: np.ndarray) -> np.ndarray:
    """A 4x4 kernel: four copies of a 3x3 one, each a pixel on."""
    kernel = np.zeros((4, 4, *weight.shape[2:]))
    for a in (0, 1):
        for b in (0, 1):
            kernel[a : a + 3, b : b + 3] += weight
    return kernel


def conv_up(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Fused: a transposed convolution of stride 2, whose kernel is [.., out, in]."""
    n, _, h, w = x.shape
    out = np.zeros((n, weight.shape[2], 2 * h + 2, 2 * w + 2))
    for a in range(4):
        for b in range(4):
            part = product("nihw,oi->nohw", x, summed(weight)[a, b])
            out[..., a : a + 2 * h : 2, b : b + 2 * w : 2] += part
    return out[..., 1:-1, 1:-1] + bias[:, None, None]


def conv_down(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Fused: a convolution of stride 2 with a quarter of the summed kernel."""
    _, _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), weight.shape[3], h // 2, w // 2))
    for a in range(4):
        for b in range(4):
            part = padded[..., a : a + h : 2, b : b + w : 2]
            out += product("nihw,io->nohw", part, summed(weight)[a, b] / 4)
    return out + bias[:, None, None]


def images(options: dict[str, Any], variables: dict[str, Any], z: Any, c: Any) -> np.ndarray:
    """The generator: [N, latent_size], [N, label_size] -> images at the resolution reached."""
    layers, lod = scaled("G", options, variables), float(variables["lod"])
    pn = norm if options.get("use_pixelnorm", True) else lambda x: x
    top, level = options["resolution"].bit_length() - 1, int(np.floor(lod))
    x = norm(np.concatenate([z, c], 1))
    weight, bias = layers["4x4/Dense"]
    x = pn(act((x @ weight).reshape(len(z), -1, 4, 4) + bias[:, None, None]))
    x = pn(act(conv(x, *layers["4x4/Conv"])))
    below = x
    for k in range(3, top - level + 1):
        below, size = x, f"{2**k}x{2**k}"
        if options["fused_scale"]:
            x = pn(act(conv_up(x, *layers[f"{size}/Conv0_up"])))
        else:
            x = pn(act(conv(up(x), *layers[f"{size}/Conv0"])))
        x = pn(act(conv(x, *layers[f"{size}/Conv1"])))
    new = conv(x, *layers[f"ToRGB_lod{level}"])
    if lod == level:
        return new
    old = up(conv(below, *layers[f"ToRGB_lod{level + 1}"]))
    return new + (old - new) * (lod - level)


def scores(options: dict[str, Any], variables: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """The critic: images at the resolution reached -> scores and logits [N, 1 + label_size]."""
    layers, lod = scaled("D", options, variables), float(variables["lod"])
    level, of_images = int(np.floor(lod)), x
    x = act(conv(of_images, *layers[f"FromRGB_lod{level}"]))
    while x.shape[-1] > 4:
        size = f"{x.shape[-1]}x{x.shape[-1]}"
        x = act(conv(x, *layers[f"{size}/Conv0"]))
        if options["fused_scale"]:
            x = act(conv_down(x, *layers[f"{size}/Conv1_down"]))
        else:
            x = down(act(conv(x, *layers[f"{size}/Conv1"])))
        if lod > level and 2 * x.shape[-1] == of_images.shape[-1]:
            old = act(conv(down(of_images), *layers[f"FromRGB_lod{level + 1}"]))
            x = x + (old - x) * (lod - level)
    group = options["mbstd_group_size"]
    if group > 1:
        y = x.reshape(min(group, len(x)), -1, *x.shape[1:])  # strided groups
        y = np.sqrt(((y - y.mean(0)) ** 2).mean(0) + 1e-8).mean((1, 2, 3))
        y = np.tile(y, min(group, len(x)))[:, None, None, None]
        x = np.concatenate([x, np.broadcast_to(y, (len(x), 1, 4, 4))], 1)
    x = act(conv(x, *layers["4x4/Conv"])).reshape(len(x), -1)
    for name, function in (("4x4/Dense0", act), ("4x4/Dense1", lambda x: x)):
        weight, bias = layers[name]
        x = function(x @ weight + bias)
    return x


def state(role: str, options: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """What tfutil.Network keeps of itself."""
    return {
        "version": 2,
        "name": role,
        "static_kwargs": dict(options),
        "build_module_src": "raise SystemExit('the source text was run')",
        "build_func_name": f"{role}_paper",
        "variables": list(variables.items()),
    }


def older_state(role: str, options: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """The same network as the older branch in Theano keeps it: kernels turned round, [out, in,
    height, width], scales at weights, no names."""
    values, layers = [], scaled(role, options, variables)
    names = list(layers)
    if role == "G":
        names.sort(key=lambda name: (name.startswith("ToRGB"), name if "ToRGB" in name else ""))
    else:
        top = options["resolution"].bit_length() - 1
        names = ["FromRGB_lod0"]
        for k in range(top, 2, -1):
            names += [f"{2**k}x{2**k}/Conv0", f"{2**k}x{2**k}/Conv1", f"FromRGB_lod{top - k + 1}"]
        names += ["4x4/Conv", "4x4/Dense0", "4x4/Dense1"]
    for number, name in enumerate(names):
        (weight, bias), scale = layers[name], np.float32(0.5 + 0.1 * number)
        if name == "4x4/Dense":
            weight = weight.reshape(len(weight), -1, 4, 4).transpose(1, 0, 2, 3)
        elif name == "4x4/Dense0":
            weight = weight.T.reshape(weight.shape[1], -1, 4, 4)[:, :, ::-1, ::-1]
        elif "RGB" in name:
            weight = weight[0, 0]
        elif weight.ndim == 4:
            weight = weight[::-1, ::-1].transpose(3, 2, 0, 1)
        values += [(weight / scale).astype("f4"), scale, bias.astype("f4")]
    known = {k: v for k, v in options.items() if k not in ("fused_scale", "mbstd_group_size")}
    return {
        "build_func_spec": {"func": f"{role}_progressive_8", "use_wscale": True, **known},
        "param_values": values,
        "toplevel_params": {"cur_lod": variables["lod"]},
    }


def pickled(*states: dict[str, Any], module: str = "tfutil", protocol: int = 4) -> bytes:
    """A file with networks of these states: one, or a tuple."""
    kind = type("Network", (), {"__module__": module})
    networks = []
    for content in states:
        networks.append(kind())
        vars(networks[-1]).update(content)
    with written_by(module, kind):
        return pickle.dumps(networks[0] if len(states) == 1 else tuple(networks), protocol)


@contextlib.contextmanager
def written_by(module: str, kind: type) -> Iterator[None]:
    """A module of another project, for as long as a file is written."""
    before = sys.modules.get(module)
    sys.modules[module] = types.ModuleType(module)
    setattr(sys.modules[module], kind.__name__, kind)
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before
