"""TensorBoard: the run's name, charts, descriptions, evaluations, old runs, other trackers."""

import json
import re
import shlex
import subprocess
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browser import CHROMIUM, needs_chromium
from conftest import free_port
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from progan.config.load import load_config
from progan.config.metric_names import STANDARD
from progan.runs.board import add_picture, add_scalars, add_start, write_evaluations
from progan.runs.charts import ABOUT, about, is_drawn, layout
from progan.runs.records import METRICS, record
from progan.runs.tracking import Tracker
from progan.runs.which_run import board_command

STARTS = {"command": "progan train --data demo", "torch": "2.14", "commit": None}
SWD = {"Metrics/swd2000": 9.0, "Metrics/swd2000_floor": 4.0, "Metrics/swd2000_at_16": 9.0}
TICK = {"Loss/D": -1.0, "Loss/skipped": 0, "Progress/kimg": 0.1, "Progress/tick": 1, **SWD}
METRIC = ["run.metrics={swd2000: 2, pr50k: 4}"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A run as far as TensorBoard sees it: a start, two ticks, three evaluations out of order."""
    run_dir = tmp_path_factory.mktemp("runs") / "faces"
    run_dir.mkdir()
    (run_dir / "starts.jsonl").write_text(json.dumps(STARTS) + "\n")
    with SummaryWriter(str(run_dir), purge_step=0) as writer:
        add_start(writer, load_config("demo", METRIC), run_dir, 0)
        for nimg in (100, 200):
            add_scalars(writer, TICK, nimg)
            add_picture(writer, "fakes", 4, np.full((3, 8, 24), nimg, np.uint8), nimg)
    for nimg, value in ((200, 3.0), (100, 5.0), (200, 2.0)):
        record(run_dir, nimg, {"fid500": value, "<script>": 1.0, "kid500": float("nan")})
        write_evaluations(run_dir)
    return run_dir


@pytest.fixture(scope="module")
def events(run_dir) -> EventAccumulator:
    return EventAccumulator(str(run_dir)).Reload()


def test_names_are_those_of_runs(run_dir):
    """Reference: TensorBoard's own names of what lies below `--logdir`."""
    found = EventMultiplexer().AddRunsFromDirectory(str(run_dir.parent)).Runs()
    assert sorted(found) == ["faces", "faces/evaluated"]


def test_curves_have_descriptions(events):
    """Reference: the tags of a tick, less the axis, a count and a zero; each is described in the
    file, and so are all standard metrics and their details."""
    tags = events.Tags()["scalars"]
    assert tags == ["Loss/D", *SWD]
    for tag in tags:
        assert events.SummaryMetadata(tag).summary_description == about(tag) != ""
    assert is_drawn("Loss/skipped", 2.0)
    assert all(about(f"Metrics/{name}") for name in STANDARD)
    assert "Lower is better" in about("Metrics/fid50k") and "Higher" in about("Metrics/is50k")
    assert about("Metrics/nothing") == about("Metrics/<b>") == ""


def test_descriptions_are_of_curves_that_exist():
    """Reference: the keys of statistics in the code; a new one has to be described, too."""
    folder = Path(__file__).parent.parent / "progan"
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*/*.py"))
    keys = set(re.findall(r'"((?:Loss|Progress|Timing|Resources)/[\w/]*\w)"', code))
    weights = {f"Progress/{name}" for name in ("penalty_weight", "drift", "label")}
    assert (keys | weights | {"fakes", "reals"}) - {"Progress/kimg", "Progress/tick"} == set(ABOUT)


def test_charts(events):
    """Reference: by hand. A metric, its floor and its levels; both scores in one chart."""
    (event,) = events.Tensors("custom_scalars__config__")
    written = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: chart.multiline.tag[0] for c in written.category for chart in c.chart}
    expected = {
        title: c[1][0]
        for some in layout(["swd2000", "pr50k"]).values()
        for title, c in some.items()
    }
    assert charts == expected
    assert [c.title for c in written.category] == ["Training", "Speed", "Metrics"]

    def drawn(*tags: str) -> list[list[str]]:
        return [
            found for tag in charts.values() if (found := [t for t in tags if re.match(tag, t)])
        ]

    assert drawn(*SWD) == [["Metrics/swd2000", "Metrics/swd2000_floor"], ["Metrics/swd2000_at_16"]]
    assert drawn("Metrics/pr50k_precision", "Metrics/pr50k_recall") == [
        ["Metrics/pr50k_precision", "Metrics/pr50k_recall"]
    ]
    assert drawn("Loss/scores/real", "Loss/scores/fake", "Metrics/swd20000") == [
        ["Loss/scores/real", "Loss/scores/fake"]
    ]
    assert "Metrics" not in layout([])


def test_texts_and_settings(events):
    """Reference: the start's record, the demo's schedule and settings, without paths."""

    def text(name: str) -> str:
        (event,) = events.Tensors(f"run/{name}/text_summary")
        return event.tensor_proto.string_val[0].decode()

    assert text("command") == "    progan train --data demo"
    assert text("versions").splitlines()[2:] == ["| torch | 2.14 |"]
    assert text("schedule").splitlines()[2].startswith("| 4x4 stable | 0.0 | 2.0 | 2,000 | 250 |")
    assert "    network:\n" in text("settings")
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["network.resolution"].number_value == 32
    assert settings["data.mirror"].string_value == "false"
    assert "data.source" not in settings and "run.device" not in settings


def test_evaluations_are_in_order(run_dir):
    """Reference: the last value of each snapshot, by images shown, though they were measured in
    another order; other names and what is no number are left out. Once they are gone, so is the
    file."""
    folder = run_dir / "evaluated"
    board = EventAccumulator(str(folder)).Reload()
    assert board.Tags()["scalars"] == ["Metrics/fid500"]
    assert [(e.step, e.value) for e in board.Scalars("Metrics/fid500")] == [(100, 5), (200, 2)]
    kept = (run_dir / METRICS).read_text()
    (run_dir / METRICS).unlink()
    write_evaluations(run_dir)
    assert not list(folder.iterdir())
    (run_dir / METRICS).write_text(kept)
    write_evaluations(run_dir)
    assert len(list(folder.iterdir())) == 1


def test_old_runs_go_on_where_they_are(tmp_path):
    """Reference: the folders of older versions, `tensorboard/` and `tensorboard/evaluate/`."""
    (tmp_path / "tensorboard" / "evaluate").mkdir(parents=True)
    record(tmp_path, 100, {"fid500": 1.0})
    asked = []
    accelerator = SimpleNamespace(init_trackers=lambda *a, **k: asked.append((a, k)), trackers=[])
    Tracker(accelerator, tmp_path, 100, load_config("demo"))
    assert asked == [(("tensorboard",), {"init_kwargs": {"tensorboard": {"purge_step": 101}}})]
    assert len(list((tmp_path / "tensorboard" / "evaluate").glob("*tfevents*"))) == 1
    assert not (tmp_path / "evaluated").exists()


def test_other_trackers_get_everything(tmp_path):
    """Reference: the values and pictures as they are, under the names that they always had."""
    told: list[tuple] = []

    def keep(what, step):
        told.append((what, step))

    other = SimpleNamespace(name="wandb", log=keep, log_images=keep)
    other.store_init_configuration = lambda settings: told.append((settings["run.seed"], None))
    accelerator = SimpleNamespace(init_trackers=lambda *_, **__: None, trackers=[other])
    tracker = Tracker(accelerator, tmp_path, 0, load_config("demo", ["run.tracker=wandb"]))
    tracker.log(TICK, 100)
    tracker.log_image("fakes", 4, np.zeros((3, 8, 16), np.uint8), 100)
    (seed, start), scalars, (pictures, step) = told
    assert (seed, start, scalars, step) == (0, None, (TICK, 100), 100)
    assert [picture.shape for picture in pictures["fakes"]] == [(8, 16, 3)]


def test_the_command_that_shows_a_run(tmp_path):
    """Reference: the folder above if it holds runs only, as TensorBoard searches all of it."""
    runs = tmp_path / "my runs"
    (runs / "a").mkdir(parents=True)
    (runs / ".hidden").mkdir()
    ending = " --samples_per_plugin images=100"
    assert board_command(runs / "a") == f"tensorboard --logdir '{runs}'{ending}"
    (runs / "photos").mkdir()
    assert board_command(runs / "a") == f"tensorboard --logdir '{runs / 'a'}'{ending}"


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(run_dir):
    """Reference: what the page shows with the command that progan prints: a chart of several
    curves, a picture of 24x8, the run's name among settings; no error in the console."""
    playwright = pytest.importorskip("playwright.sync_api")
    (run_dir / "config.yaml").touch()
    port = free_port()
    words = [*shlex.split(board_command(run_dir)), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    page_at, errors = f"http://127.0.0.1:{port}/", []
    try:
        wait_for_runs(page_at + "data/runs", ["faces", "faces/evaluated"])
        with playwright.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

            def opened(tab: str, text: str):
                page = browser.new_page()
                page.set_default_timeout(120_000)
                page.on("pageerror", lambda error: errors.append(str(error)))
                page.on("console", lambda m: m.type == "error" and errors.append(m.text))
                page.goto(f"{page_at}#{tab}", wait_until="commit")
                page.get_by_text(text).first.wait_for()
                return page

            opened("custom_scalars", "scores of reals and fakes: good if their distance")
            picture = opened("images", "Samples/4x4/fakes").locator("tf-image-loader img").first
            picture.wait_for()
            assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") == 24
            opened("hparams", "faces")
            browser.close()
    finally:
        server.terminate()
        server.wait()
    assert not errors


def wait_for_runs(url: str, names: list[str]) -> None:
    """Until TensorBoard has read them."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url) as answer:
                if sorted(json.load(answer)) == names:
                    return
        except OSError:  # it has not started yet
            pass
        time.sleep(0.5)
    raise AssertionError(f"TensorBoard shows no {names}")
