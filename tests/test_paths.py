"""Paths in options, settings, the environment and Python: `~`, empty ones, and any folder."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from progan.cli.main import main
from progan.cli.options import PathOption
from progan.config.config import Config, flatten
from progan.config.load import load_config
from progan.config.settings import PATHS
from progan.data.sources.find import data_folder
from progan.runtime.cache import cache_folder, default_cache
from progan.runtime.errors import UserError
from progan.runtime.paths import check_new_folder, to_path
from progan.training.request import new_run, old_run, with_absolute_paths

NAMES_AND_URLS_TOO = {"--data", "--config", "source"}  # of `data info` and `data prepare`


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_to_path(home):
    """Reference: what a shell makes of them; but nobody's home is refused, as no folder may be
    called so by mistake, and ./~ is this folder's ~ however often it is asked for."""
    assert to_path("~", "x") == home and to_path("~/a b", "x") == home / "a b"
    assert to_path("a/~", "x") == Path("a/~") and to_path(Path("a"), "x") == Path("a")
    once = to_path("./~", "x")
    assert once == to_path(once, "x") == home / "~"
    assert to_path("-x/y", "x") == home / "-x" / "y"  # a command can take it
    assert to_path("é" * 127, "x") == Path("é" * 127)
    for wrong, message in {
        "a/" + "é" * 128: r"--run-dir has a name of 256 bytes, 'é{20}…'; .* may take 255",
        "\ud800": r"--run-dir is '\\ud800'; give a path",
        "": "--run-dir is empty",
        "a\0b": r"--run-dir is 'a\\x00b'",
        "a\nError: b": r"--run-dir is 'a\\nError: b'; give a path without line breaks",
        "a\rb": r"--run-dir is 'a\\rb'; give a path without line breaks",
        "s3://me:SECRET@bucket/x": "--run-dir is s3://REDACTED@bucket/x; give a path",
        "file:///home/x": "give a path on this machine, as no URL",
        "~nosuchuser/x": "--run-dir: no such path: '~nosuchuser/x', as ~nosuchuser is no home",
    }.items():
        with pytest.raises(UserError, match=message):
            to_path(wrong, "--run-dir")


FILES = {
    ("sample", "demo"): "--out",
    ("project", "demo", "photo.png"): "--out",
    ("export", "demo", "--to", "torch"): "--out",
    ("push", "demo", "me/faces"): "--dry-run",
    ("train", "--data", "demo"): "--run-dir",
    ("data", "prepare", "demo"): "",
    ("import", "net.pkl"): "--checkpoint",
}


@pytest.mark.parametrize("words", FILES, ids=lambda words: words[0])
def test_no_folder_is_called_like_a_file(words, home):
    """Reference: the folder, which is not made. One that is there already may have any name."""
    Image.new("RGB", (32, 32)).save("photo.png")
    given = [*filter(None, [FILES[words]]), "new.pt"]
    result = CliRunner().invoke(main, [*words, *given], catch_exceptions=False)
    assert (
        result.exit_code == 2 and "new.pt: a folder is made here, not a .pt file" in result.output
    )
    assert [path.name for path in home.iterdir()] == ["photo.png"]
    check_new_folder(home / "v1.2", "--out")
    (home / "old.zip").mkdir()
    check_new_folder(home / "old.zip", "--out")


def parameters(command, words=()):
    """All options and arguments of a command and those below it, with their commands' names."""
    for parameter in command.params:
        yield words, parameter
    for name, below in getattr(command, "commands", {}).items():
        yield from parameters(below, (*words, name))


def test_every_option_that_is_a_path():
    """Reference: metavars. An option or argument that shows a file or folder has the one type."""
    shown = ("FILE", "DIR", "PATH", "FOLDER", "RUN", "DEST", "SOURCE")
    found = set()
    for words, parameter in parameters(main):
        metavar = parameter.make_metavar(click.Context(main))
        if any(word in metavar for word in shown) or isinstance(parameter.type, click.Path):
            found.add(parameter.opts[0])
            text_too = parameter.opts[0] in NAMES_AND_URLS_TOO
            assert isinstance(parameter.type, PathOption) or text_too, (words, parameter.opts)
    assert found >= {"--run-dir", "--resume", "--out", "--json", "--plot", "--sheet", "--root"}


def test_every_setting_that_is_a_path(home):
    """Reference: the same paths in full. Each setting that may be any text is a path or known."""
    texts = {
        f"{name}.{key}"
        for name, section in Config()
        for key, field in type(section).model_fields.items()
        if field.annotation == str | None
    }
    assert texts - {"run.tracker"} == set(PATHS)
    (home / "in home").mkdir()
    config = load_config(None, {key: "~/in home" for key in PATHS})
    kept = flatten(with_absolute_paths(config).model_dump())
    assert {kept[key] for key in PATHS} == {str(home / "in home")}
    config = load_config(None, {key: "in home" for key in PATHS})
    assert flatten(with_absolute_paths(config).model_dump()) == kept
    for key in PATHS:
        with pytest.raises(UserError, match=f"{key} is empty"):
            with_absolute_paths(load_config(None, {key: ""}))
        if key != "data.source":  # it would be kept as a path, with what is to be redacted
            with pytest.raises(UserError, match=f"{key} is https://REDACTED@host"):
                with_absolute_paths(load_config(None, {key: "https://me:SECRET@host/x"}))
    for source in ("celeba", "s3://bucket/{0..9}.tar"):  # no paths
        config = load_config(None, {"data.source": source})
        assert with_absolute_paths(config).data.source == source
    long = load_config(None, {"data.source": "{" + 90 * "abc," + "d}.tar"})
    assert len(with_absolute_paths(long).data.source or "") > 300
    pattern = load_config(None, {"data.source": "~/in home/*.tar"})
    assert with_absolute_paths(pattern).data.source == f"{home}/in home/*.tar"


def test_paths_of_the_environment_and_of_python(home, monkeypatch):
    """Reference: the same paths in full."""
    for name, folder, end in (
        ("PROGAN_CACHE", default_cache, ""),
        ("XDG_CACHE_HOME", default_cache, "progan"),
        ("PROGAN_DATA", lambda: data_folder(None), ""),
    ):
        monkeypatch.delenv("PROGAN_CACHE", raising=False)
        monkeypatch.setenv(name, "~/there")
        assert folder() == home / "there" / end
        monkeypatch.setenv(name, "~nosuchuser/there")
        with pytest.raises(UserError, match=rf"\${name}: no such path"):
            folder()
        monkeypatch.delenv(name)
    assert cache_folder(Path("~/mine")) == data_folder("~/mine") == home / "mine"
    (home / "mine.yaml").write_text("{run: {seed: 7}, network: {resolution: 64}}")
    assert load_config("~/mine.yaml").run.seed == 7
    (home / "photos").mkdir()
    assert new_run("~/photos", "~/mine.yaml", {}, "~/run")[1] == home / "run"
    for start in (lambda path: new_run("demo", None, {}, path), lambda path: old_run(path, {})):
        with pytest.raises(UserError, match="is empty; give a path"):
            start("")
