"""Reads and writes YAML: safely, with `1e-3` as a number, and no key twice."""

import math
import re
from typing import Any

import yaml

from progan.runtime.errors import UserError


class Loader(yaml.SafeLoader):
    """Safe YAML that also reads `1e-3` as a number (YAML 1.1 wants `1.0e-3`), and no key twice."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merges the maps after `<<`, each key once: twice at n levels would be 2^n keys."""
        seen = set()
        for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is there twice", node.start_mark
                )
            seen.add(key)
        super().flatten_mapping(node)
        last = {k.value if isinstance(k, yaml.ScalarNode) else k: (k, v) for k, v in node.value}
        node.value = list(last.values())

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Refuses lengths that Python cannot print, and base 60 (`1:30:00`) that takes minutes."""
        if len(node.value) > 1000:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of {len(node.value)} characters", node.start_mark
            )
        return super().construct_yaml_int(node)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


class Dumper(yaml.SafeDumper):
    """Quotes strings that `Loader` would read as numbers."""


for reader_or_writer in (Loader, Dumper):
    reader_or_writer.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


def parse_yaml(text: str, name: str) -> Any:
    """The content of YAML, or a UserError that calls the text `name`."""
    try:
        return yaml.load(text, Loader)
    except Exception as error:  # PyYAML lets through what its constructors meet: 2020-13-45
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise UserError(f"{name} is not valid YAML: {reason}") from None


def dump_yaml(content: Any) -> str:
    """YAML that `parse_yaml` reads back as `content`."""
    return yaml.dump(content, Dumper=Dumper, sort_keys=False)


def dump_inline(value: Any) -> str:
    """The same without line breaks between keys, to stand after a key: `{4: 128, 64: 32}`."""
    text = yaml.dump(
        [value], Dumper=Dumper, sort_keys=False, default_flow_style=True, width=math.inf
    )
    return text.strip()[1:-1]
