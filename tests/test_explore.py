"""`progan explore`: ways through latent space, what the page shows, and the page in a browser."""

import base64
import io
import math
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from browser import CHROMIUM, needs_chromium
from conftest import command, options
from PIL import Image

from progan.config.load import load_config
from progan.data.labels import Labels
from progan.model.networks import Generator
from progan.model.sampling import latents
from progan.outputs.explorer import Explorer, View, growth_of, moments_of, stage_at
from progan.outputs.explorer_page import listen, next_seeds, serve, shown, view_of
from progan.outputs.latent_space import (
    first_features,
    label_direction,
    moved,
    on_plane,
    principal_directions,
)
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import save_snapshot
from progan.runtime.errors import UserError


def unit(*parts: float) -> torch.Tensor:
    return torch.tensor(parts, dtype=torch.float32)


def test_mixtures_lie_on_the_sphere():
    """Reference: great circles between axes, in closed form; corners are met bit for bit."""
    axes = torch.eye(4)
    h = math.sqrt(0.5)
    assert on_plane(axes[:2], 1 / 3, 0.7).allclose(unit(math.cos(math.pi / 6), 0.5, 0, 0))
    assert on_plane(axes[:3], 0.5, 0.5).allclose(unit(0.5, 0.5, h, 0))
    assert on_plane(axes[:3], 0.2, 1).equal(axes[2])
    assert on_plane(axes, 0.5, 0.5).allclose(torch.full((4,), 0.5))
    z = latents(range(4), 8)
    for k, (x, y) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        assert on_plane(z, x, y).equal(z[k])
    assert on_plane(z[:1], 0.3, 0.6).equal(z[0])


def test_steps_keep_the_length():
    """Reference: the sum in closed form, as long as before; without steps the same bits."""
    z = 3 * torch.eye(2)[0]
    assert moved(z, torch.eye(2), [0, 3]).allclose(3 * unit(*[math.sqrt(0.5)] * 2))
    assert moved(z, torch.eye(2), [0, 0]).equal(z)


def test_principal_directions_of_linear_features():
    """Reference: of features W z they are W's right singular vectors (numpy's), where latents are
    exactly uncorrelated; the strongest first, and whatever the mean of the features."""
    draw = np.random.default_rng(0)
    z = torch.linalg.qr(torch.from_numpy(draw.standard_normal((60, 5))))[0]
    z = torch.linalg.qr(z - z.mean(0))[0] * math.sqrt(60)
    W = draw.standard_normal((90, 5))
    found = principal_directions(z, z @ torch.from_numpy(W).T + 7, 3)
    wanted = torch.from_numpy(np.linalg.svd(W)[2][:3])
    assert (found * wanted).sum(1).abs().allclose(torch.ones(3, dtype=z.dtype))
    assert all(row[row.abs().argmax()] > 0 for row in found)


def test_first_features_are_the_generators_own():
    """Reference: the image that the generator's 4x4 layer makes of them."""
    G = Generator(8, c_dim=2, z_dim=8, channel_base=64, channel_max=8)
    z, c = latents(range(5), 8), torch.eye(2)[[0, 1, 0, 1, 1]]
    features = first_features(G, z, c).unflatten(1, (-1, 4, 4))
    assert G.image_layers["4"](features).allclose(G(z, c, resolution=4), atol=1e-5)


def test_label_direction_of_a_plane():
    """Reference: latents on one side of a plane differ from the others by its normal."""
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((8000, 4)))
    normal = torch.tensor([0.6, 0, -0.8, 0], dtype=z.dtype)
    direction, right = label_direction(z, z @ normal > 0.5)
    assert direction @ normal > 0.99 and right > 0.99
    assert math.isnan(label_direction(z, z[:, 0] > 100)[1])


def network(resolution: int, seed: int = 0, z_dim: int = 8, c_dim: int = 0) -> Generator:
    torch.manual_seed(seed)
    return Generator(resolution, z_dim=z_dim, c_dim=c_dim, channel_base=64, channel_max=8)


def run_of(run_dir: Path, labels: Labels | None = None, names=("snapshot",) * 2) -> Path:
    """A run with snapshots of untrained generators: 8x8 with 30 % faded in, then all of it."""
    config = load_config(None, options(data__labels=labels is not None)[1::2])
    for k, (name, alpha) in enumerate(zip(names, (0.3, None), strict=True)):
        G = network(8, k, c_dim=len(labels.names) if labels else 0)
        file = run_dir / "snapshots" / f"{name}-00000{k}.064.safetensors"
        save_snapshot(Snapshot(file, G, config, 1000 * k + 64, 8, alpha, labels))
    return run_dir


HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m"
LABELS = {
    "none": None,
    "classes": Labels.each_class(("cats", HOSTILE)),
    "attributes": Labels(("hat", HOSTILE), np.array([[0, 1], [1, 1]], np.uint8)),
}


@pytest.fixture(scope="module", params=LABELS)
def explorer(request, tmp_path_factory) -> Explorer:
    labels = LABELS[request.param]
    run = run_of(tmp_path_factory.mktemp("explore") / "run", labels)
    return Explorer(run, torch.device("cpu"))


def label_of(explorer: Explorer) -> tuple[int, ...] | None:
    return None if explorer.first.labels is None else (1,)


def test_corners_are_samples(explorer):
    """Reference: `Snapshot.sample`, bit for bit, at both moments and at the stages that it has.
    Alpha is the network's own where all of it is shown, and the stage's where it is not."""
    label = label_of(explorer)
    wanted = explorer.snapshot(0).sample([5], classes=None if label is None else HOSTILE)
    for growth in (math.inf, 3, growth_of(8, 0.3)):
        view = View((4, 5), x=1, moment=0, label=label, growth=growth)
        assert explorer.stage(view) == (8, 0.3)
        assert (explorer.image(view) == wanted[0].transpose(2, 0, 1)).all()
    view = View((5,), moment=1, label=label, growth=2)
    wanted = explorer.first.sample([5], classes=None if label is None else HOSTILE, resolution=4)
    assert (explorer.image(view) == wanted[0].transpose(2, 0, 1)).all()
    assert explorer.stage(View((5,), moment=1, growth=2.5)) == (8, 0.5)


def test_growth_is_resolution_and_alpha():
    """Reference: by hand."""
    stages = {2: (4, None), 2.25: (8, 0.25), 3: (8, None), 9.5: (1024, 0.5)}
    for growth, stage in stages.items():
        assert stage_at(growth) == stage and growth_of(*stage) == growth


def test_saved_pictures_can_be_found_again(explorer):
    """Reference: the image, and the view, read by Pillow. Names print."""
    explorer.names, explorer.directions = ["Direction 1"], torch.eye(8)[:1]
    view = View((3, 9), 0.25, 0.5, 2.5, 1, label_of(explorer), (1.5,))
    with Image.open(io.BytesIO(explorer.png(view))) as picture:
        pixels = np.asarray(picture)
        text = picture.text
    assert (pixels == explorer.image(view).transpose(1, 2, 0)).all()
    facts = {"seeds": "3, 9", "x": "0.25", "y": "0.5", "alpha": "0.5", "steps": "Direction 1 +1.5"}
    assert facts.items() <= text.items() and "trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]
    assert text.get("class", "").isprintable() and "sha256" in text["snapshot"]
    assert (explorer.image(view) != explorer.image(replace(view, steps=()))).any()


def test_directions_are_found(explorer):
    """Reference: a classifier that sees what lies on one side of a plane, in the order of seeds."""
    explorer.names, explorer.directions = [], torch.zeros(0, 8)
    explorer.find_principal()
    assert explorer.directions.norm(dim=1).allclose(torch.ones(8))
    seen = iter(explorer.known(2048)[0].split(64))

    def see(images):
        assert images.shape[1:] == (3, 8, 8)
        z = next(seen)
        return torch.stack([z[:, 2] > 0, z[:, 2] > 9], dim=1).numpy()

    explorer.find_labels(see, ["hat", "rare"])
    assert explorer.names[8:] == ["hat (99 %)"]
    assert explorer.directions[8, 2] > 0.9


def test_the_page_shows_pictures_and_mistakes(explorer):
    """Reference: the PNG, and the sentences. A name from somebody else is no markup."""
    explorer.names = []
    values = {"seeds": " 0,1 7", "x": 0.5, "y": 0.0, "moment": 1}
    values |= {"label": [1]} if explorer.first.labels else {}
    page = shown(explorer, values)
    data = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    assert base64.b64decode(data) == explorer.png(view_of(explorer, values))
    assert 'download="run-0.064kimg-seeds-0-1-7.png"' in page and "8x8, 30 % faded in" in page
    for seeds in ("", "-1", "1.5", "one", "0,1,2,3,4", "9" * 16, "<b>"):
        page = shown(explorer, values | {"seeds": seeds})
        assert "alert" in page and "seeds" in page and "<b>" not in page
    assert next_seeds("0, 1, 7") == "8, 9, 10" and next_seeds("x") == "0"


