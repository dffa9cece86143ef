"""Reads the pickles of the official TensorFlow code, and of its older branch in Theano.

Layouts: networks.py, tfutil.py and legacy.py in tkarras/progressive_growing_of_gans. The code that
a pickle brings along as text is not looked at: the networks are taken for those of networks.py.
"""

import math
from collections.abc import Iterator
from typing import Any

from progan.config.resolutions import START_RESOLUTION, is_resolution, resolutions_to
from progan.config.value_types import MOST_WIDTH
from progan.interop.imported import Imported, names_among, shown
from progan.interop.layout import unique
from progan.interop.pickles import Stub
from progan.interop.tensorflow_layers import Network, converted, width
from progan.interop.theano import array, older_variables
from progan.model.growing import channels_at
from progan.runtime.errors import UserError

KINDS = {"tfutil Network", "network Network"}
FUNCTIONS = {"G_paper": "G", "G_progressive_8": "G", "D_paper": "D", "D_progressive_8": "D"}
LICENCE = "CC-BY-NC-4.0"  # of the official code and the networks that came with it
# Options as networks.py has them where a network's own are silent.
DEFAULTS: dict[str, Any] = {"num_channels": 1, "resolution": 32, "label_size": 0, "fmap_base": 8192}
DEFAULTS |= {"fmap_decay": 1.0, "fmap_max": 512, "latent_size": None, "mbstd_group_size": 4}
DEFAULTS |= {"use_wscale": True, "use_pixelnorm": True, "fused_scale": True, "dtype": "float32"}
# Options that progan's networks do not have but with these values.
FIXED = {"normalize_latents": True, "use_leakyrelu": True, "pixelnorm_epsilon": 1e-8}
FIXED_OLDER: dict[str, Any] = {
    "label_size": 0,
    "use_batchnorm": False,
    "tanh_at_end": None,
    "use_layernorm": False,
}
FIXED_OLDER |= {"mbstat_func": "Tstdeps", "mbstat_avg": "all", "mbdisc_kernels": None}
NEUTRAL = {"structure", "is_template_graph", "use_gdrop"}  # change no image


def recognize(content: Any) -> bool:
    """Whether a pickle holds networks of the official code."""
    return any(isinstance(each, Stub) and each.name in KINDS for each in listed(content))


def listed(content: Any) -> list[Any]:
    """The parts of what may be one network, or (G, D, Gs)."""
    return list(content) if isinstance(content, list | tuple) else [content]


def convert(content: Any) -> Imported:
    """The networks of a pickle: (G, D, Gs), where Gs is the average, or a single generator.

    Raises:
        UserError: it has options that progan does not have, or variables are missing or unknown.
        Exception: of any type, if it is damaged.
    """
    stubs = [each for each in listed(content)[:3] if isinstance(each, Stub)]
    networks = [network for network in map(read, stubs) if network is not None]
    generators = [network for network in networks if network.role == "G"]
    critics = [network for network in networks if network.role == "D"]
    if not generators:
        raise UserError("it holds no generator of the official code; progan imports generators")
    average = generators[-1]
    if average.refused:
        raise UserError(f"progan has no generator with {', '.join(average.refused)}")
    settings = settings_of(average)
    weights = {"G_ema": converted(average)}
    notes = list(about(average, len(generators)))
    if len(generators) > 1:
        if settings_of(generators[0]) != settings:
            raise UserError("its generator and the average of it are of different shapes")
        weights["G"] = converted(generators[0])
    for critic in critics[:1]:
        if why := misfit(critic, settings):
            notes.append(f"The critic is left out: {why}.")
            continue
        weights["D"] = converted(critic)
        group = max(1, critic.options["mbstd_group_size"])
        settings |= {"stddev_group": group, "fused_scale": bool(critic.options["fused_scale"])}
    if not critics:
        notes.append("The file has no critic.")
    resolution, alpha = reached(average)
    labels = names_among(average.inputs, average.options["label_size"])
    return Imported(
        kind="tf",
        network=settings,
        resolution=resolution,
        alpha=alpha,
        weights=weights,
        labels=labels,
        label_kind="classes" if labels else None,
        notes=tuple(notes),
        licence=LICENCE,
    )


def read(stub: Stub) -> Network | None:
    """A network's options and variables; None for one of another function than the paper's."""
    state = stub.state
    older = "version" not in state
    spec = dict(state["build_func_spec"] if older else state["static_kwargs"])
    function = spec.pop("func") if older else state["build_func_name"]
    role = FUNCTIONS.get(shown(function).rpartition(".")[2])
    if role is None:
        return None
    if not older and state["version"] != 2:
        raise UserError(
            f"its networks are of version {shown(state['version'])} of the official code's format; "
            "progan reads version 2"
        )
    fixed = FIXED | (FIXED_OLDER if older else {})
    refused = [f"{k}={shown(spec[k])}" for k, v in fixed.items() if k in spec and spec[k] != v]
    spec |= {"fused_scale": False, "mbstd_group_size": 16} if older else {}
    options = {key: spec.get(key, value) for key, value in DEFAULTS.items()}
    check_options(options)
    unknown = [shown(key) for key in spec if key not in {*DEFAULTS, *fixed, *NEUTRAL}]
    pairs = older_variables(role, options, state) if older else state["variables"]
    variables = unique(((shown(key), array(value)) for key, value in pairs), "a network in it")
    return Network(role, options, variables, refused, unknown)


