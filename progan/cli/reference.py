"""Explains all commands: docs/commands.md.

python -m progan.cli.reference > docs/commands.md
"""

import inspect
import re
from collections.abc import Iterator

import click

from progan.cli.main import main

INTRODUCTION = """\
# Commands

`progan train --help` and the like print the same. This page is made from the code by
`python -m progan.cli.reference`. What `-o section.key=value` can set is in
[settings.md](settings.md).

## Completion in the shell

Your shell can complete commands and options. Put one of these lines into the file in which the
shell begins:

- bash (4.4 or later), `~/.bashrc`: `eval "$(_PROGAN_COMPLETE=bash_source progan)"`
- zsh, `~/.zshrc`: `eval "$(_PROGAN_COMPLETE=zsh_source progan)"`
- fish, `~/.config/fish/config.fish`: `_PROGAN_COMPLETE=fish_source progan | source`
"""
WIDTH = 100  # of lines of usage


def leaves(
    group: click.Group, parent: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """All commands that are no groups, each with its context."""
    for name in sorted(group.commands):
        command = group.commands[name]
        context = click.Context(command, parent, name, max_content_width=WIDTH)
        if isinstance(command, click.Group):
            yield from leaves(command, context)
        else:
            yield command, context


def section(command: click.Command, context: click.Context) -> str:
    """One command: how it is used, what it does, its options."""
    parts = [f"## {context.command_path}", fenced(usage(command, context))]
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        lines = paragraph.strip("\n").splitlines()
        if lines[:1] == ["\b"]:  # click's mark for lines to be left as they are
            parts.append(fenced("\n".join(lines[1:])))
        else:
            parts.append("\n".join(map(escaped, lines)))
    options = [param for param in command.params if isinstance(param, click.Option)]
    records = filter(None, (option.get_help_record(context) for option in options))
    parts.append("\n".join(f"- `{name}`: {escaped(text)}" for name, text in records))
    return "\n\n".join(filter(None, parts)) + "\n"


def usage(command: click.Command, context: click.Context) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def escaped(text: str) -> str:
    """Plain text as Markdown: what would be emphasis, links or tags stays as it is."""
    return re.sub(r"([*_<>\[\]])", r"\\\1", text)


def markdown() -> str:
    """docs/commands.md."""
    top = click.Context(main, info_name="progan")
    return "\n".join([INTRODUCTION, *(section(*leaf) for leaf in leaves(main, top))])


if __name__ == "__main__":
    print(markdown(), end="")
