"""Models on the Hugging Face Hub: from there, onto it, and in folders of its layout."""

import json
from pathlib import Path

import click
import pytest
import torch
import yaml
from click.testing import CliRunner
from conftest import assert_identical
from fake_hub import fake_hub
from huggingface_hub import constants
from test_videos import make_run

import progan
from progan.cli.main import main
from progan.cli.options import SNAPSHOT
from progan.model.networks import Generator
from progan.outputs.explorer import moments_of
from progan.outputs.hub import model_of
from progan.runs.records import record
from progan.runs.snapshot_file import load_snapshot, metadata_of, save_snapshot, write_tensors
from progan.runs.which_snapshot import MODEL
from progan.runtime.errors import UserError


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with fake_hub(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture
def snapshot(tmp_path):
    """The newest of a small run."""
    run_dir, _ = make_run(tmp_path)
    return progan.load(run_dir)


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_to_the_hub_and_back(hub, snapshot, here, monkeypatch):
    """Reference: the run's own snapshot. A second push leaves a card that people may have written
    in, one from a folder replaces it, and nothing but the snapshot is fetched."""
    run_dir = snapshot.file.parent.parent
    result = run("push", run_dir, "user/faces", "--private")
    assert result.exit_code == 0 and "hf_secret" not in result.output, result.output
    assert "uploading to hf://user/faces: model.safetensors" in result.output
    assert hub.private == {"user/faces"}
    files = hub.models["user/faces"]
    assert files[MODEL] == snapshot.file.read_bytes()
    assert json.loads(files["config.json"])["generator"]["z_dim"] == snapshot.G.z_dim
    files["README.md"] = b"filled in"
    again = run("push", run_dir, "user/faces")
    assert "its own README.md is left as it is" in again.output
    assert "config.json, samples.webp replaced; the history keeps the old" in again.output
    assert files["README.md"] == b"filled in"
    result = run("sample", "hf://user/faces", "--seeds", "0", "--out", "0.png")
    assert result.exit_code == 0, result.output
    assert run("export", "hf://user/faces", "--to", "torch", "--out", "alone").exit_code == 0
    G = progan.Generator.from_pretrained("user/faces")
    z = torch.randn(2, G.z_dim)
    c = torch.eye(G.c_dim)[[0, 1]] if G.c_dim else None
    assert torch.equal(G(z, c), snapshot.generator(z, c))
    assert {name.partition("/")[2].partition("/")[2] for name in hub.asked} == {MODEL}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert progan.load("hf://user/faces").sha256 == snapshot.sha256
    with pytest.raises(UserError, match="the Hub cannot be reached for hf://user/other"):
        progan.load("hf://user/other")


def test_a_folder_in_the_layout_of_the_hub(hub, snapshot, here):
    """Reference: the snapshot. What was filled in is kept, and pushed."""
    result = run("push", snapshot.file, "user/faces", "--dry-run", "faces")
    assert result.exit_code == 0 and "places in README.md are marked" in result.output
    assert result.output.endswith("when it is filled in: progan push faces user/faces\n")
    assert not hub.asked and not hub.models
    assert sorted(file.name for file in Path("faces").iterdir()) == [
        *("README.md", "config.json", MODEL, "samples.webp"),
    ]
    assert progan.load("faces").sha256 == snapshot.sha256
    assert moments_of(Path("faces")) == ([Path("faces") / MODEL], 0)
    assert run("push", "faces", "user/faces", "--dry-run", "faces").exit_code == 2
    Path("faces/README.md").write_text("filled in")
    hub.models["user/faces"] = {"README.md": b"old"}
    assert run("push", "faces", "user/faces").exit_code == 0
    assert hub.models["user/faces"]["README.md"] == b"filled in"
    Path("faces/README.md").unlink()
    Path("faces/README.md").symlink_to("/etc/passwd")
    assert run("push", "faces", "user/faces").exit_code == 2


def test_a_snapshot_of_an_older_version_goes_without_paths(snapshot, tmp_path):
    """Reference: the path, in no file of the model; the weights and the snapshot's own checksum.
    The snapshot in the run stays as it is, and the card tells what the run has recorded."""
    record(snapshot.file.parent.parent, snapshot.nimg, {"swd16k": 7.25})
    config = snapshot.config.with_places({"data.source": "/home/me/photos", "data.cache": "/me"})
    metadata = metadata_of(snapshot) | {"config": config.to_yaml()}
    write_tensors(snapshot.file, snapshot.G.state_dict(), metadata)
    before = snapshot.file.read_bytes()
    assert b"/home/me" in before
    made = model_of(load_snapshot(snapshot.file), "user/faces")
    assert not [name for name, content in made.files.items() if b"/me" in content]
    (tmp_path / "x.safetensors").write_bytes(made.files[MODEL])
    read, card = load_snapshot(tmp_path / "x.safetensors"), made.files["README.md"].decode()
    assert read.sha256 in card and "7.25 at" in card and snapshot.file.read_bytes() == before
    assert_identical(read.G.state_dict(), snapshot.G.state_dict())


@pytest.mark.parametrize("licence, known", [("CC BY-NC 4.0", "cc-by-nc-4.0"), ("a: b\n", "other")])
def test_the_licence_of_the_weights_is_in_the_card(snapshot, tmp_path, licence, known):
    """Reference: YAML's own reader; the Hub's names of licences."""
    object.__setattr__(snapshot, "file", tmp_path / "imported.safetensors")
    object.__setattr__(snapshot, "licence", licence)
    object.__setattr__(snapshot, "nimg", 0)  # as an import is
    save_snapshot(snapshot)
    read = load_snapshot(snapshot.file)
    assert read.licence == licence
    card = bytes(model_of(read, "user/faces").files["README.md"]).decode()
    assert yaml.safe_load(card.split("---")[1])["license"] == known
    assert "imported by progan" in card and "None are known" in card and "## Training" not in card


@pytest.mark.parametrize(
    "name, told",
    [
        ("user/none", "no such model: hf://user/none; if it is private, log in"),
        ("user/gated", "gated"),
        ("user/empty", "has no model.safetensors"),
        ("user/huge", "is to have 10 GB"),
        ("user/faces@v2", "no branch, tag or commit v2"),
        ("user/damaged", "is not a snapshot of progan"),
        ("", "the name of the model is empty; give hf://USER/MODEL"),
        ("user", "is no model; give hf://USER/MODEL"),
        ("user/faces/x", "is no model; give hf://USER/MODEL"),
        ("user/faces@../../x", "is no model; give hf://USER/MODEL"),
    ],
)
def test_what_cannot_be_had(hub, name, told):
    """Reference: the Hub's own codes of errors."""
    hub.models = {"user/huge": {MODEL: b""}, "user/faces": {}, "user/damaged": {MODEL: b"no"}}
    result = run("sample", f"hf://{name}")
    assert result.exit_code == 2 and told in result.output, result.output


def test_each_command_that_takes_a_snapshot_takes_one_of_the_hub():
    """Reference: the word for it in the commands' own help."""
    context = click.Context(main)
    commands = [main.get_command(context, name) for name in main.list_commands(context)]
    taken = {
        command.name: parameter.type
        for command in commands
        for parameter in command.params
        if str(parameter.metavar).startswith("RUN|SNAPSHOT")
    }
    assert {"sample", "export", "push", "project"} <= taken.keys()
    assert [name for name, kind in taken.items() if kind is not SNAPSHOT] == []


def test_a_user_without_a_home(monkeypatch):
    """Reference: pathlib's own error, where neither $HOME nor the system knows a home."""
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: Path("~").expanduser())
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(UserError, match=r"no home folder .* set \$HF_HOME"):
        progan.load("hf://user/faces")


