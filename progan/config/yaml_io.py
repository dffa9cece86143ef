"""Reads and writes YAML: safely, by the rules of YAML 1.2 (its core schema), and no key twice."""

import math
import re
from itertools import chain
from typing import Any

import yaml

from progan.runtime.errors import UserError

TAG = "tag:yaml.org,2002:"
MOST_VALUES = 100_000  # of a text; a config has about 100
# What a text without quotes is, and its possible first characters. PyYAML has 1.1's rules, by which
# 4:16 is 256, 010 is 8, `no` is false and 1e-3 a text. `<<` is not in the core schema.
CORE = [
    ("null", r"~|null|Null|NULL|", "~nN "),
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", "<<", "<"),
]


class Loader(yaml.SafeLoader):
    """Safe YAML by the core schema, and no key twice."""

    yaml_implicit_resolvers = {}

    def construct_document(self, node: yaml.Node) -> Any:
        """Refuses anchors (&) that stand for each other again and again, or for themselves."""
        if unfolded(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                None, None, f"it unfolds to more than {MOST_VALUES:,} values", node.start_mark
            )
        return super().construct_document(node)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merges the maps after `<<`, each key once: twice at n levels would be 2^n keys."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            value = self.construct_object(key)
            if value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is there twice", key.start_mark
                )
            seen.add(value)
        super().flatten_mapping(node)
        last = {k.value if isinstance(k, yaml.ScalarNode) else k: (k, v) for k, v in node.value}
        node.value = list(last.values())

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Refuses lengths that Python cannot print."""
        if len(node.value) > 1000:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of {len(node.value)} characters", node.start_mark
            )
        base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
        return int(node.value, base)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return float(re.sub(r"\.(?=[in])", "", node.value.lower()))  # float() says inf and nan


def unfolded(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for: what has an anchor counts at each of its places.

    Args:
        known: the numbers of nodes, by identity.

    Returns:
        Infinity if it holds itself.
    """
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = chain(*inner) if isinstance(node, yaml.MappingNode) else inner
        known[id(node)] = 1 + sum(unfolded(part, known) for part in parts)
    return known[id(node)]


class Dumper(yaml.SafeDumper):
    """Quotes strings that are something else by the core schema, or by YAML 1.1."""


for tag, pattern, first in CORE:
    regexp = re.compile(rf"(?:{pattern})\Z")
    Loader.add_implicit_resolver(TAG + tag, regexp, ["" if c == " " else c for c in first])
    Dumper.add_implicit_resolver(TAG + tag, regexp, ["" if c == " " else c for c in first])
Loader.add_constructor(f"{TAG}int", Loader.construct_yaml_int)
Loader.add_constructor(f"{TAG}float", Loader.construct_yaml_float)
Loader.add_constructor(f"{TAG}merge", lambda loader, node: node.value)  # where it is no key


def parse_yaml(text: str, name: str) -> Any:
    """The content of YAML, or a UserError that calls the text `name`."""
    try:
        return yaml.load(text, Loader)
    except Exception as error:  # PyYAML lets through what its constructors meet
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        if "could not find expected ':'" in reason:
            reason += "; put a space after each colon"
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
