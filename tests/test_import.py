"""progan import: kinds recognized, files written, hostile and damaged files refused."""

import hashlib
import io
import pickle
import re
import resource
import tracemalloc
import zipfile

import numpy as np
import official
import pytest
import torch
from click.testing import CliRunner
from conftest import assert_identical
from safetensors.torch import save
from test_foreign import mmgen_file, named, version_2, version_3, zoo

from progan.cli.main import main
from progan.interop.imported import Imported
from progan.interop.importing import labels_of, read_file
from progan.runs.folder import read_config
from progan.runs.init_file import read_other
from progan.runs.snapshot_file import load_snapshot
from progan.runtime.errors import UserError
from progan.training.build import make_networks
from progan.training.transfer import Transfer

SMALL = official.OPTIONS | {"resolution": 8, "fmap_base": 16, "fmap_max": 3}
CODE = b"cos\nmkdir\n(Vwas-run\ntR0"  # in a pickle; pickle.load would make a folder


def tf_file(older: bool = False, lod: float = 0.5, **options: object) -> bytes:
    """A file with (G, D, Gs)."""
    settings = SMALL | options | ({"fused_scale": False, "mbstd_group_size": 16} if older else {})
    write = official.older_state if older else official.state
    states = [write(r, settings, official.drawn(r, settings, lod, i)) for i, r in enumerate("GDG")]
    return official.pickled(
        *states, module="network" if older else "tfutil", protocol=2 if older else 4
    )


def torch_file(content: object, zipped: bool) -> bytes:
    """A file by `torch.save`; the format before torch 1.6 has no checksums."""
    file = io.BytesIO()
    with named("models.utils.config"):
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


