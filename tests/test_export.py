"""Exports: each is opened by what it is for, and draws the images of `Snapshot`."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import official
import pytest
import torch
from browser import CHROMIUM, needs_chromium
from click.testing import CliRunner

from progan.cli.main import main
from progan.config.load import load_config
from progan.data.labels import Labels
from progan.interop.exporting import export
from progan.model.networks import Generator
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load_snapshot, save_snapshot
from progan.runtime.disk import DiskError
from progan.runtime.errors import UserError

SMALL = ["network.resolution=16", "network.z_dim=8", "network.channel_base=64"]
SMALL += ["network.channel_max=8"]
OTHER = (
    "network.conventions={widths: {4: 6, 8: 5}, start_bias: position, start_norm: false, "
    "norm: rms, label_norm: false, output: tanh}"
)
ATTRIBUTES = Labels(("Smiling", "Male"), np.array([[0, 1], [1, 1]], np.uint8))
UNFUSED = ("network.fused_scale=false", "network.channels=1")
# By name: settings, resolution reached, alpha, labels.
NETWORKS = {
    "growing": ((), 8, None, None),
    "paper": (("network.channel_max=6",), 16, 0.3, Labels.each_class(("cats", "dogs", "owls"))),
    "ablation": ((*UNFUSED, "network.equalized=false", "network.pixel_norm=false"), 4, None, None),
    "imported": ((*UNFUSED, OTHER), 16, 0.7, ATTRIBUTES),
}
# Runs where progan cannot be imported: opens what was exported and keeps what it draws.
ALONE = """
import json, runpy, sys, numpy as np, torch
sys.modules["progan"] = None
for name in sys.argv[1:]:
    inputs = [torch.from_numpy(x) for x in np.load(f"{name}-inputs.npz").values()]
    if name in ("paper", "imported"):
        extra = {"progan.json": ""}
        graph = torch.export.load(f"{name}.pt2", extra_files=extra).module()
        np.save(f"{name}-graph", np.concatenate([graph(*(x[k:k + 3] for x in inputs)).numpy()
            for k in (0, 3, 6)]))
        assert json.loads(extra["progan.json"])["resolution"] == 16
    script = runpy.run_path(f"{name}/generator.py")
    labels = [x.nonzero().flatten().tolist() for x in inputs[1]] if len(inputs) > 1 else [[]] * 8
    np.save(f"{name}-drawn", np.stack([script["draw"](k, labels[k]) for k in range(8)]))
