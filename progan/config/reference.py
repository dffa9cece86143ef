"""Explains all settings: as YAML to edit, and as docs/settings.md.

python -m progan.config.reference > docs/settings.md
"""

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from progan.config.config import Config
from progan.config.conventions import Conventions
from progan.config.curves import Cycles, OneCycle, Ramp, Sgdr
from progan.config.schedule_settings import PhaseConfig
from progan.config.value_types import LIMIT, Section, fields_in
from progan.config.yaml_io import dump_inline

INTRODUCTION = """\
# Settings

A setting is changed by `-o section.key=value` or in a YAML file: `progan config --out my.yaml`
writes all of them, with these explanations, to edit; `progan train --config my.yaml` reads it.
This page is made from the code by `python -m progan.config.reference`.

- **Paths** may begin with `~`, and are relative to the folder in which progan is started, also
  those in YAML files. A run keeps them absolute.
- A **kimg** is a thousand images shown to the critic.
- **A map by resolution**: `{4: 128, 64: 32}` is 128 from 4x4 upward, and 32 from 64x64 upward.
- **A ramp** changes over each phase, or over the run: `{start: 0.001, end: 0.0001}`.
- **{G: …, D: …}** are learning rates of generator and critic: `{G: 0.001, D: 0.002}`.
"""
# Parts of settings that are explained on their own.
PARTS: dict[str, type[Section]] = {
    "A ramp": Ramp,
    "A phase of schedule.phases": PhaseConfig,
    "Cycles": Cycles,
    "Cycles: sgdr": Sgdr,
    "Cycles: one_cycle": OneCycle,
    "Conventions of an imported network": Conventions,
}
TYPES = {
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "integer": "a whole number",
    "number": "a number",
}
LIMITS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}


def allowed(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if text := schema.get("format"):
        return text
    if forms := schema.get("anyOf") or schema.get("oneOf"):
        return ", or ".join(map(allowed, forms))
    if values := schema.get("enum"):
        *others, last = map(dump_inline, values)
        return f"{', '.join(others)} or {last}"
    if schema["type"] == "array":
        return f"a list of {allowed(schema['items'])}"
    limits = {word: schema[key] for key, word in LIMITS.items() if schema.get(key, LIMIT) < LIMIT}
    return TYPES[schema["type"]] + "".join(f" {word} {n}" for word, n in limits.items())


def explanation(model: type[Section], name: str) -> tuple[str, str]:
    """The meaning of a setting, as a sentence, and the values that it takes."""
    text = model.model_fields[name].description or ""
    schema = model.model_json_schema()["properties"][name]
    return f"{text[:1].upper()}{text[1:]}.", allowed(schema)


def commented_yaml(section: Section) -> str:
    """YAML of all settings, each below a comment that explains it."""
    parts, content = [], section.model_dump()
    for name, value in section:
        if isinstance(type(section).model_fields[name].default, Section):  # a ramp is no section
            inner = textwrap.indent(commented_yaml(value), "  ")
            parts.append(f"{comment(type(value).__doc__)}{name}:\n{inner}")
        else:
            meaning, values = explanation(type(section), name)
            line = f"{name}: {dump_inline(content[name])}\n"
            parts.append(comment(f"{meaning} Allowed: {values}.") + line)
    return "\n".join(parts)


def comment(text: str | None) -> str:
    return textwrap.fill(text or "", 96, initial_indent="# ", subsequent_indent="# ") + "\n"


def markdown() -> str:
    """docs/settings.md."""
    parts = [INTRODUCTION]
    for name, field in Config.model_fields.items():
        section = type(field.default)
        parts += [f"## {name}\n\n{section.__doc__}\n", table(rows(section, f"{name}."))]
    for title, model in PARTS.items():
        parts += [f"## {title}\n\n{inspect.getdoc(model)}\n", table(rows(model, ""))]
    return "\n".join(parts)


def table(lines: Iterator[tuple[str, ...]]) -> str:
    head = ["| setting | default | meaning | values |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def rows(model: type[Section], prefix: str) -> Iterator[tuple[str, ...]]:
    """Key, default, meaning and allowed values of each setting, also of sections within."""
    for key, section, name in fields_in(model, prefix):
        field = section.model_fields[name]
        default = "" if field.is_required() else f"`{dump_inline(field.default)}`"
        yield (f"`{key}`", default, *explanation(section, name))


if __name__ == "__main__":
    print(markdown(), end="")
