"""Explains settings that do not fit: where, which value, what is allowed, what was meant."""

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from progan.config.conventions import Conventions
from progan.config.curves import Cycles, OneCycle, Pair, Ramp, Sgdr
from progan.config.hints import settings_for
from progan.config.schedule_settings import PhaseConfig
from progan.config.settings import Settings
from progan.config.value_types import Section
from progan.runtime.errors import UserError, nearest, shown

MOST_MISTAKES = 20  # that are told; a file from anybody may have thousands


class SettingsError(UserError):
    """Settings that do not fit.

    Args:
        error: pydantic's.
    """

    def __init__(self, error: ValidationError) -> None:
        told = map(explain, error.errors()[:MOST_MISTAKES])
        self.found = list(dict.fromkeys(told))  # (setting, line) of each
        self.more = error.error_count() - MOST_MISTAKES
        lines = {"these settings": [line for _, line in self.found]}
        super().__init__(in_places(lines, self.more))


def in_places(lines: dict[str, list[str]], more: int) -> str:
    """Lines by the places they are about; a single one stands next to its place.

    Args:
        more: the number of mistakes that are not among them.
    """
    several = len(lines) > 1 or any(len(each) > 1 for each in lines.values())
    start = "\n  " if several else " "
    told = "\n".join(f"in {place}:{start}" + start.join(each) for place, each in lines.items())
    return told + f"\nand {more:,} more" * (more > 0)


# The forms of `PerResolution` and `Rates`, by tag.
FORMS = {
    "value": "one value",
    "map": "a map from resolutions to values, such as {4: 128, 64: 32}",
    "ramp": "a ramp {start: 0.001, end: 0.0001}",
    "pair": "{G: …, D: …} of these",
}
# What is below a setting, by its tag or key.
INNER: dict[Any, type[Section]] = {
    "ramp": Ramp,
    "pair": Pair,
    "conventions": Conventions,
    "cycles": Cycles,
    "sgdr": Sgdr,
    "one_cycle": OneCycle,
}
INNERMOST = {*INNER.values(), PhaseConfig}  # parts of one setting
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
    if isinstance(value, dict) and error["type"] == "list_type":
        return "; give all of it, in brackets"
    if isinstance(value, dict) and any(type(k) is str and k.isdecimal() for k in value):
        return "; write its keys without quotes"
    own_rule = error["type"] == "value_error"  # which says what it wants
    texts = [*error["loc"], *(value if isinstance(value, dict) else [] if own_rule else [value])]
    for text in texts:
        if isinstance(text, str) and (match := re.match(r"\s*([\w.]+)\s*:([^\s:/]+)", text)):
            return f"; put a space after the colon: '{match[1]}: {match[2]}'"
    return ""


def explain(error: ErrorDetails) -> tuple[str, str]:
    """The setting, and a line for one of pydantic's errors: key, value, what is allowed."""
    if error["type"] == "value_error" and not error["loc"]:
        return "", str(error["ctx"]["error"])
    model: Any = Settings
    setting, path, about, rule = "", "", "", error["msg"]
    for key in error["loc"]:
        fields = getattr(model, "model_fields", {})
        if fields:
            path += f" {key}" if path.endswith(":") else f".{key}" if path else str(key)
            setting = setting if model in INNERMOST else path
            if key not in fields:
                known = ", ".join(fields)
                inner = error["input"] if isinstance(error["input"], dict) else {}
                meant = [k for word in (key, *inner) for k, _ in settings_for(str(word))]
                if model in INNERMOST:  # a phase has settings of the same names
                    meant = [name for k in meant if (name := k.rpartition(".")[2]) in fields]
                there = f" (did you mean '{meant[0]}'?)" if meant else ""
                alike = nearest(str(key), fields, 0.8)  # a slip of the pen, in the right section
                hint = alike or there or nearest(str(key), fields)
                section, _, name = str(key).partition(".")
                if model is Settings and section in fields and name:  # as -o has it
                    hint = f"; write {section}: {{{name}: …}}"
                return setting, f"unknown key {path}{hint}; known: {known}{misread(error)}"
            model = INNER.get(key) or fields[key].annotation
            about = fields[key].description or ""
        elif key in INNER:
            model = INNER[key]
        elif setting == "schedule.phases" and isinstance(key, int):
            model, path = PhaseConfig, f"{path}, phase {key + 1}:"
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
    if error["type"] == "literal_error":
        rule += nearest(str(error["input"]), re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    rule = re.sub("(Input|List) should", "must", rule.removeprefix("Value error, "))
    rule = rule.replace(" after validation", "")
    value = shown(error["input"])
    rule += misread(error)
    path = path.removesuffix(":")
    return setting, f"{path}: {value} does not fit{about and f' ({about})'}: {rule}"
