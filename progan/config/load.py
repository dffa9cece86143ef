"""Makes a config of presets, YAML files and `-o`, and says where mistakes come from."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from yaml import YAMLError

from progan.config.config import Config
from progan.config.ema import FIRST
from progan.config.hints import meant
from progan.config.mistakes import SettingsError, in_places
from progan.config.phase_rules import REPLACED as REPLACED_BY_PHASES
from progan.config.yaml_io import dump_inline, parse_yaml
from progan.runtime.errors import UserError, nearest, shown
from progan.runtime.paths import names_beside, to_path

GIVE = "give keys with their section, such as {'network.resolution': 64}"
MOST_BYTES = 10**6  # of a YAML file, which takes about 3,000
PRESET_FOLDERS = (Path(__file__).parents[1] / "presets", Path(__file__).parents[2] / "configs")

# Settings that stand in the place of others of their section; (): of all of them.
REPLACED: dict[str, tuple[str, ...]] = {
    "ema.kind": (),
    "schedule.cycles": ("learning_rate",),
    "schedule.phases": (*REPLACED_BY_PHASES, "total_kimg"),
}


def presets() -> dict[str, Path]:
    """Files of the presets by name. They are in the wheel, or next to the package in the source."""
    folder = next(folder for folder in PRESET_FOLDERS if folder.is_dir())
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_file(name: str) -> dict[str, Any]:
    """The content of a preset, by its name, or of a YAML file."""
    try:
        path = presets().get(name) or to_path(name, "--config")
        with open(path, "rb") as file:  # it may be a pipe, and a device may have no end
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        text = content.decode()
    except (OSError, ValueError) as error:  # not there, not text, no name of a file
        files = (str(Path(name).parent / other) for other in names_beside(Path(name)))
        yaml = (file for file in files if file.endswith((".yaml", ".yml")))
        missing = isinstance(error, FileNotFoundError)
        hint = nearest(name, [*presets(), *yaml]) if missing else ""
        raise UserError(
            f"cannot read config '{name}'{hint}: {getattr(error, 'strerror', None) or error}; "
            f"give a YAML file or one of: {', '.join(presets())}"
        ) from None
    settings = parse_yaml(text, name)
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UserError(
            f"{name} must be a map of sections, for example 'network: {{resolution: 64}}'"
        )
    return settings


def override(content: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of `content` with `section.key=value` assignments applied; values are YAML.

    What one of them replaces goes out of `content`, so that a preset's rates are not in its way.
    """
    content = {k: dict(v) if isinstance(v, dict) else v for k, v in content.items()}
    for assignment in sorted(assignments, key=lambda text: text.partition("=")[0] not in REPLACED):
        path, equals, value = assignment.partition("=")
        drop_replaced(content, path, value)
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


def drop_replaced(content: dict[str, Any], path: str, value: str) -> None:
    """Take what a file says out of `content`, where the setting at `path` stands in its place."""
    name = path.partition(".")[0]
    section = content.get(name)
    if path not in REPLACED or not isinstance(section, dict):
        return
    if parse_yaml(value, f"the value of -o {path}") is None:
        return
    if path == "ema.kind" and value == section.get("kind", FIRST):
        return  # its own settings
    replaced = REPLACED[path] or tuple(section)
    content[name] = {key: inner for key, inner in section.items() if key not in replaced}


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
            made.append(f"{key}={dump_inline(plain(value))}")
        except YAMLError:
            raise UserError(
                f"the override of {key} is {shown(value)}; give a number, a text, True, "
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
    if not isinstance(content, dict):
        return content
    data, ema = content.get("data"), content.get("ema", {})
    if isinstance(data, dict) and data.get("labels") is True:
        content = content | {"data": {"label_level": 1} | data}
    if isinstance(ema, dict) and "kind" not in ema:
        content = content | {"ema": {"rampup": None} | ema}
    return content


def validate(content: dict[str, Any], name: str | None, overrides: Sequence[str] = ()) -> Config:
    """The config described by `content`, the settings in `name`, and `overrides`."""
    try:
        return made_of(override(content, overrides) if overrides else content)
    except SettingsError as error:
        own = mistakes(content) if name else []
        lines: dict[str, list[str]] = {}
        for setting, line in error.found:
            # A rule on several settings may be broken by -o together with the file.
            given = "-o" if setting or name is None else f"{name} with -o"
            place = name if name and line in own else given
            lines.setdefault(place, []).append(line)
        raise UserError(in_places(lines, error.more)) from None


def mistakes(content: dict[str, Any]) -> list[str]:
    """What is wrong with settings, a line each."""
    try:
        made_of(content)
    except SettingsError as error:
        return [line for _, line in error.found]
    return []


def made_of(content: Any) -> Config:
    if not isinstance(content, dict):
        raise UserError(f"settings are {shown(content)}, and must be a map of sections")
    return Config(**{str(key): value for key, value in content.items()})