sys.argv = ["generator.py", "2:1"]
runpy.run_path("paper/generator.py", run_name="__main__")
"""


def make_snapshot(file: Path, name: str) -> Snapshot:
    """Random weights, and biases that are not zero."""
    settings, resolution, alpha, labels = NETWORKS[name]
    config = load_config(None, [*SMALL, *settings])
    torch.manual_seed(0)
    c_dim = len(labels.names) if labels else 0
    G = Generator(**config.network.generator_settings(), c_dim=c_dim)
    for weight in G.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    save_snapshot(Snapshot(file, G, config, 12500, resolution, alpha, labels))
    return load_snapshot(file)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory) -> dict[str, Snapshot]:
    folder = tmp_path_factory.mktemp("snapshots")
    return {name: make_snapshot(folder / f"{name}.safetensors", name) for name in NETWORKS}


def inputs_of(snapshot: Snapshot) -> list[torch.Tensor]:
    """Eight latents, and labels as rows of 0 and 1."""
    labels = snapshot.labels_of(range(8), None)
    z = torch.randn(8, snapshot.G.z_dim, generator=torch.Generator().manual_seed(1))
    if labels is None:
        return [z]
    rows = np.eye(snapshot.G.c_dim)[labels] if labels.ndim == 1 else labels
    return [z, torch.from_numpy(rows.astype(np.float32))]


def check_levels(drawn: np.ndarray, images: torch.Tensor) -> None:
    """uint8 [N, r, r, C] of images; one that lies between two levels may be rounded to either."""
    exact = images.mul(127.5).add(127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert drawn.dtype == np.uint8 and drawn.shape == exact.shape
    assert np.abs(drawn - exact).max() < 0.5 + 1e-3


@pytest.mark.skipif(not find_spec("onnxruntime"), reason="needs ONNX Runtime")
@pytest.mark.parametrize(("name", "dtype"), [("paper", "float32"), ("imported", "uint8")])
def test_onnx(snapshots, tmp_path, name, dtype):
    """Reference: the snapshot's own generator, in batches of 1, 3 and 8."""
    import onnxruntime

    snapshot, out = snapshots[name], tmp_path / "x.onnx"
    export(snapshot, "onnx", out, dtype)
    session = onnxruntime.InferenceSession(out)
    values = inputs_of(snapshot)
    assert [i.name for i in session.get_inputs()] == ["latents", "labels"]
    assert [(i.name, i.type) for i in session.get_outputs()] == [
        ("images", {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[dtype])
    ]
    for count in (1, 3, 8):
        given = [x[:count] for x in values]
        feed = {"latents": given[0].numpy(), "labels": given[1].numpy()}
        (images,) = session.run(None, feed)
        expected = snapshot.generator(*given)
        if dtype == "uint8":
            check_levels(images, expected)
        else:
            np.testing.assert_allclose(images, expected.numpy(), rtol=0, atol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["snapshot_sha256"] == snapshot.sha256 and facts["made_by"].startswith("progan ")
    assert json.loads(facts["labels"]) == [*snapshot.labels.names]
    assert [*tmp_path.iterdir()] == [out]
    assert str(Path(__file__).parent.parent).encode() not in out.read_bytes()


IN_A_PAGE = """async ([latents, labels]) => {
    const ort = await import("/ort.wasm.min.mjs");
    ort.env.wasm.wasmPaths = "/";
    ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create("/x.onnx");
    const tensor = (rows) => new ort.Tensor("float32", rows.flat(), [rows.length, rows[0].length]);
    const { images } = await session.run({ latents: tensor(latents), labels: tensor(labels) });
    return [images.type, images.dims, Array.from(images.data)];
}"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.skipif("PROGAN_ORT_WEB" not in os.environ, reason="needs onnxruntime-web")
def test_onnx_in_a_browser(snapshots, tmp_path):
    """Reference: the snapshot's own generator. The same file in onnxruntime-web, whose folder dist
    `$PROGAN_ORT_WEB` names: npm install --ignore-scripts onnxruntime-web, 140 MB."""
    playwright = pytest.importorskip("playwright.sync_api")
    snapshot = snapshots["imported"]
    export(snapshot, "onnx", tmp_path / "x.onnx")
    values = inputs_of(snapshot)
    types = {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def answer(route):
        name = Path(route.request.url).name
        if name == "localhost":
            route.fulfill(body="<!doctype html>", content_type="text/html")
            return
        file = tmp_path / name if name == "x.onnx" else Path(os.environ["PROGAN_ORT_WEB"]) / name
        route.fulfill(path=file, content_type=types.get(file.suffix, "application/octet-stream"))

    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.route("**/*", answer)
        page.goto("http://localhost/")
        kind, shape, images = page.evaluate(IN_A_PAGE, [x.tolist() for x in values])
        browser.close()
    assert kind == "uint8"
    check_levels(np.array(images, np.uint8).reshape(shape), snapshot.generator(*values))


def test_standalone_and_graph_without_progan(snapshots, tmp_path):
    """Reference: `Snapshot.sample` bit for bit, and the generator to 1e-4; a process that cannot
    import progan draws. The command that is told fits: the script wants a class for each seed."""
    for name, snapshot in snapshots.items():
        values = inputs_of(snapshot)
        np.savez(tmp_path / f"{name}-inputs.npz", *[x.numpy() for x in values])
        told = export(snapshot, "torch", tmp_path / name)
        assert told[0].endswith(" 0:0 1:0 2:0" if name == "paper" else " 0 1 2")
    export(snapshots["paper"], "torch-export", tmp_path / "paper.pt2", "uint8")
    export(snapshots["imported"], "torch-export", tmp_path / "imported.pt2", "float32")
    alone = [sys.executable, "-I", "-c", ALONE, *snapshots]
    done = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def made(name):
        return np.load(tmp_path / f"{name}.npy")

    for name, snapshot in snapshots.items():
        np.testing.assert_array_equal(made(f"{name}-drawn"), snapshot.sample(range(8)))
    graphs = {name: snapshots[name].generator(*inputs_of(snapshots[name])) for name in NETWORKS}
    check_levels(made("paper-graph"), graphs["paper"])
    np.testing.assert_allclose(made("imported-graph"), graphs["imported"], rtol=0, atol=1e-4)
    here = str(Path(__file__).parent.parent).encode()
    assert here not in (tmp_path / "paper.pt2").read_bytes()
    picture = (tmp_path / "2-1.png").read_bytes()
    assert b"rainedAlgorithmicMedia" in picture
    script = (tmp_path / "paper" / "generator.py").read_text().splitlines()
    assert len([line for line in script if line.strip()]) <= 60


def test_a_script_that_shows_names(snapshots, tmp_path):
    """Reference: Python's escapes, as a name may control the terminal."""
    export(snapshots["paper"], "torch", tmp_path / "it")
    settings = json.loads((tmp_path / "it" / "settings.json").read_text())
    settings |= {"labels": ["\x1b[31mred", "b"], "label_kind": "classes"}
    (tmp_path / "it" / "settings.json").write_text(json.dumps(settings))
    script = [sys.executable, "it/generator.py", "0"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and r"numbered from 0: ['\x1b[31mred', 'b']" in done.stderr


@pytest.mark.parametrize("name", ["growing", "paper", "ablation"])
def test_official_names(snapshots, tmp_path, name):
    """Reference: the official equations in NumPy, float64, with its own fused form."""
    snapshot, out = snapshots[name], tmp_path / "x.npz"
    (line,) = export(snapshot, "tf-names", out)
    arrays = dict(np.load(out, allow_pickle=False))
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    values = inputs_of(snapshot)
    z, c = [*values, torch.zeros(8, 0)][:2]
    plain, expected = name != "ablation", snapshot.generator(*values).numpy()
    options = {"num_channels": snapshot.G.channels, "resolution": 16, "label_size": c.shape[1]}
    options |= {"fmap_base": 32, "fmap_max": snapshot.G.channel_max, "latent_size": 8}
    options |= {"use_wscale": plain, "use_pixelnorm": plain, "fused_scale": plain}
    assert set(map(str.strip, line.partition("(")[2].rstrip(")").split(","))) - {
        "fmap_decay=1.0"
    } == {f"{key}={value}" for key, value in options.items()}
    images = official.images(options, arrays, z.double().numpy(), c.double().numpy())
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["export", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.output


def test_what_an_export_replaces(snapshots, tmp_path):
    """Reference: the folder before. A second export says so, and an error leaves the first."""
    source, out = snapshots["growing"].file, tmp_path / "made"
    assert run(source, "--to", "torch", "--out", out)[0] == 0
    code, text = run(source, "--to", "torch", "--out", out)
    assert code == 0 and "3 files replaced" in text
    before = sorted(path.name for path in tmp_path.rglob("*"))
    (out / "mine.txt").touch()
    code, text = run(source, "--to", "torch", "--out", out)
    assert code == 2 and "mine.txt" in text
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([*before, "mine.txt"])


@pytest.mark.parametrize(
    ("name", "to", "out", "said"),
    [
        ("imported", "tf-names", "x.npz", "start_bias=position, start_norm=False, norm=rms"),
        ("growing", "onyx", "x.onnx", "did you mean 'onnx'"),
        ("growing", "torchscript", "x.pt", "give torch-export"),
        ("growing", "onnx", "x.npz", "must end in .onnx"),
        ("growing", "torch", "none/x", "there is no folder"),
        ("growing", "torch", "file", "is a file"),
        ("growing", "onnx", "x.onnx", "pip install '.[onnx]'"),
        ("file", "tf-names", "x.npz", "is not a snapshot of progan"),
    ],
)
def test_mistakes_are_explained(snapshots, tmp_path, monkeypatch, name, to, out, said):
    """Reference: the messages' own rules; nothing is left behind."""
    (tmp_path / "file").write_text("no weights")
    monkeypatch.setattr("progan.interop.export_graph.find_spec", lambda package: None)
    source = snapshots[name].file if name in snapshots else tmp_path / name
    code, text = run(source, "--to", to, "--out", tmp_path / out)
    assert code == 2 and said in text, text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_network_too_large_for_one_file(snapshots, tmp_path, monkeypatch):
    """Reference: protobuf's 2 GB, here lowered."""
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("progan.interop.export_graph.MOST_BYTES", 1000)
    with pytest.raises(UserError, match="an ONNX file holds 2 GB; give --to torch-export"):
        export(snapshots["growing"], "onnx", tmp_path / "x.onnx")


@pytest.mark.parametrize("to", ["torch", "torch-export"])
def test_a_disk_that_takes_no_more(snapshots, tmp_path, monkeypatch, to):
    """Reference: the process lives, which torch itself ends where it cannot write an archive; the
    message is not torch's, and no part of a file is left. The limit is one of the system."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    out = tmp_path / ("x" if to == "torch" else "x.pt2")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(DiskError, match="limit on the size of files|File too large"):
            export(snapshots["growing"], to, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("to", "out"), [("torch", "x"), ("tf-names", "x.npz")])
def test_a_folder_that_cannot_be_written(snapshots, tmp_path, monkeypatch, to, out):
    """Reference: what the system allows, here nothing in this folder; said before any work."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    code, text = run(snapshots["growing"].file, "--to", to, "--out", tmp_path / out)
    assert code == 2 and "no permission to write there" in text
