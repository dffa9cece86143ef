"""The config: YAML in and out, overrides, and messages about wrong settings."""

import math
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from test_schedule import PRESETS

from progan.config.batch_rules import check_batches
from progan.config.config import Config, flatten
from progan.config.curves import Ramp
from progan.config.load import load_config, presets, validate
from progan.config.reference import commented_yaml, explanation, markdown
from progan.config.resolutions import at_resolution
from progan.config.schedule_settings import ScheduleConfig
from progan.config.yaml_io import dump_yaml, parse_yaml
from progan.model.networks import Critic, Generator
from progan.runs.folder import CHANGEABLE, differences, read_config
from progan.runtime.errors import UserError
from progan.training import ema

JARGON = [
    "pydantic",
    "http",
    "input tag",
    "expected tag",
    "kind_of",
    "Input",
    "extra_forbidden",
    "type=",
    "instance of",
]
JARGON += ["union", "Value error", "Discriminator", "ctx", "<unicode string>", "Config"]


def load(*overrides):
    return load_config(None, list(overrides))


def message(*overrides, name=None):
    """The user's message, one line per error, which must not contain pydantic's vocabulary."""
    with pytest.raises(UserError) as error:
        load_config(name, list(overrides))
    text = str(error.value)
    assert not [word for word in JARGON if word in text], text
    lines = text.split("\n")
    assert len(set(lines)) == len(lines), text
    return text


def write(tmp_path, content):
    path = tmp_path / "my.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


# YAML in and out


