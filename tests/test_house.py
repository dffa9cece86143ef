"""The order of folders, their lists of files, and what loads no torch."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from progan.config.batch_rules import check_batches
from progan.config.load import load_config

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "progan"
# A folder imports only from those before it; folders joined by = import nothing from each other.
ORDER = (
    "runtime < config < model = data < runs < metrics = interop < "
    "analysis = outputs = training < doctor < cli"
)
FLOOR = {
    folder: height
    for height, floor in enumerate(ORDER.split(" < "))
    for folder in floor.split(" = ")
}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.name.startswith("__")
}
# Without torch, commands start at once, and workers that read images stay small.
WITHOUT_TORCH = [
    module
    for module in MODULES
    if module.startswith(("cli.", "config.", "data.")) and module != "data.stream"
] + [
    *("runs.folder", "runs.records", "runs.best", "runs.summary", "runs.which_snapshot"),
    *("model.grid", "training.request"),
    *("runtime.cache", "runtime.disk", "runtime.errors", "runtime.launch", "runtime.output"),
    *("runtime.paths", "runtime.progress", "runtime.randomness", "runtime.secrets"),
    *("runtime.stopping", "runtime.text"),
]


# The one exception: a method there calls upward (the file says why).
UPWARD = {"model.sharing": {"outputs.hub"}}


def imports(module: str) -> set[str]:
    """Modules of progan that one imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("progan"):
            package = node.module.removeprefix("progan").lstrip(".")
            names = {f"{package}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {name if name in MODULES else package for name in names}
    return (found & MODULES.keys()) - UPWARD.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_folders_import_only_downward(module):
    """Reference: the order above."""
    folder = module.partition(".")[0]
    assert folder in FLOOR, f"{folder}/ has no place in the order of folders"
    others = {name for name in imports(module) if name.partition(".")[0] != folder}
    upward = {name for name in others if FLOOR[name.partition(".")[0]] >= FLOOR[folder]}
    assert not upward, f"{module} imports {upward}"


@pytest.mark.parametrize(
    "script",
    sorted(
        file for folder in ("benchmarks", "docs", "samples") for file in ROOT.glob(f"{folder}/*.py")
    ),
    ids=lambda p: p.stem,
)
def test_scripts_import_what_exists(script):
    """Reference: Python's own import. Nothing else runs or checks scripts that take hours."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("progan"):
            exec(ast.unparse(node), {})


def test_no_files_import_each_other_in_a_circle():
    """Reference: a depth-first walk over all imports meets no file that it is in."""
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {way[way.index(module) :]}"
        if module not in done:
            for other in imports(module):
                walk(other, (*way, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()}))
def test_each_folder_lists_its_files(folder):
    """Reference: the folder on disk. Its docstring has a line for each file and folder in it."""
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    text = ast.get_docstring(tree, clean=False)
    there = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    there |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert set(re.findall(r"^ *(\S+)  +\S", text, re.MULTILINE)) == there


def test_contributing_lists_every_folder():
    """Reference: the tree on disk."""
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Folders")[1]
    names = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    names |= {"progan/", "configs/", "tests/", "samples/", "docs/", "examples/", "benchmarks/"}
    assert [name for name in sorted(names) if name not in tree] == []


def test_contributing_has_the_order_of_folders():
    """Reference: the order above."""
    assert ORDER in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_what_is_installed_comes_from_a_clone():
    """Reference: the extras of pyproject.toml. PyPI has no progan of ours: nothing may send people
    to that name there."""
    folders = ("progan", "configs", "docs", "examples", "benchmarks", "samples")
    files = [*ROOT.glob("*.md"), *(file for name in folders for file in (ROOT / name).rglob("*.*"))]
    files = [file for file in files if file.suffix in (".py", ".md", ".yaml", ".ipynb")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = set()
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"pip install ['\"]?progan", text), file
        named |= set(re.findall(r"(?:how_to_install\(['\"]|'\.\[)(\w+)", text))
    assert named <= {*project["optional-dependencies"]}


def test_readme_command_for_many_gpus_fits():
    """Reference: its own number of processes; every batch must divide over them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    words = shlex.split(next(line for line in text.splitlines() if line.startswith("torchrun")))
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "-o"]
    config = load_config(words[words.index("--config") + 1], overrides)
    check_batches(config.make_schedule(), int(words[2]), config.network.stddev_group)


def test_modules_that_load_no_torch():
    """Reference: a new interpreter's loaded modules, looked at after each import."""
    code = (
        "import importlib, sys\n"
        f"for name in {WITHOUT_TORCH}:\n"
        "    importlib.import_module('progan.' + name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} loads torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