def test_what_there_is_to_look_at(tmp_path):
    """Reference: the files. A best snapshot is not shown twice; an average is."""
    run = run_of(tmp_path / "run", names=("snapshot", "average-0.1"))
    run_of(tmp_path / "run", names=("best-swd16k-8x8", "best-swd16k-8x8"))
    names = [file.name for file in moments_of(run)[0]]
    assert names == [
        "snapshot-000000.064.safetensors",
        *("best-swd16k-8x8-000001.064.safetensors", "average-0.1-000001.064.safetensors"),
    ]
    assert moments_of(run)[1] == 0  # the newest of the run itself
    assert moments_of(tmp_path / "run@1.064") == ([run / "snapshots" / name for name in names], 1)
    file = run / "snapshots" / names[1]
    assert moments_of(file) == ([file], 0)


def test_a_snapshot_of_another_network_is_a_sentence(tmp_path):
    """Reference: the message, in place of the picture; the others go on."""
    run = run_of(tmp_path / "run")
    strange = run / "snapshots" / "snapshot-000000.500.safetensors"
    (run / "snapshots" / "snapshot-000000.400.safetensors").write_bytes(b"no snapshot")
    config = load_config(None, options(network__z_dim=4)[1::2])
    save_snapshot(Snapshot(strange, network(8, z_dim=4), config, 500, 8, None))
    explorer = Explorer(run, torch.device("cpu"))
    values = {"seeds": "0", "x": 0.0, "y": 0.0}
    said = [shown(explorer, values | {"moment": k}) for k in (1, 2, 3, 4)]
    assert "<img" in said[0] and "<img" in said[3]
    assert "is not a snapshot" in said[1] and "of another run" in said[2]


@pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_what_ends_the_page(explorer, monkeypatch, number):
    """Reference: uvicorn's own flag for an end in good order; afterwards no handler is left."""
    uvicorn = pytest.importorskip("uvicorn")
    ended = []

    def run(self, sockets):
        signal.raise_signal(getattr(signal, number))
        ended.append(self.should_exit)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr("progan.outputs.explorer_page.make_app", lambda explorer, host: None)
    before = signal.getsignal(getattr(signal, number))
    with listen("127.0.0.1", None) as listening:
        serve(explorer, listening, "127.0.0.1", print)
    assert ended == [True] and signal.getsignal(getattr(signal, number)) == before


def test_addresses_that_are_not_free():
    """Reference: the messages."""
    with listen("127.0.0.1", None) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1, port {port}.*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot listen at 256.0.0.1.*--host"):
        listen("256.0.0.1", None)


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(tmp_path):
    """Reference: a browser. The picture follows a slider; nothing is asked of another machine, and
    the console is silent. Files of this machine are not served, nor pages under another name."""
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    run = run_of(tmp_path / "run", LABELS["classes"])
    started = subprocess.Popen(command("explore", run), stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(started.stdout.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
        problems: list[str] = []
        with playwright.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 390, "height": 844})
            page.set_default_timeout(120_000)
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            asked: list[str] = []
            page.goto(address)
            before = page.locator("#picture img").get_attribute("src")
            page.locator("input[type=range]").first.press("End")
            changed = "old => document.querySelector('#picture img').src != old"
            page.wait_for_function(changed, arg=before)
            width = page.evaluate("document.documentElement.scrollWidth")
            browser.close()
        assert width <= 390 and problems == []
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
        for path, headers, status in [
            (f"/gradio_api/file={run}/snapshots", {}, 404),
            ("/", {"Host": "elsewhere.example"}, 400),
        ]:
            with pytest.raises(HTTPError) as error:
                urlopen(Request(address + path, headers=headers))
            error.value.close()
            assert error.value.code == status
        started.send_signal(signal.SIGINT)
        assert started.wait(60) == 0
    finally:
        started.kill()
        started.wait()
        started.stdout.close()