def test_defaults():
    """Reference: the paper's networks and official settings, as documented."""
    config = Config()
    assert load_config() == config
    assert config.network.resolution == 128 and config.network.z_dim == 512
    assert (config.network.channel_base, config.network.channel_max) == (16384, 512)
    assert (config.loss.weights.penalty, config.loss.weights.drift) == (10, 0.001)
    adam = {"beta1": 0.0, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
    assert config.make_schedule().phases[0].options_at(0) == adam
    check_batches(config.make_schedule(), 1, config.network.stddev_group)


OVERRIDES = [
    [],
    ["network.resolution=64", "data.source=demo"],
    ["schedule.learning_rate={start: 0.002, end: 1e-4, decay: cosine}"],
    ["schedule.learning_rate={4: 0.001, 8: {start: 0.1, end: 1e-3, decay: polynomial, power: 3}}"],
    ["schedule.batch_gpu={4: 8, 64: 4}", "schedule.total_kimg=0.1", "optim.eps=1e-12"],
    ["optim.beta1={4: 0.0, 8: 0.5}", "run.tracker=null", "loss.weights.penalty=1e-3"],
    *([f"data.source={name!r}"] for name in ("1e5", "-1.e-3", "null", "yes", "12", "08", "<<")),
    *([f'data.source="{name}"'] for name in ("~", "=", "a: b", "- c", "# d", "x\\ty", "é ☃", " ")),
    *([f'data.source="{name}"'] for name in ("a, b", "[x]", "}", "a\\nb", "\\n# c\\n", "d " * 99)),
    ["data.augment=[color, cutout]", "data.fit=[1, 2, 64]", "run.metrics={swd16k: 3, fid2000: 9}"],
]


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_round_trip(tmp_path, overrides):
    """Reference: the config itself, through the YAML that is written into a run and the one for
    users; a folder named 1e5 that came back as a number would make the run impossible to resume."""
    config = load(*overrides)
    assert load_config(write(tmp_path, config.to_yaml())) == config
    assert load_config(write(tmp_path, commented_yaml(config))) == config


def test_yaml_of_other_versions():
    """Reference: PyYAML itself, which has the rules of YAML 1.1, as progan had. What it writes is
    read the same, and it reads the same in what progan writes."""
    texts = "yes No on ~ null = << 010 0o17 0x1F 4:16 1:30:00 1_000 1e3 .5 .inf 2020-01-01 0b1 a:b"
    values = {"": [*texts.split(), "", " ", "é"], "n": [10, -8, 0.1, 1e-9, 1e30, 2.0, True, None]}
    values["n"] += [{4: 128, 64: {"start": 1e-3, "end": 1e-4}}, math.inf]
    old = yaml.safe_dump(values).replace("0o17", "'0o17'").replace("1e3", "'1e3'")
    assert parse_yaml(old, "it") == parse_yaml(dump_yaml(values), "it") == values
    assert yaml.safe_load(dump_yaml(values)) == values


@pytest.mark.parametrize("name", presets())
def test_commented_presets(tmp_path, name):
    """Reference: the preset itself; and its settings, each on a line under its explanation."""
    config = load_config(name)
    text = commented_yaml(config)
    assert load_config(write(tmp_path, text)) == config
    lines = [line.strip() for line in text.splitlines() if line]
    settings = [(i, line) for i, line in enumerate(lines) if not line.startswith("#")]
    keys = [key.split(".")[-1] for key in flatten(Config().model_dump())]
    assert [line.split(":")[0] for _, line in settings if not line.endswith(":")] == keys
    assert all(lines[i - 1].startswith("# ") for i, _ in settings)


def test_settings_page():
    """Reference: docs/settings.md, which users read; `python -m progan.config.reference` makes it.
    It has a row for each setting, says what each means, and which ones may be null."""
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == markdown()
    rows = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| `")]
    settings = [key.strip("`") for key, *_ in rows if "." in key]
    assert settings == list(flatten(Config().model_dump()))
    assert all(re.match(r"[A-Z3].{10}", meaning) for _, _, meaning, _ in rows)
    nullable = {key.strip("`") for key, *_, v in rows if "." in key and v.endswith(", or null")}
    of_another_kind = {"ema.half_life_kimg"}  # null only where ema.kind is not half_life
    assert nullable == {*NULLABLE} - {"run.compile"} | of_another_kind


@pytest.mark.parametrize(
    "key, values",
    [
        ("data.workers", "a whole number from 0 to 1024, or null"),
        ("loss.penalty", "wgan_gp, wgan_lp, r1, r2, r1_r2 or none"),
        ("network.channels", "1 or 3"),
        ("network.resolution", "a power of two from 4 to 1024"),
        ("optim.eps", "a number above 0, or a map by resolution, or a ramp, or null"),
        ("run.compile", "auto, true or false"),
        (
            "schedule.learning_rate",
            "a number above 0, or a map by resolution, or a ramp, or {G: …, D: …} of these",
        ),
    ],
)
def test_values_in_words(key, values):
    """Reference: the types in settings.py, worded by hand."""
    section, name = key.split(".")
    assert explanation(type(getattr(Config(), section)), name)[1] == values


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n", "---\n", "{}"])
def test_empty_file(tmp_path, content):
    """Reference: the defaults."""
    assert load_config(write(tmp_path, content)) == Config()


def test_order_of_precedence(tmp_path):
    """Reference: default, file, -o, the later the stronger; and neighbours stay."""
    path = write(tmp_path, "network: {resolution: 64, z_dim: 8}\nloss: {weights: {drift: 0.5}}")
    config = load_config(path, ["network.z_dim=1", "loss.weights.penalty=7", "network.z_dim=2"])
    assert (config.network.resolution, config.network.z_dim) == (64, 2)
    assert config.loss.weights.model_dump() == (
        {"penalty": 7.0, "target": 1.0, "drift": 0.5, "label": 1.0}
    )


@pytest.mark.parametrize(
    "override, value",
    [
        ("loss.weights.penalty=1e-3", 0.001),
        ("loss.weights.penalty=1E+2", 100),
        ("loss.weights.penalty=5", 5),
        ("loss.weights.penalty = 2.5", 2.5),
        ("data.mirror=true", True),
        ("data.source=a=b", "a=b"),
        ("data.source=/a b/c.zip", "/a b/c.zip"),
        ("data.source=null", None),
        ("data.source=", None),
        ("run.tick_kimg={4: 2, 8: 1e-1}", {4: 2, 8: 0.1}),
        ("schedule.batch_size=16", 16),
        ("network.fused_scale=false", False),
        ("run.seed=010", 10),
        ("run.seed=0o10", 8),
        ("run.seed=0x1F", 31),
        ("data.source=1:30", "1:30"),
        ("data.source=no", "no"),
        ("data.source=2020-13-45", "2020-13-45"),
        ("data.source=1_000", "1_000"),
        ("data.source=<<", "<<"),
        ("run.metrics=[]", {}),
        ("run.metrics=null", {}),
        ("run.metrics=none", {}),
        ("run.metrics={FID10k: 2, fid50k_full: 3}", {"fid10000": 2, "fid50k": 3}),
        ("run.tracker=none", None),
    ],
)
def test_override_values(override, value):
    """Reference: the core schema of YAML 1.2, in which `1e-3` is a number and `010` is ten."""
    path = override.partition("=")[0].strip()
    found = load(override)
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value and type(found) in (type(value), float)


def test_ramp_by_nested_keys():
    """Reference: the same ramp given as one map."""
    path = "schedule.learning_rate"
    nested = load(f"{path}.start=0.1", f"{path}.end=0.2")
    assert nested == load(path + "={start: 0.1, end: 0.2}")
    assert nested.make_schedule().phases[0].G_rate.shape == Ramp(start=0.1, end=0.2)


def test_schedule_gets_every_setting():
    """Reference: the settings of the override in the phase; a dropped one would be the default."""
    config = load(
        "network.resolution=8",
        "schedule.start_resolution=8",
        "schedule.total_kimg=1",
        "schedule.batch_size=10",
        "schedule.batch_gpu=5",
        "schedule.learning_rate={8: {start: 0.2, end: 0.1, decay: polynomial, power: 3}}",
        "optim.beta1=0.5",
        "optim.beta2=0.9",
        "optim.eps=1e-6",
    )
    (phase,) = config.make_schedule().phases
    assert (phase.resolution, phase.fading, phase.end_nimg) == (8, False, 1000)
    assert (phase.batch_size, phase.batch_gpu) == (10, 5)
    assert phase.G_rate.shape == Ramp(start=0.2, end=0.1, decay="polynomial", power=3.0)
    options = {"beta1": 0.5, "beta2": 0.9, "eps": 1e-6, "weight_decay": 0.0}
    assert phase.options_at(0) == options


def test_a_config_made_in_python_names_the_place():
    """Reference: the words that -o gets for the same mistakes."""
    with pytest.raises(UserError) as caught:
        Config(network={"nonsense": 1}, run={"seed": -1})
    same = message("network.nonsense=1", "run.seed=-1")
    assert str(caught.value) == same.replace("in -o:", "in these settings:")


def test_frozen():
    """Reference: a config is a constant; every section refuses assignment."""
    config = Config()
    with pytest.raises(ValidationError):
        config.data = None
    with pytest.raises(ValidationError):
        config.network.resolution = 64
    with pytest.raises(ValidationError):
        config.loss.weights.penalty = 1.0


# Wrong settings


@pytest.mark.parametrize(
    "override, path, nearest",
    [
        ("netwrk.resolution=64", "netwrk", "network"),
        ("network.resolutoin=64", "network.resolutoin", "resolution"),
        ("network.map=64", "network.map", "channel_max"),
        ("loss.weights.penalti=1", "loss.weights.penalti", "penalty"),
        ("schedule.learning_rate={start: 1, end: 1, decy: linear}", None, "decay"),
        ("schedule.learning_rate={4: {start: 1, end: 1, powr: 1}}", None, "power"),
        ("qqq.x=1", "qqq", None),
        ("data.1=3", "data.1", None),
    ],
)
def test_unknown_key(override, path, nearest):
    """Reference: the key's full path, the nearest that exists, and all that do."""
    text = message(override)
    assert f"unknown key {path}" in text if path else "unknown key schedule.learning_rate" in text
    assert "; known: " in text
    if nearest == "channel_max":  # a name that pydantic's locations use too; what is near is open
        return
    assert (f"(did you mean '{nearest}'?)" in text) if nearest else ("did you mean" not in text)


def test_few_of_many_mistakes_are_told():
    """Reference: their number; a file from anybody may have thousands, which would take minutes."""
    with pytest.raises(UserError) as error:
        load_config(None, [f"data.k{k}=1" for k in range(1021)])
    assert str(error.value).count("unknown key") == 20 and "\nand 1,001 more" in str(error.value)


@pytest.mark.parametrize(
    "override, start, allowed",
    [
        ("network.resolution=sixty", "network.resolution: 'sixty'", "integer"),
        ("network.resolution=64.0", "network.resolution: 64.0", "integer"),
        ("network.resolution=true", "network.resolution: True", "integer"),
        ("network.resolution='64'", "network.resolution: '64'", "integer"),
        ("network.resolution=[64]", "network.resolution: [64]", "integer"),
        ("network.resolution=2", "network.resolution: 2", "greater than or equal to 4"),
        ("network.resolution=2048", "network.resolution: 2048", "less than or equal to 1024"),
        ("network.resolution=48", "network.resolution: 48", "a power of two, for example 32 or 64"),
        ("network.resolution=1000", "network.resolution: 1000", "for example 512 or 1024"),
        ("schedule.start_resolution=5", "schedule.start_resolution: 5", "for example 4 or 8"),
        ("network.channels=2", "network.channels: 2", "must be 1 or 3"),
        ("network.stddev_group=0", "network.stddev_group: 0", "greater than or equal to 1"),
        ("loss.weights=3", "loss.weights: 3", "map of keys: penalty, target, drift, label"),
        ("data.augment_strength={start: 0, end: 1.5}", "data.augment_strength", "at most 1"),
        ("data.augment_target=0.6", "data.augment_target (0.6) steers data.augment", "empty"),
        ("data.augment_strength=2", "data.augment_strength: 2", "less than or equal to 1"),
        ("loss.weights.target.x=3", "loss.weights.target: {'x': 3}", "number"),
        ("loss.weights.penalty=-1", "loss.weights.penalty: -1", "greater than or equal to 0"),
        ("loss.adversarial=wgann", "loss.adversarial: 'wgann'", "'wgan', 'logistic'"),
        ("run.precision=fp16", "run.precision: 'fp16'", "'auto', 'fp32', 'tf32' or 'bf16'"),
        ("run.seed=-1", "run.seed: -1", "greater than or equal to 0"),
        ("run.seed=9223372036854775808", "run.seed: 9223372036854775808", "less than"),
        ("data.mirror=1", "data.mirror: 1", "boolean; write true or false"),
        ("data.mirror=yes", "data.mirror: 'yes'", "write true or false"),
        ("data.max_images=1_000", "data.max_images: '1_000'", "without quotes and _"),
        ("schedule.batch_size=4:16", "schedule.batch_size: '4:16'", "after the colon: '4: 16'"),
        ("schedule.batch_size={4:16,8:8}", "schedule.batch_size: {", "after the colon: '4: 16'"),
        ("schedule.stable_kimg={4: 1,8:2}", "schedule.stable_kimg: {", "after the colon: '8: 2'"),
        ("run.metrics={swd2k:5}", "run.metrics[swd2k:5]", "after the colon: 'swd2k: 5'"),
        ("optim.beta1={4: 0,8:0.1}", "optim.beta1: {", "after the colon: '8: 0.1'"),
        ("data.source=12", "data.source: 12", "string"),
        ("optim.beta2=1", "optim.beta2: 1", "less than 1"),
        ("schedule.batch_size=abc", "schedule.batch_size: 'abc'", "integer"),
        ("schedule.batch_size={4: abc}", "schedule.batch_size[4]: 'abc'", "integer"),
        ("schedule.batch_size={a: 3}", "schedule.batch_size: {'a': 3}", "one value or a map"),
        ("schedule.batch_size.64=8", "schedule.batch_size: {'64': 8}", "{4: 128, 64: 32}"),
        ("schedule.batch_size={4: 9, 12: 9}", "schedule.batch_size[12]: 12", "8 or 16"),
        ("schedule.batch_size={4: 9, 0: 9}", "schedule.batch_size[0]: 0", "equal to 4"),
        ("schedule.total_kimg=0", "schedule.total_kimg: 0", "greater than 0"),
        ("schedule.total_kimg=1e300", "schedule.total_kimg: 1e+300", "equal to 1000000000"),
        ("schedule.learning_rate=fast", "schedule.learning_rate: 'fast'", "number"),
        ("schedule.learning_rate=0", "schedule.learning_rate: 0", "greater than 0"),
        ("schedule.learning_rate={4: {4: 1}}", "schedule.learning_rate[4]: {4: 1}", "or a ramp"),
        ("schedule.learning_rate={end: 1}", "schedule.learning_rate.start is missing", "first"),
        (
            "schedule.learning_rate={start: 1, end: 1, decay: cosin}",
            "schedule.learning_rate.decay: 'cosin'",
            "'cosine'",
        ),
        (
            "schedule.learning_rate={4: {start: 1, end: -2}}",
            "schedule.learning_rate[4].end: -2",
            "greater than or equal to 0",
        ),
    ],
)
def test_ill_typed_value(override, start, allowed):
    """Reference: path and value as the user wrote them, then what is allowed, in one line."""
    text = message(override)
    assert text.startswith(f"in -o: {start}") and allowed in text and "\n" not in text
    assert text.count(start) == 1


@pytest.mark.parametrize(
    "path",
    [
        "network.resolution",
        "network.fused_scale",
        "schedule.batch_size",
        "schedule.learning_rate",
        "run.precision",
        "run.seed",
        "loss.weights",
    ],
)
def test_null_where_not_allowed(path):
    """Reference: only what is documented with a meaning of null may be null."""
    assert message(f"{path}=null").startswith(f"in -o: {path}: None does not fit")


NULLABLE = [
    *("data.source", "data.root", "data.cache"),
    *("data.label_level", "data.augment_target", "data.max_images"),
    *("data.device_cache", "data.workers"),
    "network.conventions",
    "network.init",
    *(
        "schedule.start_alpha",
        "schedule.total_kimg",
        "schedule.batch_gpu",
        "schedule.cycles",
        "schedule.phases",
    ),
    *("optim.beta1", "optim.beta2", "optim.eps", "optim.momentum", "optim.nesterov"),
    *("optim.weight_decay", "ema.rampup", "ema.lengths", "ema.swa_start_kimg"),
    *("ema.swa_every_kimg", "run.compile"),
    *("run.metrics", "run.inception", "run.tracker"),
]


def test_null_where_allowed():
    """Reference: exactly the settings that document what null means accept it."""
    accepted = []
    for key in flatten(Config().model_dump()):
        try:
            load(f"{key}=null")
            accepted.append(key)
        except UserError:
            pass
    assert accepted == NULLABLE
    for key in accepted:
        section, name = key.split(".")
        field = type(getattr(Config(), section)).model_fields[name]
        assert field.default is None or "null: " in field.description


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e999"])
@pytest.mark.parametrize(
    "path, where",
    [
        ("schedule.total_kimg=", "schedule.total_kimg"),
        ("schedule.fade_kimg={4: 1, 8: ", "schedule.fade_kimg[8]"),
        ("schedule.learning_rate=", "schedule.learning_rate"),
        ("schedule.learning_rate={4: ", "schedule.learning_rate[4]"),
        ("loss.weights.drift=", "loss.weights.drift"),
        ("optim.eps=", "optim.eps"),
    ],
)
def test_not_finite(path, where, value):
    """Reference: NaN passes every comparison's negation and would be noticed hours later."""
    text = message(path + value + ("}" if "{" in path else ""))
    assert text.startswith(f"in -o: {where}: ") and "finite" in text


def test_every_mistake_once():
    """Reference: three mistakes, three lines, each with its own path."""
    text = message("network.resolution=48", "network.channels=2", "run.see=1")
    first, *lines = text.split("\n")
    assert first == "in -o:"
    assert [line.split()[:3] for line in lines] == [
        ["network.resolution:", "48", "does"],
        ["network.channels:", "2", "does"],
        ["unknown", "key", "run.see"],
    ]


@pytest.mark.parametrize(
    "overrides, text",
    [
        ([], "in FILE:\n  network.z_dim: 0 does\n  loss.weights.drift: -1 does"),
        (["network.z_dim=-3", "loss.weights.drift=1"], "in -o: network.z_dim: -3 does"),
        (
            ["run.seed=x", "loss.weights.penalty=1"],
            "in FILE:\n  network.z_dim: 0 does\n  loss.weights.drift: -1 does\nin -o:\n"
            "  run.seed: 'x' does",
        ),
        (["network.z_dim=1", "loss.weights=3"], "in -o: loss.weights: 3 does"),
        (["network.z_dim=1", "loss.weights={drft: 0}"], "in -o: unknown"),
        (
            ["network.z_dim=1", "loss.weights.drift=1", "schedule.learning_rate.end=1"],
            "in -o: schedule.learning_rate: {",
        ),
        (
            ["network.z_dim=1", "loss.weights.drift=1", "schedule.start_resolution=256"],
            "in FILE with -o: schedule.start_resolution (256)",
        ),
        (  # the rule's sentence names no key that -o has
            ["network.z_dim=1", "loss.weights.drift=1", "schedule.start_resolution=4"],
            "in FILE with -o: schedule.learning_rate",
        ),
        (["network.z_dim=1", "loss.weights.drift=1"], None),
    ],
)
def test_where_a_wrong_value_came_from(tmp_path, overrides, text):
    """Reference: the place by hand, for mistakes of a file, of -o, and of both together."""
    path = write(
        tmp_path,
        "network: {z_dim: 0}\nloss: {weights: {drift: -1}}\n"
        "schedule: {start_resolution: 8, learning_rate: {8: 0.1}}",
    )
    if text is None:
        load_config(path, overrides)
        return
    lines = message(*overrides, name=path).split("\n")
    for line, start in zip(lines, text.split("\n"), strict=True):
        assert line.startswith(start.replace("FILE", path))


def test_start_above_end():
    """Reference: both values and both paths."""
    text = message("schedule.start_resolution=256", "network.resolution=64")
    assert "schedule.start_resolution (256) must not exceed network.resolution (64)" in text


@pytest.mark.parametrize(
    "path, value",
    [
        ("schedule.batch_size", 16),
        ("schedule.batch_gpu", 16),
        ("schedule.stable_kimg", 1),
        ("schedule.learning_rate", 0.1),
        ("optim.beta1", 0.1),
        ("ema.half_life_kimg", 0.1),
        ("run.tick_kimg", 0.1),
    ],
)
def test_map_without_the_start(path, value):
    """Reference: a map holds upward, so nothing holds at 4x4; with start_resolution 8 it does."""
    text = message(f"{path}={{8: {value}}}")
    assert f"{path} (" in text and "4x4" in text and "'4:'" in text
    assert message(f"{path}={{}}").startswith(f"in -o: {path} ({{}}) must have a value for 4x4")
    load(f"{path}={{8: {value}}}", "schedule.start_resolution=8")


@pytest.mark.parametrize("text", ["network", "network=3", "=3", "network.=3", ".a=3", "a..b=3", ""])
def test_override_form(text):
    """Reference: the form with an example, and what was given."""
    assert message(text) == (
        "-o takes section.key=value, for example -o network.resolution=64; got '" + text + "'"
    )


# Files


@pytest.mark.parametrize(
    "content, part",
    [
        ("- network\n- data\n", "must be a map of sections, for example"),
        ("42", "must be a map of sections, for example"),
        ("network: [", "is not valid YAML: "),
        ("network:\n\tresolution: 64", "is not valid YAML: "),
        ("a: b: c", "line 1, column 5"),
        ("network: {z_dim: 1}\nnetwork: {resolution: 64}", "the key 'network' is there twice"),
        ("network: {z_dim: 1, z_dim: 2}", "the key 'z_dim' is there twice"),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", "the key 'c' is there twice at line 5, column 3"),
        ("run: {keep_checkpoints: 0o8}", "'0o8' does not fit"),
        ("run: {seed: 0b1}", "'0b1' does not fit"),
        ("{schedule: {batch_size: {4: 8, 04: 9}}}", "the key '04' is there twice"),
        ("run: {seed: " + "[" * 2000 + "}", "is not valid YAML: "),
        (b"\x89PNG\r\n\x1a\n\xff\x00\xfe", "cannot read config"),
        (b"network\x00", "is not valid YAML: "),
        ("network:\n  resolution:64", "put a space after the colon: 'resolution: 64'"),
        ("network:\n  z_dim: 8\n  resolution:64", "put a space after each colon"),
        ("network.resolution: 64", "; write network: {resolution: …}; known: "),
        ("run: {metrics: {5: 1}}", "run.metrics[5]: 5 does not fit (metrics to measure"),
        ("network: 5", "network: 5 does not fit: must be a map of keys: resolution, "),
        ("network:", "network: None does not fit: must be a map of keys: resolution, "),
        ("{1: 2}", "unknown key 1; known: data, network, "),
        ("{null: 2}", "unknown key None; known: data, network, "),
    ],
)
def test_broken_file(tmp_path, content, part):
    """Reference: the file's name, and what is wrong in it in the user's terms. A key given twice
    would lose the first without a word."""
    path = write(tmp_path, content)
    text = message(name=path)
    assert path in text and part in text and "did you mean" not in text


def test_missing_file(tmp_path):
    """Reference: the reason, the nearest preset or file, and all presets."""
    (tmp_path / "mine.yaml").touch()
    near = f"(did you mean '{tmp_path / 'mine.yaml'}'?)"
    assert near in message(name=str(tmp_path / "mine.yml"))
    text = message(name="cifar")
    assert "cannot read config 'cifar' (did you mean 'cifar10'?): No such file" in text
    assert text.endswith("give a YAML file or one of: " + ", ".join(presets()))


def test_folder_for_a_file(tmp_path):
    """Reference: the system's own reason."""
    assert "Is a directory" in message(name=str(tmp_path))


@pytest.mark.parametrize("tag", ["apply:os.system", "apply:subprocess.getoutput"])
def test_python_objects_are_refused(tmp_path, tag):
    """Reference: a file that the command would create; a config from the internet runs nothing."""
    trace = tmp_path / "trace"
    text = f'!!python/object/{tag} ["touch {trace}"]'
    assert "could not determine a constructor" in message(f"data.source={text}")
    path = write(tmp_path, f"data: {{source: {text}}}")
    assert "could not determine a constructor" in message(name=path)
    with pytest.raises(UserError):
        load(f"data.source=!!python/name:os.system {trace}")
    assert not trace.exists()
    yaml.unsafe_load(text)
    assert trace.exists()  # without the refusal the text runs its code


# On resume


def test_differences():
    """Reference: the changes, with old and new values; settings that may change are left out."""
    old = load("data.source=demo")
    new = load(
        "data.source=/elsewhere",
        "network.z_dim=64",
        "schedule.total_kimg=5",
        "schedule.batch_gpu=4",
        "schedule.batch_size=8",
        "run.tick_kimg=1",
        "run.seed=7",
    )
    assert differences(old, new) == [
        "network.z_dim: 512 -> 64",
        f"schedule.batch_size: {old.schedule.batch_size} -> 8",
        "run.seed: 0 -> 7",
    ]
    assert differences(old, old) == []


def test_differences_in_nested_keys():
    """Reference: a weight of the loss changes what is trained, so its change is reported."""
    (line,) = differences(Config(), load("loss.weights.drift=0.5"))
    assert line.startswith("loss.weights") and "0.001" in line and "0.5" in line


@pytest.mark.parametrize(
    "overrides, text",
    [
        (["ema.lengths=[0.05, 0.1]"], "ema.lengths ([0.05, 0.1]) is of the kind power"),
        (["ema.kind=power", "ema.rampup=0.1"], "ema.rampup (0.1) is of the kind half_life"),
        (["ema.kind=swa", "ema.half_life_kimg=1"], "ema.half_life_kimg (1.0) is of the kind"),
        (["ema.kind=swa"], "ema.swa_start_kimg must be given, as ema.kind is swa"),
        (["ema.half_life_kimg=null"], "ema.half_life_kimg must be given, as ema.kind is half_life"),
        (["ema.swa_start_kimg=36", "ema.kind=swa"], "must be less than the length of the run (36"),
        (["ema.kind=power", "ema.lengths=[0.1, 0.05]"], "the shorter one first"),
        (["ema.kind=powr"], "must be 'half_life', 'power' or 'swa'"),
    ],
)
def test_settings_of_an_average(overrides, text):
    """Reference: each kind has its own settings, and no others."""
    with pytest.raises(UserError) as error:
        load_config("demo", overrides)
    assert text in str(error.value)


@pytest.mark.parametrize("preset", [None, "demo", "celeba-hq"])
def test_another_kind_of_average(preset):
    """Reference: the kind's own defaults; a preset's settings of its kind do not hold then. What
    is written is read as the same."""
    config = load_config(preset, ["ema.kind=power"])
    ema = config.ema
    assert (ema.lengths, ema.half_life_kimg, ema.rampup) == ([0.05, 0.1], None, None)
    swa = load_config(preset, ["ema.swa_start_kimg=3", "ema.kind=swa"])
    assert (swa.ema.swa_start_kimg, swa.ema.swa_every_kimg, swa.ema.lengths) == (3, 1, None)
    for each in (config, swa):
        assert validate(yaml.safe_load(each.to_yaml()), "written") == each
    same = load_config(preset, ["ema.kind=half_life"])
    assert same == load_config(preset)


def test_changeable_settings_exist():
    """Reference: the config's own keys; a renamed one would silently lose its permission."""
    assert set(flatten(Config().model_dump())) >= CHANGEABLE


# Presets


def test_presets():
    """Reference: the presets that the README and the commands name."""
    names = [
        "celeba-hq-8gpu",
        "celeba-hq",
        "celeba",
        "cifar10",
        "demo",
        "few-images",
        "lsun",
        "mnist",
        "modern",
    ]
    assert list(presets()) == names


@pytest.mark.parametrize("name", ["demo", "modern"])
def test_phases_and_cycles_replace_those_of_a_preset(name):
    """Reference: the same settings without the preset's schedule. Null replaces nothing, and what
    is given beside them does not go away."""
    cycles = "schedule.cycles={one_cycle: {rate: 0.003}}"
    schedule = load_config(name, [cycles]).schedule
    assert schedule.cycles and schedule.learning_rate == ScheduleConfig().learning_rate
    assert schedule.total_kimg == load_config(name).schedule.total_kimg
    size = "network.resolution=8"
    phases = "schedule.phases=[{resolution: 4, kimg: 1.6}, {resolution: 8, kimg: 3.2}]"
    found = load_config(name, [size, phases, "schedule.batch_size=16"]).make_schedule()
    assert [(p.resolution, p.batch_size) for p in found.phases] == [(4, 16), (8, 16)]
    assert found.total_nimg == 4800
    assert load_config(name, ["schedule.cycles=null"]) == load_config(name)
    with pytest.raises(UserError, match="cycles replace schedule.learning_rate"):
        load_config(name, ["schedule.learning_rate=0.1", cycles])


@pytest.mark.parametrize("name", presets())
def test_preset(name):
    """Reference: what a user needs of it: it loads, opens with its explanation, its schedule fits
    one process, reaches its resolution, and its networks can be built."""
    text = presets()[name].read_text(encoding="utf-8")
    header = [line for line in text.split("\n\n")[0].splitlines() if line.startswith("#")]
    assert text.startswith("# ") and len(header) >= 4
    assert "progan train" in "\n".join(header)

    config = load_config(name)
    assert load_config(str(presets()[name])) == config
    schedule = config.make_schedule()
    check_batches(schedule, 1, config.network.stddev_group)
    last = schedule.phases[-1]
    assert (last.resolution, last.fading) == (config.network.resolution, False)
    with torch.device("meta"):
        c_dim = 10 if config.data.labels else 0
        G = Generator(**config.network.generator_settings(), c_dim=c_dim)
        D = Critic(**config.network.critic_settings(), c_dim=c_dim)
        z, c = torch.empty(4, config.network.z_dim), torch.empty(4, c_dim)
        images = G(z, c, resolution=last.resolution)
        scores, _ = D(images)
    assert images.shape == (4, config.network.channels, last.resolution, last.resolution)
    assert scores.shape == (4,) and scores.is_meta


@pytest.mark.parametrize("name, official", [("celeba-hq", "1gpu"), ("celeba-hq-8gpu", "8gpu")])
def test_presets_of_the_official_schedules(name, official):
    """Reference: batches and rates of the official code's table, and its average, which keeps 0.999
    at each update whatever the batch."""
    config, (_, batches, rates) = load_config(name), PRESETS[official]
    assert config.ema.rampup is None
    stable = [phase for phase in config.make_schedule().phases if not phase.fading]
    assert [phase.batch_size for phase in stable] == batches
    assert [phase.G_rate.at(phase.end_nimg - 1) for phase in stable] == rates
    for phase in stable:
        half_life = at_resolution(config.ema.half_life_kimg, phase.resolution)
        assert ema.decay(phase.batch_size, half_life) == pytest.approx(0.999, abs=2e-5)


@pytest.mark.parametrize(("labels", "level"), [(True, 1), (False, None)])
def test_a_run_from_before_a_setting_goes_on_as_it_began(tmp_path, labels, level):
    """Reference: classes came from the first level of folders before there was label_level. A run
    that has it keeps it, null as well."""
    config = load_config(None, {"data.labels": labels})
    for text, expected in (
        (config.to_yaml(), None),
        (re.sub(r"\n  label_level: null", "", config.to_yaml()), level),
    ):
        (tmp_path / "config.yaml").write_text(text)
        assert read_config(tmp_path, []).data.label_level == expected
        assert read_config(tmp_path, ["data.label_level=2"]).data.label_level == 2


LEVELS = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 9)]
ANCHORS = "\n".join(["x0: &x0 [1]", *LEVELS])


