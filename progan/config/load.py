"""Makes a config of presets, YAML files and `-o`, and explains mistakes in them."""

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml import YAMLError

from progan.config.config import Config
from progan.config.hints import meant, settings_for
from progan.config.value_types import Ramp
from progan.config.yaml_io import dump_yaml, parse_yaml
from progan.runtime.errors import UserError, nearest
from progan.runtime.paths import to_path

GIVE = "give keys with their section, such as {'network.resolution': 64}"
PRESET_FOLDERS = (Path(__file__).parents[1] / "presets", Path(__file__).parents[2] / "configs")


def presets() -> dict[str, Path]:
    """Files of the presets by name. They are in the wheel, or next to the package in the source."""
    folder = next(folder for folder in PRESET_FOLDERS if folder.is_dir())
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_file(name: str) -> dict[str, Any]:
    """The content of a preset, by its name, or of a YAML file."""
    try:
        path = presets().get(name) or to_path(name, "--config")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not there, not text, no name of a file
        hint = nearest(name, presets())
        raise UserError(
            f"cannot read config '{name}'{hint}: {getattr(error, 'strerror', None) or error}; "
            f"give a YAML file or one of: {', '.join(presets())}"
        ) from None
    content = parse_yaml(text, name)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(
            f"{name} must be a map of sections, for example 'network: {{resolution: 64}}'"
        )
    return content


