"""From presets, YAML files and `-o` to a config, with mistakes explained."""

import reprlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from progan.config.config import Config, RampConfig
from progan.config.yaml_io import parse_yaml
from progan.runtime.errors import UserError, nearest

PRESET_FOLDERS = (Path(__file__).parents[1] / "presets", Path(__file__).parents[2] / "configs")


def presets() -> dict[str, Path]:
    """Name to file of the configs that come with progan (in the wheel, or beside the package)."""
    folder = next(folder for folder in PRESET_FOLDERS if folder.is_dir())
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_file(name: str) -> dict[str, Any]:
    """The content of a config: a preset's name or a YAML file."""
    path = presets().get(name, Path(name))
    try:
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


def override(content: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """A copy of `content` with `section.key=value` assignments applied; values are YAML."""
    content = {k: dict(v) if isinstance(v, dict) else v for k, v in content.items()}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or len(keys) < 2 or not all(keys):
            raise UserError(
                "-o takes section.key=value, for example -o network.resolution=64; "
                f"got '{assignment}'"
            )
        section = content
        for key in keys[:-1]:
            child = section.get(key)
            section[key] = section = dict(child) if isinstance(child, dict) else {}
        section[keys[-1]] = parse_yaml(value, f"the value of -o {path}")
    return content


def load_config(name: str | None = None, overrides: list[str] = ()) -> Config:
    """Defaults, then a preset or file, then overrides.

    Raises:
        UserError: naming each wrong key with its path, value, what is allowed and the nearest key.
    """
    return validate(
        override({} if name is None else read_file(name), list(overrides)), name or "-o"
    )


def validate(content: dict[str, Any], name: str) -> Config:
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        lines = dict.fromkeys(explain(e) for e in error.errors())
        start = f"in {name}:" + ("\n  " if len(lines) > 1 else " ")
        raise UserError(start + "\n  ".join(lines)) from None


# What `by_resolution` takes, by tag.
FORMS = {
    "value": "one value",
    "map": "a map from resolutions to values, such as {4: 128, 64: 32}",
    "ramp": "a ramp {start: 0.001, end: 0.0001}",
}


def explain(error: dict[str, Any]) -> str:
    """One line for one of pydantic's errors: key, value, what is allowed."""
    if error["type"] == "value_error" and not error["loc"]:
        return str(error["ctx"]["error"])
    model, path, field, rule = Config, "", None, error["msg"]
    for key in error["loc"]:  # follow the location, of which some parts are pydantic's own
        fields = getattr(model, "model_fields", {})
        if key in fields:
            path, field = f"{path}.{key}".lstrip("."), fields[key]
            model = field.annotation
        elif fields:
            where = f"{path}.{key}".lstrip(".")
            return f"unknown key {where}{nearest(str(key), fields)}; known: {', '.join(fields)}"
        elif key == "ramp":
            model = RampConfig
        elif key not in ("value", "map", "list", "[key]"):
            path += f"[{key}]"
    if error["type"] == "missing":
        return f"{path} is missing: {field.description}"
    if error["type"] == "model_type":
        rule = f"must be a map of keys: {', '.join(model.model_fields)}"
    if error["type"] == "union_tag_invalid":
        forms = (text for tag, text in FORMS.items() if repr(tag) in error["ctx"]["expected_tags"])
        rule = "must be " + " or ".join(forms)
    about = field.description if field and field.description else ""
    if "[key]" in error["loc"]:
        about = "a resolution, from which the value holds upward"
    rule = rule.removeprefix("Value error, ").replace("Input should", "must")
    return f"{path}: {reprlib.repr(error['input'])} does not fit{about and f' ({about})'}: {rule}"