def test_the_address_of_a_page():
    """Reference: what to write instead."""
    with pytest.raises(UserError, match="give hf://user/faces$"):
        progan.load("https://huggingface.co/user/faces/tree/main")


def test_what_cannot_be_pushed(hub, snapshot, here, monkeypatch):
    """Reference: the sentence for each."""
    hub.models = {"user/public": {}, "other/faces": {}}
    for told, *words in (
        ("public, so --private can hide nothing", "user/public", "--private"),
        ("the Hub refuses this", "other/faces"),
        ("faces is no name of a model on the Hub; give USER/MODEL", "faces"),
        ("without @REVISION", "user/faces@v2"),
        ("nothing for --private to hide", "user/faces", "--private", "--dry-run", "faces"),
    ):
        result = run("push", snapshot.file, *words)
        assert result.exit_code == 2 and told in result.output, result.output
    monkeypatch.delenv("HF_TOKEN")
    result = run("push", snapshot.file, "user/new")
    assert (
        result.exit_code == 2 and "not logged in to the Hub; log in: hf auth login" in result.output
    )
    assert set(hub.models) == {"user/public", "other/faces"}


def test_there_is_one_class_of_generators(hub, snapshot):
    """Reference: isinstance, and the snapshot's own images. Without a resolution a generator that
    was read makes images at what has been reached; a new one at its largest."""
    made = (progan.load("demo").G, snapshot.G, progan.Generator.from_pretrained(snapshot.file))
    assert [type(G) for G in made] == [progan.Generator] * 3
    object.__setattr__(snapshot, "alpha", 0.25)
    save_snapshot(snapshot)
    z = torch.randn(2, snapshot.G.z_dim)
    c = torch.eye(snapshot.G.c_dim)[[0, 1]] if snapshot.G.c_dim else None
    G = progan.load(snapshot.file).G
    assert torch.equal(G(z, c), snapshot.generator(z, c))
    new = progan.Generator(8, z_dim=8, channel_base=64, channel_max=8)
    assert new(torch.randn(1, 8)).shape == (1, 3, 8, 8)
    hub.models = {"user/mine": {}}
    assert "hf.co" in G.push_to_hub("user/mine") or "user/mine" in hub.models
    assert hub.models["user/mine"][MODEL] == snapshot.file.read_bytes()


def test_generators_that_no_file_describes(snapshot):
    """Reference: the weights in the file."""
    with pytest.raises(UserError, match="comes from no snapshot"):
        Generator(8, z_dim=8, channel_base=64, channel_max=8).push_to_hub("user/faces")
    G = Generator.from_pretrained(snapshot.file)
    assert G.file == snapshot.file and all(weight.requires_grad for weight in G.parameters())
    with torch.no_grad():
        next(G.parameters()).add_(1)
    with pytest.raises(UserError, match="the weights have changed"):
        G.push_to_hub("user/faces")