def check_options(options: dict[str, Any]) -> None:
    """Raises ValueError or UserError unless the options are numbers of a ProGAN."""
    numbers = ("num_channels", "resolution", "label_size", "fmap_base", "fmap_max")
    if any(type(options[key]) not in (int, float) for key in (*numbers, "fmap_decay")):
        raise ValueError("its options are not numbers")
    for key, least in (("label_size", 0), ("latent_size", 1)):
        value = options[key]
        if value is not None and not (type(value) is int and least <= value <= MOST_WIDTH):
            raise UserError(
                f"its {key} is {shown(value)}; it must be a whole number from {least} to "
                f"{MOST_WIDTH:,}"
            )
    if type(options["resolution"]) is not int or not is_resolution(options["resolution"]):
        raise UserError(
            f"its resolution is {shown(options['resolution'])}; progan has powers of two from 4 to "
            "1024"
        )
    if options["num_channels"] not in (1, 3):
        raise UserError(
            f"its images have {shown(options['num_channels'])} channels; progan's have 1 or 3"
        )
    check_widths(options)


def check_widths(options: dict[str, Any]) -> None:
    """Raises UserError unless all widths by the options are those of layers."""
    try:
        widths = [width(options, r) for r in (2, *resolutions_to(options["resolution"]))]
    except (ArithmeticError, ValueError):  # infinite, or beyond the range of numbers
        widths = [0]
    if not 1 <= min(widths) <= max(widths) <= MOST_WIDTH:
        given = ", ".join(f"{key}={shown(options[key])}" for key in options if "fmap" in key)
        raise UserError(f"its widths ({given}) are not all from 1 to {MOST_WIDTH:,}")


def settings_of(network: Network) -> dict[str, Any]:
    """Settings of `NetworkConfig`."""
    options = network.options
    widths = {r: width(options, r) for r in resolutions_to(options["resolution"])}
    hidden = width(options, START_RESOLUTION // 2)
    base, most = int(2 * options["fmap_base"]), int(options["fmap_max"])
    settings = {
        "resolution": options["resolution"],
        "channels": options["num_channels"],
        "z_dim": options["latent_size"] or hidden,
        "channel_base": base,
        "channel_max": most,
        "fused_scale": bool(options["fused_scale"]),
        "equalized": bool(options["use_wscale"]),
        "pixel_norm": bool(options["use_pixelnorm"]),
    }
    usual = {r: channels_at(r, base, most) for r in (START_RESOLUTION // 2, *widths)}
    if usual != {START_RESOLUTION // 2: hidden, **widths}:
        del settings["channel_base"], settings["channel_max"]
        settings["conventions"] = {"widths": widths, "hidden": hidden}
    return settings


def misfit(critic: Network, settings: dict[str, Any]) -> str:
    """Why the critic cannot be kept with a generator of these settings; empty if it can."""
    if critic.refused:
        return f"progan has none with {', '.join(critic.refused)}"
    own = settings_of(critic)
    keys = ("resolution", "channels", "channel_base", "channel_max", "conventions", "equalized")
    wrong = [key for key in keys if own.get(key) != settings.get(key)]
    return f"it differs from the generator in {', '.join(wrong)}" if wrong else ""


def about(network: Network, generators: int) -> Iterator[str]:
    """What is different, and what is left out."""
    if generators == 1:
        yield "The file has one generator only, which stands for the average."
    if network.unknown:
        yield f"The official code ignores these options: {', '.join(network.unknown[:20])}."
    if network.options["dtype"] != "float32":
        yield f"Its own code computes in {shown(network.options['dtype'])}; progan need not."


def reached(network: Network) -> tuple[int, float | None]:
    """Resolution and alpha, from the level of detail: 0 at the full resolution.

    Between two whole numbers the finer level fades in: at 1.25 its weight is 0.75.
    """
    full = network.options["resolution"]
    lod = float(network.variables["lod"])
    if not 0 <= lod <= full.bit_length():
        raise ValueError(f"its level of detail (lod) is {lod}")
    level = math.floor(lod)
    resolution = max(full >> level, START_RESOLUTION)
    fades = lod > level and resolution > START_RESOLUTION
    return resolution, 1 - (lod - level) if fades else None
