"""The page about a run and its model card."""

import base64
import io
import json
import platform
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from browser import CHROMIUM, needs_chromium
from click.testing import CliRunner
from conftest import TINY
from PIL import Image
from test_videos import make_run

from progan.cli.main import main
from progan.config.load import load_config
from progan.data.decode import Square
from progan.data.labels import Labels
from progan.data.pyramid.prepare import cached
from progan.data.sources.files import from_path
from progan.outputs.model_card import in_markdown
from progan.outputs.report import make_report
from progan.outputs.report_curves import Chart, draw
from progan.outputs.report_facts import about_data
from progan.runs.charts import about
from progan.runs.folder import write_config
from progan.runs.hold import Hold
from progan.runtime.errors import UserError

HOSTILE = '<b onload="x()">run"&\'](http:'  # as a folder's name, which has no slash
NAMES = ("<script>alert(1)</script>", "a|b](https://a.bc) `c`", "![x](www.a.bc)\n# owls")
HOST = "machine-of-somebody"
SECRETS = ("/home/somebody", "--data", HOST)


class Page(HTMLParser):
    """What is in a page: tags, addresses, and the texts of its cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "srcset", "href", "action", "data")]
        assert not [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data):
        self.texts.append(data.strip())


def check_images(page):
    """Every address is a whole picture in the page itself."""
    assert page.addresses
    for address in page.addresses:
        kind, _, data = address.partition(";base64,")
        content = base64.b64decode(data, validate=True)
        if kind == "data:image/svg+xml":
            assert ElementTree.fromstring(content).tag.endswith("svg")
            continue
        assert kind == "data:image/webp"
        with Image.open(io.BytesIO(content), formats=["WEBP"]) as image:
            for frame in range(image.n_frames):
                image.seek(frame)
                image.load()
            assert b"rainedAlgorithmicMedia" in image.info["xmp"] + content


def add_records(run_dir):
    """Statistics, metrics and a start as training writes them, and damaged lines among them."""
    ticks = [{"nimg": 16 * k, "Loss/D": -k, "Loss/G": 2.0 * k} for k in range(1, 7)]
    odd = [{"nimg": 20, "Loss/D": "high"}, {"nimg": -1}, {"nimg": 24, "Loss/D": 1e300}]
    lines = [*map(json.dumps, odd + ticks), '{"nimg": 30, "Loss', "[1]", '{"nimg": NaN}']
    (run_dir / "stats.jsonl").write_text("\n".join(lines))
    measured = [
        {"nimg": 48, "Metrics/swd16k": 31.25, "Metrics/swd16k_floor": 4.125},
        {"nimg": 96, "Metrics/swd16k": 33.5, "Metrics/swd16k_floor": 4.25, "Metrics/<i>": 1},
    ]
    (run_dir / "metrics.jsonl").write_text("{\n" + "\n".join(map(json.dumps, measured)))
    start = {
        "time": "2026-01-02T03:04:05+00:00",
        "command": "progan train --data /home/somebody/photos",
        "device": "<img src=https://a.bc/x> {{ 7*7 }}",
        "torch": ["a list"],
        "progan": "0.1 (/home/somebody/progan)",
        "precision": "https://me:somebody@a.bc/x?key=somebody",
        "cuda": "C:\\Users\\somebody",
        "host": HOST,
    }
    (run_dir / "starts.jsonl").write_text(json.dumps(start) + "\n{torn")


@pytest.mark.parametrize("labels", [None, Labels.each_class(NAMES)], ids=["none", "classes"])
def test_a_page_needs_nothing_else(tmp_path, labels):
    """Reference: the records as written by hand; Python's own parsers of HTML, XML, YAML, and
    Pillow. Texts of a run are shown as they are, and are neither tags nor addresses."""
    run_dir, made = make_run(tmp_path, labels)
    run_dir = run_dir.rename(tmp_path / HOSTILE)
    add_records(run_dir)
    neighbours = np.zeros((3, 8, 8), np.uint8)
    done = make_report(run_dir, neighbours if labels is None else None)
    page = Page(done.page)
    check_images(page)
    pictures = 2 + 2 + 2 * 2 + (labels is None)  # stages; timelapse, still and moving; charts
    assert len(page.addresses) == pictures == page.tags.count("img") + page.tags.count("source")
    assert not {"script", "link", "iframe", "object", "b", "i"} & set(page.tags)
    texts = page.texts
    assert {about("Loss/D"), about("Loss/G")} <= {*texts}, "each curve is described by itself"
    assert texts[texts.index("swd16k") :][:4] == [
        "swd16k",
        "33.5 at 0.096 kimg",
        "31.25 at 0.048 kimg",
        "4.25",
    ]
    assert (
        HOSTILE in texts and "<img src=https://a.bc/x> {{ 7*7 }}" in texts and "2026-01-02" in texts
    )
    assert "https://REDACTED@a.bc/x?REDACTED" in texts
    assert len(made) == 7 and "0.096 of 0.096 kimg (thousands of images)" in texts
    for text in (done.page, done.card):
        assert not [word for word in (*SECRETS, str(tmp_path)) if word in text]
    _, header, card = done.card.split("---\n", 2)
    assert yaml.safe_load(header)["model_name"] == HOSTILE
    assert "\n\n\n" not in card and "![Samples](samples.webp)" in card
    assert "<img" not in card and "<b" not in card and "\\](http:" in card
    assert "| swd16k | 33.5 at 0.096 kimg | 31.25 at 0.048 kimg | 4.25 |" in card
    with Image.open(io.BytesIO(done.samples)) as image:
        assert image.width >= 2 * 64


def test_names_in_markdown():
    """Reference: CommonMark 0.31, sections 2.4 and 2.5: escapes of punctuation, and entities."""
    assert in_markdown("<a>&[x](b) `c`|*_") == "&lt;a>&amp;\\[x\\](b) \\`c\\`\\|\\*\\_"
    assert in_markdown("https://www.a.bc me@a.bc") == "https\\://www\\.a.bc me\\@a.bc"


def test_a_run_that_has_just_begun(tmp_path, monkeypatch):
    """Reference: by hand. It is training, has labels but no snapshot to say which, and no tick."""
    overrides = [f"{key}={value}" for key, value in TINY.items()]
    config = load_config(None, [*overrides, "data.labels=true"])
    write_config(tmp_path, config)
    (tmp_path / "stats.jsonl").write_text('{"nimg": 16, "Los')
    monkeypatch.setattr(platform, "node", lambda: HOST)
    with Hold(tmp_path) as hold:
        hold.begin()
        done = make_report(tmp_path)
    page = Page(done.page)
    assert page.addresses == [] and "running" in page.texts
    assert "The run has recorded no statistics yet." in page.texts
    assert "None were measured." in page.texts and "The run has not reached its end." in page.texts
    assert "has no snapshot yet" in done.card and done.samples is None
    assert "torn" not in done.page and HOST not in done.page


def test_what_prepared_data_tell(tmp_path):
    """Reference: by hand. 12 images of two classes: one cannot be read, two are copies."""
    draw = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "data" / ("<i>cats" if i < 9 else "dogs") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i in (3, 4):
            shutil.copy(path.with_name("00.png"), path)
        else:
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    (tmp_path / "data" / "dogs" / "09.png").write_bytes(b"no image")
    source = from_path(tmp_path / "data", labels=True)
    made = cached(source, Square(8, 3, "crop"), max_bad=1, workers=0)
    config = load_config(None, ["data.labels=true", f"data.source={tmp_path}", "data.mirror=true"])
    found = about_data(config, made.identity)
    rows = dict(found.rows)
    made.close()
    assert rows["images"] == "11, prepared up to 8x8"
    assert rows["left out, as unreadable or too small"] == "1"
    assert rows["exact copies of other images"] == "2"
    assert [(row.name, row.count, row.percent) for row in found.labels] == [
        ("<i>cats", "9", "81.8 %"),
        ("dogs", "2", "18.2 %"),
    ]
    assert found.kind == "classes" and str(tmp_path) not in str(found)
    other = about_data(config, "0" * 64)
    assert other.labels == [] and "not counted" in dict(other.rows)["images"]


def test_curves_keep_their_ends():
    """Reference: the points. Of many, only some are drawn, but the last always is."""
    points = [(float(k), float(k % 7)) for k in range(10_001)]
    chart = Chart("x", (), {"": points}, reals=1.0)
    assert len(draw(chart, "dark")) < 300_000
    assert draw(chart, "light") == draw(chart, "light") != draw(chart, "dark")
    assert draw(Chart("x", (), {"a": [(1.0, 2.0)]}), "light").count(b"<use") >= 1, "a dot"


def run(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)], catch_exceptions=False)


def test_files_of_a_report(here):
    """Reference: the folder. A card in which people have written is never replaced."""
    run_dir, _ = make_run(here)
    result = run(run_dir)
    assert result.exit_code == 0 and "3 places are marked To fill in" in result.output
    folder = here / "report-of-run"
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "report.html", "samples.webp"]
    assert "](samples.webp)" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("filled in")
    result = run(run_dir)
    assert result.exit_code == 2 and "would be lost" in result.output
    assert (folder / "README.md").read_text() == "filled in"
    result = run(run_dir, "--out", folder / "report.html")
    assert result.exit_code == 0 and "(replaced)" in result.output
    (here / "file").touch()
    for out, why in (
        ("file", "is a file"),
        ("none/x.html", "there is no folder"),
        ("x.pdf", "not a .pdf"),
    ):
        result = run(run_dir, "--out", out)
        assert result.exit_code == 2 and why in result.output
    grid = max(run_dir.glob("images/fakes-*.png"))
    grid.write_bytes(b"no image")
    result = run(run_dir, "--out", "new")
    assert result.exit_code == 2 and "is no grid of this run" in result.output
    assert not (here / "new").exists()
    with pytest.raises(UserError, match="is no run"):
        make_report(here / "nothing")


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(tmp_path, scheme):
    """Reference: Chromium's own layout in a frame of 390 pixels: nothing is wider, no picture is
    broken, and the page has the colours of the scheme that the browser asks for."""
    run_dir, _ = make_run(tmp_path, Labels.each_class(NAMES))
    add_records(run_dir)
    page = make_report(run_dir).page
    checks = (
        "const d = document.querySelector('iframe').contentDocument;"
        "document.body.dataset.found = JSON.stringify(["
        "d.documentElement.scrollWidth - d.documentElement.clientWidth,"
        "[...d.images].filter(i => !i.complete || !i.naturalWidth).length, d.images.length,"
        "getComputedStyle(d.body).backgroundColor])"
    )
    frame = f'<iframe width="390" height="800" style="border:0" srcdoc="{page_quoted(page)}">'
    (tmp_path / "x.html").write_text(
        f'<body>{frame}</iframe><script>addEventListener("load", () => {{{checks}}})</script>'
    )
    number = {"dark": 0, "light": 1}[scheme]
    settings = ["--headless", "--no-sandbox", f"--blink-settings=preferredColorScheme={number}"]
    command = [CHROMIUM, *settings, f"--user-data-dir={tmp_path / 'profile'}"]
    last = ["--virtual-time-budget=20000", "--dump-dom", (tmp_path / "x.html").as_uri()]
    done = subprocess.run([*command, *last], capture_output=True, text=True, timeout=300)
    start = done.stdout.index("data-found=") + len('data-found="')
    found = done.stdout[start : done.stdout.index(">", start) - 1].replace("&quot;", '"')
    colours = {"dark": "rgb(13, 17, 23)", "light": "rgb(255, 255, 255)"}
    # What is wider than the frame, pictures that are broken, and all: stages, timelapse, curves.
    assert json.loads(found) == [0, 0, 5, colours[scheme]]


def page_quoted(page):
    return page.replace("&", "&amp;").replace('"', "&quot;")