LAYOUTS = {
    "tf": (100, tf_file),
    "tf, older": (100, lambda: tf_file(older=True)),
    "zoo": (100, lambda: torch_file(zoo(), zipped=False)),
    "progan-pth": (80, lambda: torch_file(version_3(), zipped=False)),
    "mmgen": (80, lambda: torch_file(mmgen_file(), zipped=False)),
    "zip": (40, lambda: torch_file(version_3(), zipped=True)),
}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes of a file: bytes, parts, lengths, its end, and code put in."""
    it = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, n = int(rng.integers(len(it) or 1)), int(rng.integers(1, 9))
        match rng.integers(7):
            case 0:
                it[at : at + n] = rng.bytes(n)
            case 1:
                it[at : at + 1] = bytes([int(rng.integers(256))])
            case 2:
                del it[at : at + n]
            case 3:
                it[at:at] = it[at : at + 10 * n] * n
            case 4:
                it[at:at] = b"\xff" * n
            case 5:
                it[at:at] = CODE
            case _:
                del it[at:]
    return bytes(it)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files_are_refused_or_read(layout, tmp_path, monkeypatch):
    """Reference: 500 files with random damage. Each is a mistake in words or is read whole; no code
    runs, and little memory is taken."""
    monkeypatch.chdir(tmp_path)
    count, make = LAYOUTS[layout]
    content, rng, file, read = make(), np.random.default_rng(1), tmp_path / "file", 0
    file.write_bytes(content)
    read_file(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        file.write_bytes(damaged(content, rng))
        try:
            read_file(file)
            read += 1
        except UserError as error:
            assert len(str(error)) < 5000
    assert read < 0.8 * count, "most of the damage is to be seen"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert [*tmp_path.iterdir()] == [file]


def invoke(*words: object) -> str:
    """What a command prints; it must succeed."""
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.output


def test_an_import_is_a_snapshot_that_knows_its_licence(tmp_path):
    """Reference: the official equations (`official.images`) of the file's average, lod 0.5."""
    file, out = tmp_path / "net.pkl", tmp_path / "net.safetensors"
    file.write_bytes(tf_file())
    text = invoke("import", file, "--out", out)
    assert (
        "tf: of the official code, trained up to 8x8, 50 % faded in; it can grow to 8x8" in text
        and "CC-BY-NC-4.0" in text
    )
    snapshot = load_snapshot(out)
    assert snapshot.origin
    assert snapshot.licence == snapshot.origin.licence == "CC-BY-NC-4.0"
    assert (snapshot.origin.name, snapshot.nimg, snapshot.alpha) == ("net.pkl", 0, 0.5)
    z = np.random.default_rng(0).standard_normal((4, 5))
    wanted = official.images(SMALL, official.drawn("G", SMALL, 0.5, 2), z, np.zeros((4, 0)))
    images = snapshot.generator(torch.tensor(z, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(images, wanted, atol=1e-4 * np.ptp(wanted))
    assert snapshot.sample(range(2)).shape == (2, 8, 8, 3)


def test_examples_of_attributes_have_a_value_of_each():
    """Reference: all pairs by hand."""
    names = ("hair=long", "hair=short", "hair=none", "hat=yes", "hat=no")
    labels = labels_of(Imported("zoo", {}, 4, None, {}, names, "attributes"))
    assert labels and labels.values.tolist() == [[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 1, 0]]


def test_an_imported_run_begins_with_its_networks(tmp_path):
    """Reference: the weights that are read from the file, and its own name and digest, not those of
    the files made of it. Optimizers have nothing to take."""
    (tmp_path / "net.pkl").write_bytes(tf_file(label_size=2))
    out = tmp_path / "net.safetensors"
    text = invoke("import", tmp_path / "net.pkl", "--checkpoint", tmp_path / "run", "--out", out)
    command = f"progan train --resume {tmp_path / 'run'} -o data.source=PATH"
    assert command in text
    config = read_config(tmp_path / "run", ["data.source=demo"])
    assert config.start_resolution == 8 and config.data.labels and config.network.stddev_group == 4
    G, D = make_networks(config, 2, "cpu")
    G_ema = make_networks(config, 2, "cpu")[0]
    transfer = Transfer(config, G, D, [G_ema])
    transfer.begin(tmp_path / "run")
    there = read_file(tmp_path / "net.pkl").weights
    for name, network in (("G", G), ("D", D), ("G_ema", G_ema)):
        assert_identical({**there[name]}, network.state_dict())
    origin = load_snapshot(tmp_path / "net.safetensors").origin
    assert origin and origin.licence == "CC-BY-NC-4.0" and origin.name == "net.pkl"
    assert origin.sha256 == hashlib.sha256((tmp_path / "net.pkl").read_bytes()).hexdigest()
    assert transfer.origin == origin == read_other(tmp_path / "net.safetensors").origin


def test_an_older_import_keeps_its_licence(tmp_path):
    """Reference: what `progan import --checkpoint` wrote before it recorded the origin."""
    (tmp_path / "net.pkl").write_bytes(tf_file())
    invoke("import", tmp_path / "net.pkl", "--checkpoint", tmp_path / "run")
    file = tmp_path / "run" / "imported.pt"
    state = torch.load(file)
    del state["origin"]
    torch.save(state | {"licence": "CC-BY-NC-4.0"}, file)
    origin = read_other(file).origin
    assert origin.licence == "CC-BY-NC-4.0" and origin.name == "imported.pt"


def test_an_imported_run_is_listed_before_it_begins(tmp_path):
    """Reference: the commands that begin it, as `progan import` prints them."""
    (tmp_path / "net.pkl").write_bytes(tf_file())
    made = tmp_path / "runs" / "made"
    invoke("import", tmp_path / "net.pkl", "--checkpoint", made)
    begin = f"To begin: progan train --resume {made} -o data.source=PATH"
    listed = invoke("runs", tmp_path / "runs")
    assert listed.splitlines()[1].split()[:3] == ["made", "new", "0.0"]
    assert f"{made} is new: nothing has been trained there yet. {begin}" in listed
    page = invoke("show", made)
    assert page.startswith(f"{made} is new") and page.endswith(f"{begin}\n")
    assert "none yet" in page and "None" not in page


def zip_of(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


def test_networks_within_a_dictionary(tmp_path):
    """Reference: the same networks alone. Of two that may be meant none is chosen."""
    file = tmp_path / "file"
    file.write_bytes(torch_file({"model": version_2(), "epoch": 3}, zipped=True))
    it = read_file(file)
    assert it.notes[0] == "It is read from model in the file."
    file.write_bytes(torch_file(version_2(), zipped=True))
    assert_identical(it.weights["G_ema"], read_file(file).weights["G_ema"])
    file.write_bytes(torch_file({"g": version_2(), "ema": version_2()}, zipped=True))
    with pytest.raises(UserError, match="no ProGAN that progan knows, but ema, g; progan imports"):
        read_file(file)


@pytest.mark.parametrize("operation", [b"\x8e", b"\x8d"], ids=["bytes", "text"])
@pytest.mark.parametrize(
    "size, words", [(6 * 10**9, "has 6.0 GB; progan reads"), (10**9, "pickle")]
)
def test_large_claims_take_no_memory(operation, size, words, tmp_path):
    """Reference: a sparse file, whose first operation claims 4 GiB, or 900 MB."""
    claimed = min(2**32, size - 10**8)
    with open(tmp_path / "file", "wb") as file:
        file.write(b"\x80\x04" + operation + claimed.to_bytes(8, "little"))
        file.truncate(size)
    tracemalloc.start()
    with pytest.raises(UserError, match=words):
        read_file(tmp_path / "file")
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


WRONG = {
    "empty": (b"", "is empty"),
    "cut off": (tf_file()[:5000], r"\(it is no pickle, or a damaged one\); is the download whole"),
    "cut off in a name": (tf_file()[:20], "it is no pickle, or a damaged one"),
    "a web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "a text": (b"hello, this is no weight file", "cannot be read .* reads ProGANs of the official"),
    "a text of several lines": (b"network:\n  resolution: 8\n", 'it is a text: "network:"'),
    "a server's answer": (b"Entry not found", 'it is a text: "Entry not found"'),
    "other bytes": (b"GGUF\x03\0\0", "it is no pickle, or a damaged one"),
    "ONNX": (
        b"\x08\x0a\x12\x07pytorch",
        "is a graph, such as ONNX's, .* weights that training wrote",
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    "NumPy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "is an array of NumPy"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "PNG": (b"\x89PNG\r\n\x1a\n", "is an image"),
    "xz": (b"\xfd7zXZ\x00", "unpack it first"),
    "gzip": (b"\x1f\x8b\x08\x00", "unpack it first"),
    "a zip of something": (zip_of("a.npy"), r"did not write \(a.npy\); if a file in it"),
    "TorchScript": (zip_of("a/data.pkl", "a/constants.pkl"), "a zip that torch.save did not write"),
    "a web page with a mark": (b"\xef\xbb\xbf<html>", "web page"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "unpack it first"),
    "a safetensors file": (save({"a": torch.zeros(1)}), "which none of these projects writes"),
    "a module": (b"ctorch.nn.modules.linear\nLinear\n.", r"torch.save\(module.state_dict\(\)"),
    "complex numbers": (b"ctorch\nComplexFloatStorage\n.", "of another type than weights"),
    "other data": (pickle.dumps({"a": [1, 2]}), "no ProGAN that progan knows, but a; progan"),
    "a list": (pickle.dumps([1, 2]), "holds no ProGAN that progan knows; it imports"),
    "code": (b"\x80\x02" + CODE + b"N.", r"names os\.mkdir"),
    "StyleGAN2": (b"cdnnlib.tflib.network\nNetwork\n.", "this is a StyleGAN2 network"),
    "StyleGAN2 in PyTorch": (b"ctorch_utils.persistence\n_reconstruct\n.", "StyleGAN2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_network_is_said(case, tmp_path):
    """Reference: what each file is. Nothing is said in words of Python's own."""
    content, words = WRONG[case]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=words) as said:
        read_file(tmp_path / "file")
    assert not re.search("opcode|stream|bytes in|unpack \\(|NoneType|object", str(said.value))