@pytest.mark.parametrize(
    "text",
    [
        *(f"{ANCHORS}\n{key}: *x8" for key in ("network", "? *x8\n", "schedule: {phases: *x8}\na")),
        f"{ANCHORS.replace('[', '{a: ').replace(', ', ', b: ').replace(']', '}')}",
        "schedule: {phases: &a [*a]}",
        "run: &a {metrics: *a}",
    ],
)
def test_anchors_that_unfold_are_refused(text):
    """Reference: of 9 levels of 9 the last has 9^8 values; what holds itself has no end."""
    with pytest.raises(UserError, match=r"it is not valid YAML: .*(100,000 values|twice)"):
        parse_yaml(text, "it")


def test_anchors_that_are_used_again():
    """Reference: YAML's own rule, for as many as a config could have."""
    text = "a: &a {x: [1, 2]}\nb: [" + ", ".join(["*a"] * 1000) + "]"
    assert parse_yaml(text, "it") == {"a": {"x": [1, 2]}, "b": [{"x": [1, 2]}] * 1000}


def test_what_is_no_file_of_settings(tmp_path):
    """Reference: a device without an end is read for a million bytes; a pipe is read as a file is,
    as shells make them. A long value is cut short in the message."""
    with pytest.raises(
        UserError, match="cannot read config '/dev/zero': it has more than 1,000,000"
    ):
        load_config("/dev/zero")
    ends = os.pipe()
    os.write(ends[1], b"run: {seed: 7}")
    os.close(ends[1])
    assert load_config(f"/dev/fd/{ends[0]}").run.seed == 7
    os.close(ends[0])
    deep = "[" * 9 + "1" + "]" * 9
    with pytest.raises(UserError, match=r"network\.resolution: \[\[\[\.\.\.\]\], ") as told:
        load_config(None, [f"network.resolution=[{', '.join([deep] * 1000)}]"])
    assert len(str(told.value)) < 500
