"""The house keeps its shape: layers, the README's file tree, what starts without torch."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from progan.config.load import load_config
from progan.config.schedule import check_batches

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT / "progan").with_suffix("").parts): path
    for path in sorted((ROOT / "progan").rglob("*.py"))
    if not path.name.startswith("__")
}


def layers() -> dict[str, int]:
    """Module to layer, read from the table in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^(\d+) +([a-z_. ]+)$", text, re.MULTILINE)
    return {module: int(layer) for layer, names in rows for module in names.split()}


def imports(path: Path) -> set[str]:
    """Modules of progan that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("progan"):
            package = node.module.removeprefix("progan").lstrip(".")
            names = {f"{package}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {name if name in MODULES else package for name in names}
    return found & MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_from_below(module):
    """Reference: the table of layers in CONTRIBUTING.md, which lists every module."""
    layer = layers()
    assert module in layer, f"CONTRIBUTING.md's table of layers lacks {module}"
    upward = {name for name in imports(MODULES[module]) if layer[name] >= layer[module]}
    assert not upward, f"{module} (layer {layer[module]}) imports {upward}"


def test_readme_lists_every_file():
    """Reference: the tree on disk. Every module, preset and top-level folder has its line."""
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## The file tree")[1]
    names = [path.name for path in MODULES.values()]
    names += [path.name for path in (ROOT / "configs").iterdir()]
    names += ["progan/", "configs/", "tests/", "samples/", "pyproject.toml"]
    assert [name for name in names if name not in tree] == []


def test_readme_command_for_many_gpus_fits():
    """Reference: its own number of processes; every batch must divide over them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    words = shlex.split(next(line for line in text.splitlines() if line.startswith("torchrun")))
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "-o"]
    config = load_config(words[words.index("--config") + 1], overrides)
    check_batches(config.make_schedule(), int(words[2]), config.network.stddev_group)


@pytest.mark.parametrize("module", ["progan.cli.main", "progan.config.load", "progan.cli.phases"])
def test_starts_without_torch(module):
    """Reference: a new interpreter's loaded modules; torch alone would take seconds."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
