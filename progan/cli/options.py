"""Options that several commands share, and the types of their values."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from progan.config.resolutions import MAX_RESOLUTION, START_RESOLUTION, is_resolution
from progan.config.value_types import check_device
from progan.runs.folder import base_name
from progan.runs.which_snapshot import is_shipped, to_source
from progan.runtime.disk import can_be_replaced, replacing
from progan.runtime.errors import UserError
from progan.runtime.paths import check_new_folder, to_path


class PathOption(click.Path):
    """A path, as `to_path` has it: not empty, as an unset variable would mean this folder.

    Args:
        check: makes it of the text; `to_source` where a snapshot may be on the Hub.
    """

    def __init__(self, check: Callable[[str, str], Path] = to_path) -> None:
        super().__init__(path_type=Path)
        self.check = check

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return super().convert(self.check(value, ""), param, ctx)
        except UserError as error:
            self.fail(str(error).lstrip(" :"), param, ctx)  # click names the option


class CheckedOption(click.ParamType):
    """A value that a function checks.

    Args:
        name: what it is, in help.
        check: makes it of the text, or raises ValueError with what is allowed.
    """

    def __init__(self, name: str, check: Callable[[str], Any]) -> None:
        self.name = name
        self.check = check

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self.check(value)
        except ValueError as error:
            self.fail(f"'{value}' {error}", param, ctx)


def to_number(text: str) -> float:
    """A number above zero and below a million."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is not a number") from None
    if not 0 < number < 1e6:  # true for nan, too
        raise ValueError("must be more than 0 and less than a million")
    return number


def to_resolution(text: str) -> int:
    """A power of two from 4 to 1024."""
    if not re.fullmatch(r"\d{1,4}", text) or not is_resolution(int(text)):
        allowed = f"a power of two, {START_RESOLUTION}, 8, 16, … {MAX_RESOLUTION}"
        raise ValueError(f"is not a resolution; give {allowed}")
    return int(text)


def to_box(text: str) -> tuple[int, int, int]:
    """A square as X,Y,SIZE in pixels."""
    match = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6})", text.replace(" ", ""))
    if not match:
        raise ValueError("is not X,Y,SIZE in pixels, such as 25,57,128")
    x, y, size = map(int, match.groups())
    if size < START_RESOLUTION:
        raise ValueError(f"has a SIZE of {size}; give {START_RESOLUTION} pixels or more")
    return x, y, size


SNAPSHOT = PathOption(to_source)
OVERRIDES = click.option(
    "-o",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a setting, for example -o network.resolution=64; repeat for more. "
    "progan config lists all.",
)
CONFIG = click.option(
    "--config",
    "config_name",
    metavar="FILE|PRESET",
    help="A YAML file, or a preset's name.",
)
JSON = click.option(
    "--json",
    "json_file",
    type=PathOption(),
    metavar="FILE",
    help="Write all figures to FILE.",
)
DEVICE = click.option(
    "--device",
    type=CheckedOption("device", check_device),
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:1|mps|xpu",
    help="Device that computes; auto: a GPU if there is one.",
)


PICTURES = (".png", ".svg", ".pdf", ".jpg")


def check_picture(file: Path, option: str, endings: Sequence[str] = PICTURES) -> str:
    """`check_target` of a picture."""
    if file.suffix.lower() not in endings:
        one_of = "one of " if len(endings) > 1 else ""
        raise UserError(f"{option} {file} must end in {one_of}{', '.join(endings)}")
    return check_target(file, option)


def check_target(file: Path | None, option: str = "--json") -> str:
    """Checks that a file can be written, before minutes of work rather than after.

    Returns:
        Its name for the message once it is written, which says whether a file was replaced.

    Raises:
        UserError: it cannot.
    """
    if file is None:
        return ""
    if file.is_dir():
        raise UserError(f"{option} {file}: is a folder; give a file's name")
    if option != "--json" and file.exists() and not file.is_file():  # `write_json` takes them
        raise UserError(f"{option} {file}: is a pipe or a device; give a file's name")
    if file.exists() and (file.suffix in (".safetensors", ".pt") or file.name == "config.yaml"):
        raise UserError(
            f"{option} {file}: would replace a network, or settings of a run; give another name"
        )
    if not file.parent.is_dir():
        raise UserError(f"{option} {file}: there is no folder {file.parent}")
    written = [file] * file.exists() + [file.parent] * can_be_replaced(file)
    if not all(os.access(path, os.W_OK) for path in written):
        raise UserError(f"{option} {file}: no permission to write there")
    return f"{file}{replacing([file])}"


def default_out(what: str, source: Path, ending: str = "") -> Path:
    """Where a command writes its result unless it is told: `samples-of-faces`.

    Args:
        source: a run or a snapshot. The network that comes with progan has another name than a run
            called demo, so that neither result replaces the other.
    """
    name = "pretrained-demo" if is_shipped(source) else base_name(source.resolve())
    return Path(f"{what}-of-{name}{ending}")


def check_folder(folder: Path, option: str = "--out") -> None:
    """Checks that a folder is there or can be made, before minutes of work rather than after.

    Raises:
        UserError: it cannot.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"{option} {place} is a file; give a folder")
    check_new_folder(folder, option)
    if not os.access(place, os.W_OK):
        raise UserError(f"{option} {folder}: no permission to write there")


DATA = click.option(
    "--data",
    metavar="NAME|PATH",
    help="Data to compare with. [default: the data that the run was trained on]",
)


def say(line: str) -> None:
    click.echo(line, err=True)


MOST_SEEDS = 1_000_000


def parse_seeds(text: str) -> list[int]:
    """`"0-3,17"` -> [0, 1, 2, 3, 17]."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?", part.strip())
        first, last = match.groups() if match else ("1", "0")
        part_seeds = range(int(first), int(last or first) + 1)
        if not part_seeds:
            raise UserError(f"seeds are numbers and ranges like 0-63 or 1,5,8-11; got '{text}'")
        if len(seeds) + len(part_seeds) > MOST_SEEDS:
            raise UserError(f"--seeds {text} are more than {MOST_SEEDS:,}; ask for fewer at a time")
        seeds.extend(part_seeds)
    return seeds