def override(content: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of `content` with `section.key=value` assignments applied; values are YAML."""
    content = {k: dict(v) if isinstance(v, dict) else v for k, v in content.items()}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or len(keys) < 2 or not all(keys):
            raise UserError(
                f"-o takes section.key=value, for example -o network.resolution=64; got "
                f"'{assignment}'{meant(keys[0], value if equals else '…')}"
            )
        section = content
        for key in keys[:-1]:
            child = section.get(key)
            section[key] = section = dict(child) if isinstance(child, dict) else {}
        colour = value.startswith("#")  # in YAML a comment
        section[keys[-1]] = value if colour else parse_yaml(value, f"the value of -o {path}")
    return content


def assignments(overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """`{"section.key": value}`, as Python gives overrides, to `section.key=value`, as -o does."""
    if isinstance(overrides, str):
        raise UserError(f"overrides is {overrides!r}; {GIVE}")
    if not isinstance(overrides, Mapping):
        return list(overrides)
    made = []
    for key, value in overrides.items():
        if not isinstance(key, str) or "." not in key or "=" in key:
            hint = meant(key, "…") if isinstance(key, str) else ""
            raise UserError(f"overrides has the key {key!r}; {GIVE}{hint.replace('-o ', '')}")
        try:
            made.append(f"{key}={dump_yaml(plain(value))}")
        except YAMLError:
            raise UserError(
                f"the override of {key} is {reprlib.repr(value)}; give a number, a text, True, "
                "False, None, or a list or dictionary of these"
            ) from None
    return made


def plain(value: Any) -> Any:
    """Paths as text and NumPy's numbers as Python's, in lists and maps, too."""
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def load_config(
    name: str | Path | None = None, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Config:
    """Defaults, then a preset or file, then overrides.

    Args:
        name: a preset's name, or the path of a YAML file. None: the defaults alone.
        overrides: `{"network.resolution": 64}`, or `["network.resolution=64"]` as after -o.

    Raises:
        UserError: names each wrong key, where it came from, its value, what is allowed and the
            nearest key.
    """
    changes, file = assignments(overrides), None if name is None else str(name)
    content = {} if file is None else read_file(file)
    return validate(content, file, changes)


def as_begun(content: Any) -> Any:
    """The settings of a run; those it was begun without, as they were before they existed."""
    data = content.get("data") if isinstance(content, dict) else None
    if isinstance(data, dict) and data.get("labels") is True:
        return content | {"data": {"label_level": 1} | data}
    return content


def validate(content: dict[str, Any], name: str | None, overrides: Sequence[str] = ()) -> Config:
    """The config described by `content`, the settings in `name`, and `overrides`."""
    try:
        return Config.model_validate(override(content, overrides) if overrides else content)
    except ValidationError as error:
        own = mistakes(content) if name else []
        lines: dict[str, list[str]] = {}
        for setting, line in dict.fromkeys(map(explain, error.errors())):
            # A rule on several settings may be broken by -o together with the file.
            given = "-o" if setting or name is None else f"{name} with -o"
            place = name if name and line in own else given
            lines.setdefault(place, []).append(line)
        several = len(lines) > 1 or any(len(each) > 1 for each in lines.values())
        start = "\n  " if several else " "
        raise UserError(
            "\n".join(f"in {place}:{start}" + start.join(each) for place, each in lines.items())
        ) from None


def mistakes(content: dict[str, Any]) -> list[str]:
    """What is wrong with settings, a line each."""
    try:
        Config.model_validate(content)
    except ValidationError as error:
        return [line for _, line in map(explain, error.errors())]
    return []


# The forms of `PerResolution` and `Rates`, by tag.
FORMS = {
    "value": "one value",
    "map": "a map from resolutions to values, such as {4: 128, 64: 32}",
    "ramp": "a ramp {start: 0.001, end: 0.0001}",
}
TAGS = ("value", "map", "list", "[key]")  # parts of pydantic's locations, as is "ramp"


def misread(error: ErrorDetails) -> str:
    """A hint where YAML reads another thing than was meant: a text for `4:16`, `yes` or `1_000`."""
    value = error["input"]
    if error["type"] == "bool_type":
        return "; write true or false"
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d[\d_.]*", value):
        return "; write it without quotes and _"
    if isinstance(value, float) and error["type"] == "int_type" and value.is_integer():
        return f"; write {value:.0f}"
    if isinstance(value, int | float) and error["type"] == "string_type":
        return "; put quotes around what is no number"
    if isinstance(value, dict) and any(type(k) is str and k.isdecimal() for k in value):
        return "; write its keys without quotes"
    own_rule = error["type"] == "value_error"  # which says what it wants
    texts = [*error["loc"], *(value if isinstance(value, dict) else [] if own_rule else [value])]
    for text in texts:
        if isinstance(text, str) and (match := re.match(r"\s*([\w.]+)\s*:([^\s:/]+)", text)):
            return f"; put a space after the colon: '{match[1]}: {match[2]}'"
    return ""


def explain(error: ErrorDetails) -> tuple[str, str]:
    """The setting, and one line for one of pydantic's errors: key, value, what is allowed."""
    if error["type"] == "value_error" and not error["loc"]:
        return "", str(error["ctx"]["error"])
    model: Any = Config
    setting, path, about, rule = "", "", "", error["msg"]
    for key in error["loc"]:
        fields = getattr(model, "model_fields", {})
        if fields:
            path = f"{path}.{key}".lstrip(".")
            setting = setting if model is Ramp else path
            if key not in fields:
                known, elsewhere = ", ".join(fields), [k for k, _ in settings_for(str(key))]
                there = f" (did you mean '{elsewhere[0]}'?)" if elsewhere else ""
                alike = nearest(str(key), fields, 0.8)  # a slip of the pen, in the right section
                hint = alike or there or nearest(str(key), fields)
                section, _, inner = str(key).partition(".")
                if model is Config and section in fields and inner:  # as -o has it
                    hint = f"; write {section}: {{{inner}: …}}"
                return setting, f"unknown key {path}{hint}; known: {known}{misread(error)}"
            model, about = fields[key].annotation, fields[key].description or ""
        elif key == "ramp":
            model = Ramp
        elif key not in TAGS:
            path += f"[{key}]"
    if error["type"] == "missing":
        return setting, f"{path} is missing: {about}"
    if error["type"] == "model_type":
        rule = f"must be a map of keys: {', '.join(model.model_fields)}"
    if error["type"] == "union_tag_invalid":
        forms = (text for tag, text in FORMS.items() if repr(tag) in error["ctx"]["expected_tags"])
        rule = "must be " + " or ".join(forms)
    if "[key]" in error["loc"] and setting != "run.metrics":
        about = "a resolution, from which the value holds upward"
    rule = rule.removeprefix("Value error, ").replace("Input should", "must")
    value = reprlib.repr(error["input"])
    rule += misread(error)
    return setting, f"{path}: {value} does not fit{about and f' ({about})'}: {rule}"
