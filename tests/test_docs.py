"""What README, docs, presets and help texts tell people to type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from progan.cli.main import SETTINGS, main
from progan.cli.reference import markdown
from progan.config.config import Config
from progan.config.load import load_config, presets
from progan.config.value_types import fields_in

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "samples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
ENDS = {"&&", "||", "|", ";", ">", "2>", "&"}  # of a command in a line of shell
FOREIGN = {  # options of programs that are not ours
    *("--cpu", "--hard-dereference", "--help", "--logdir", "--max-restarts", "--nnodes"),
    *("--nproc_per_node", "--rdzv_backend", "--rdzv_endpoint", "--rdzv_id"),
    *("--samples_per_plugin", "--signals-to-handle", "--version"),
}


def commands(
    group: click.Group = main, name: str = "progan"
) -> Iterator[tuple[str, click.Command]]:
    """All commands and groups, with their full names."""
    yield name, group
    for part, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {part}")
        else:
            yield f"{name} {part}", command


def lines_of(shell: str) -> list[str]:
    return shell.replace("\\\n", " ").splitlines()


def blocks(page: Path) -> list[str]:
    """The blocks of shell in a page."""
    text = page.read_text(encoding="utf-8")
    return [body for kind, body in FENCED.findall(text) if kind in ("", "sh", "bash")]


def mentioned() -> Iterator[tuple[str, str]]:
    """Where, and a line that may hold a command of progan."""
    for page in PAGES:
        for block in blocks(page):
            yield from ((page.name, line) for line in lines_of(block))
        rest = FENCED.sub("", page.read_text(encoding="utf-8"))
        yield from ((page.name, code.replace("\n", " ")) for code in re.findall(r"`([^`]+)`", rest))
    for file in (*(ROOT / "configs").glob("*.yaml"), *(ROOT / "examples").glob("*.*")):
        text = re.sub(r"\$\{.*?\}", "", file.read_text(encoding="utf-8"))
        for line in lines_of(re.sub(r"\$\w+", "1", text)):
            if start := re.search(r"(?:-m |^[# ]*|command +|: |`)(?=progan )", line):
                yield file.name, line[start.end() :]
    for name, command in commands():
        yield from ((name, line) for line in lines_of(command.help or ""))


def parts(line: str) -> list[list[str]]:
    """The arguments of each `progan` that a line starts, without comments and placeholders."""
    line = re.split(r"\s#|(?<=\S)\s{2,}(?=[(a-z])|\s\(|`", line.strip())[0]
    try:
        words = shlex.split(line)
    except ValueError:  # an apostrophe: prose
        return []
    found: list[list[str]] = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else "&&"
        if word == "progan" and before in {*ENDS, "$", "-m", "nohup", "srun"}:
            end = [i for i, other in enumerate(words) if other in ENDS and i > place]
            found.append(words[place + 1 : min(end, default=len(words))])
    return found


TOLD = sorted({(where, *words) for where, line in mentioned() for words in parts(line)})


def parse(words: list[str]) -> click.Context | None:
    """What click makes of a command that is not started; None without a command."""
    words = shlex.split(shlex.join(words).replace("-o '…'", "-o run.seed=1"))
    words = [word for word in words if word != "…"]
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    try:
        # With the settings of all commands: click keeps the help option that it makes first.
        return command.make_context(command.name, words, **SETTINGS)
    except (click.exceptions.Exit, click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        return None  # --help; a sentence that names a command without what it needs


@pytest.mark.parametrize("told", TOLD, ids=" ".join)
def test_commands_that_people_are_told(told):
    """Reference: click's own parsing, and the presets and settings that there are."""
    context = parse(list(told[1:]))
    if context and "overrides" in context.params:
        name = context.params.get("config_name")
        assert not name or name in presets() or Path(name).suffix == ".yaml"
        given = [part for part in context.params["overrides"] if "…" not in part]
        load_config(name if name in presets() else None, given)


def test_commands_page():
    """Reference: docs/commands.md, which `python -m progan.cli.reference` makes."""
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell, monkeypatch, capsysbinary):
    """Reference: click's own script for each shell, and one word completed."""
    monkeypatch.setenv("COMP_WORDS", "progan sam")
    monkeypatch.setenv("COMP_CWORD", "sam" if shell == "fish" else "1")
    for instruction, expected in (("source", b"complete"), ("complete", b"sample")):
        monkeypatch.setenv("_PROGAN_COMPLETE", f"{shell}_{instruction}")
        with pytest.raises(SystemExit) as ended:
            main.main([], prog_name="progan")
        assert ended.value.code in (0, None) and expected in capsysbinary.readouterr().out


def test_there_are_commands():
    """Reference: the commands themselves. Each is told somewhere, and the search finds it."""
    leaves = {name for name, command in commands() if not isinstance(command, click.Group)}
    told = {" ".join(("progan", *words[1:3])) for words in TOLD}
    told |= {" ".join(("progan", *words[1:2])) for words in TOLD}
    assert leaves <= told and len(TOLD) > 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_settings_and_files_that_pages_name(page):
    """Reference: the options of all commands and benchmarks, all settings, the files on disk."""
    text = page.read_text(encoding="utf-8")
    ours = {option for _, command in commands() for p in command.params for option in p.opts}
    scripts = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
    ours |= {o for file in scripts for o in re.findall(r"\"(--[a-z-]+)\"", file.read_text("utf-8"))}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+\b", " ".join(re.findall(r"`[^`]+`", text))))
    assert named - ours - FOREIGN == set()
    sections = "|".join(Config.model_fields)
    settings = set(re.findall(rf"`(?:-o '?)?((?:{sections})\.[a-z_]+)(?=[`=.])", text))
    known = {key for key, _, _ in fields_in(Config, "")}
    known |= {key.rpartition(".")[0] for key in known}
    assert settings - known == {"data.mdb"} & settings  # a file of LSUN
    files = set(re.findall(r"(?:python|bash) ((?:benchmarks|examples|tests|docs)/[\w./]+)", text))
    assert [file for file in sorted(files) if not (ROOT / file).exists()] == []
