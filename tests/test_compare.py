"""`progan compare`: its table and picture, equal images and equal hours, odd files."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import launched
from PIL import Image

from progan.analysis import curves
from progan.analysis.compare import COLUMNS, compare_runs, draw, sentence
from progan.analysis.curves import chosen_metrics, read_runs
from progan.cli.main import main
from progan.config.metric_names import better, canonical, is_whole
from progan.runs.records import LIMIT
from progan.runtime.text import aligned, table


@pytest.fixture
def quick(monkeypatch):
    """Draws pictures without rendering pixels, for tests that need only the table."""
    monkeypatch.setattr("progan.model.grid.save_figure", lambda figure, path: None)


def make_run(path: str, results: dict[int, dict], hours: dict[int, float] | None = None) -> Path:
    """A run's folder with the results by nimg and, at each tick, the hours so far."""
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("run:\n  seed: 0\n")
    add(folder, *(line(nimg, **values) for nimg, values in results.items()))
    ticks = [{"nimg": nimg, "Timing/total_hours": h} for nimg, h in (hours or {}).items()]
    (folder / "stats.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))
    return folder


def line(nimg: object, **values: object) -> str:
    return json.dumps({"nimg": nimg, **{f"Metrics/{k}": v for k, v in values.items()}})


def add(folder: Path, *lines: str) -> None:
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(text + "\n" for text in lines)


def two_runs() -> None:
    """`growing` is fast and was evaluated three times, `full` is slow: twice."""
    fast = {100_000: 30.0, 200_000: 20.0, 300_000: 24.0}
    details = {"swd2000_at_16": 9.0, "swd2000_floor": 7.5, "msssim500_reals": 0.25}
    results = {n: {"swd2000": v, "msssim500": 0.3, **details} for n, v in fast.items()}
    make_run("growing", results, {100_000: 0.1, 400_000: 0.4})
    slow = {100_000: 40.0, 250_000: 34.0}
    results = {n: {"swd2000": v, "msssim500": 0.4, **details} for n, v in slow.items()}
    make_run("full", results, {250_000: 0.5})


def run(*arguments: object):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)], catch_exceptions=False)


def shown(*arguments: object) -> list[str]:
    """The lines of a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def refused(*arguments: object) -> str:
    """The message of a command that must end with exit code 2, and make nothing."""
    before = sorted(Path().rglob("*"))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert sorted(Path().rglob("*")) == before
    return result.output


def cells(lines: list[str]) -> list[list[str]]:
    """The table's cells, which are two or more blanks apart."""
    end = next(i for i, text in enumerate(lines) if " kimg: " in text or "plotted" in text)
    return [re.split(r"\s{2,}", text.strip()) for text in lines[:end]]


def values_of(name: str, metric: str = "swd2000") -> list[tuple]:
    ((found,), _) = read_runs([Path(name)])
    return [tuple(point) for point in found.metrics[metric]]


def test_a_table_by_hand():
    """Reference: lines written out; none ends in blanks."""
    rows = [("name", "n", "note"), ("a", "1", "x"), ("longer", "10", "")]
    lines = ["name     n  note", "a        1  x", "longer  10"]
    assert table(rows, left=(0, 2)).splitlines() == lines
    assert aligned(("a", "1"), (3, 4), gap="") == "a     1"


# The command, end to end


def test_the_command(here):
    """Reference: values written out. At 250 kimg growing is halfway between 20 and 24; full's last
    hours are growing's 0.3 at 300 kimg, so full, at 150 kimg by then, is a third of the way from
    40 to 34. Whole metrics alone are shown; similarity of pairs has no best. Nothing is on stderr,
    and nothing is written but the picture and the JSON."""
    two_runs()
    before = set(here.rglob("*"))
    result = run("growing", "full", "--json", "f.json")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert cells(lines) == [
        list(COLUMNS),
        ["growing", "swd2000", "24", "20", "200.0", "12m 00s", "400.0", "24m 00s"],
        ["full", "swd2000", "34", "34", "250.0", "30m 00s", "250.0", "30m 00s"],
        ["growing", "msssim500", "0.3", "-", "-", "-", "400.0", "24m 00s"],
        ["full", "msssim500", "0.4", "-", "-", "-", "250.0", "30m 00s"],
    ]
    assert len({len(text) for text in lines[:5]}) == 1 and len(lines[0]) <= 100
    assert lines[5:] == [
        "swd2000 at 250.0 kimg: growing 22, full 34; growing is ahead by 12",
        "swd2000 after 18m 00s: growing 24, full 38; growing is ahead by 14",
        "msssim500 at 250.0 kimg: growing 0.3, full 0.4",
        "msssim500 after 18m 00s: growing 0.3, full 0.4",
        "plotted in compare.png",
        "all figures in f.json",
    ]
    made = {path.name for path in set(here.rglob("*")) - before}
    assert made == {"compare.png", "f.json"}


def test_the_json(here, quick):
    """Reference: the files' own values, in images and hours; the sentences' values."""
    two_runs()
    shown("growing", "full", "--metrics", "swd2000", "--json", "f.json")
    content = json.loads(Path("f.json").read_text())
    growing, full = content["runs"]
    assert (growing["name"], growing["folder"]) == ("growing", "growing")
    assert (growing["nimg"], growing["hours"]) == (400_000, 0.4)
    assert list(full["metrics"]) == ["swd2000"]
    assert full["metrics"]["swd2000"] == [
        {"nimg": 100_000, "hours": pytest.approx(0.2), "value": 40},
        {"nimg": 250_000, "hours": 0.5, "value": 34},
    ]
    by_images, by_hours = content["comparisons"]
    assert by_images == {
        "metric": "swd2000",
        "clock": "nimg",
        "at": 250_000,
        "values": {"growing": 22, "full": 34},
        "ahead": "growing",
        "by": 12,
    }
    assert by_hours["at"] == pytest.approx(0.3) and by_hours["by"] == pytest.approx(14)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.svg", "a.pdf"])
def test_pictures(name, here):
    """Reference: Pillow's and XML's own readers and PDF's signature; the last line says that an
    old file is replaced."""
    two_runs()
    Path(name).write_text("old")
    assert shown("growing", "--out", name)[-1] == f"plotted in {name} (replaced)"
    if name.endswith("svg"):
        assert ET.parse(name).getroot().tag.endswith("svg")
    elif name.endswith("pdf"):
        assert Path(name).read_bytes().startswith(b"%PDF")
    else:
        with Image.open(name) as picture:
            picture.load()
            assert picture.format == "PNG" and picture.width == 11 * 120
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    assert not list(here.glob("*.partial*"))


def test_one_run(here, quick):
    """Reference: its own rows, and no sentence, as there is nothing to compare with."""
    two_runs()
    lines = shown("full")
    assert [row[:2] for row in cells(lines)[1:]] == [["full", "swd2000"], ["full", "msssim500"]]
    assert len(lines) == 4 and lines[-1] == "plotted in compare.png"


def test_only_the_main_process_acts(here, monkeypatch):
    """Reference: RANK, as torchrun sets it: another process says and writes nothing."""
    two_runs()
    launched(monkeypatch, rank=1)
    assert shown("full") == [] and not Path("compare.png").exists()


def test_needs_no_torch():
    """Reference: `sys.modules` of a fresh interpreter: not even matplotlib before it draws."""
    code = (
        "import sys, progan.cli.compare, progan.analysis.compare\n"
        "print({'torch', 'matplotlib', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("set()\n", 0), result.stderr


# Comparing


def test_ahead_by_the_metrics_own_direction(here, quick):
    """Reference: the protocols: a high Inception score is good, a low FID; precision and recall
    alone do not say who is ahead; ahead of the next run, not of the last."""
    both = {"pr50k_precision": 0.5, "pr50k_recall": 0.1}
    for name, score in (("a", 3.0), ("b", 7.0), ("c", 5.0)):
        make_run(name, {1000: {"is50k": score, "fid50k": 10 * score, **both}})
    lines = shown("a", "b", "c")
    assert "fid50k at 1.0 kimg: a 30, b 70, c 50; a is ahead by 20" in lines
    assert "is50k at 1.0 kimg: a 3, b 7, c 5; b is ahead by 2" in lines
    assert "pr50k_precision at 1.0 kimg: a 0.5, b 0.5, c 0.5" in lines
    assert ["b", "is50k", "7", "7", "1.0", "-", "1.0", "-"] in cells(lines)
    assert ["b", "pr50k_recall", "0.1", "-", "-", "-", "1.0", "-"] in cells(lines)
    assert " after " not in " ".join(lines[1:])  # hours, which no run has recorded


def test_equal_values(here, quick):
    """Reference: none is ahead of its equal, though a third run is behind."""
    for name, value in (("a", 4.0), ("b", 4.0), ("c", 5.0)):
        make_run(name, {1000: {"fid50k": value}})
    assert shown("a", "b", "c")[-2] == "fid50k at 1.0 kimg: a 4, b 4, c 5; none is ahead"
    (best, *_) = [row for row in cells(shown("a")) if "fid50k" in row]
    assert best[3] == "4"


def test_runs_that_do_not_meet(here, quick):
    """Reference: before its first evaluation a run has no value; nor has one without the metric,
    which has a row of dashes and is not compared."""
    make_run("early", {1000: {"swd100": 9.0}})
    make_run("late", {2000: {"swd100": 5.0}, 3000: {"swd100": 4.0}})
    make_run("other", {2000: {"fid50k": 5.0}})
    lines = shown("early", "late", "other")
    assert lines[-2] == "swd100 at 1.0 kimg: early 9, late (begins later)"
    assert ["other", "swd100", "-", "-", "-", "-", "2.0", "-"] in cells(lines)
    assert not [text for text in lines if text.startswith("fid50k at")]
    found = compare_runs(read_runs([Path("early"), Path("late")])[0], "swd100", "nimg")
    assert found.values == {"early": 9, "late": None} and found.ahead is found.by is None


def test_random_curves_against_numpy(here):
    """Reference: `numpy.interp`, of hours over images and then of values over either."""
    draw_from = np.random.default_rng(0)
    for i in range(20):
        truth, folders = {}, []
        for name in ("a", "b", "c"):
            nimg = np.sort(draw_from.choice(np.arange(1, 1000), 6, replace=False)) * 100
            ticks = np.sort(draw_from.choice(np.arange(1, 1000), 9, replace=False)) * 100
            ticks[-1], hours = 100_000, np.cumsum(draw_from.uniform(0.1, 1, 9))
            nimg[0], values = 10, draw_from.uniform(0, 9, 6)
            results = {int(n): {"fid50k": v} for n, v in zip(nimg, values, strict=True)}
            told = dict(zip(ticks.tolist(), hours.tolist(), strict=True))
            folders.append(make_run(f"{i}/{name}", results, told))
            at = np.interp(nimg, [0, *ticks], [0, *hours])
            truth[name] = {"nimg": (nimg, values), "hours": (at, values)}
        runs, _ = read_runs(folders)
        for clock in ("nimg", "hours"):
            found = compare_runs(runs, "fid50k", clock)
            x = min(truth[name][clock][0][-1] for name in truth)
            assert found.at == pytest.approx(x)
            for name, value in found.values.items():
                times, values = truth[name][clock]
                expected = None if x < times[0] else np.interp(x, times, values)
                assert value == pytest.approx(expected)
            known = sorted(value for value in found.values.values() if value is not None)
            if len(known) > 1:
                assert found.values[found.ahead] == known[0]
                assert found.by == pytest.approx(known[1] - known[0])
            assert sentence(found).startswith("fid50k ")


# Reading


def test_hours(here, quick):
    """Reference: 0 at 0 images, straight lines between ticks, none after the last; later lines of
    the same images replace earlier ones; a run without a tick has no hours at all."""
    results = {n: {"swd2000": 1.0} for n in (0, 500, 1000, 2500, 4001)}
    folder = make_run("a", results, {1000: 1.0, 4000: 4.0})
    with open(folder / "stats.jsonl", "a") as file:
        file.write('{"nimg": 4000, "Timing/total_hours": 7.0}\n{"nimg": 2000}\n')
        file.write('{"nimg": 0, "Timing/total_hours": 3.0}\n')
    assert [hours for _, hours, _ in values_of("a")] == [0, 0.5, 1, 4, None]
    assert (read_runs([folder])[0][0].nimg, read_runs([folder])[0][0].hours) == (4001, 7)
    (folder / "stats.jsonl").unlink()
    assert [hours for _, hours, _ in values_of("a")] == [0, None, None, None, None]
    assert cells(shown("a"))[1][-2:] == ["4.0", "-"]


def test_later_lines_replace_earlier_ones(here):
    """Reference: of the same images and metric the last line; other metrics stay; in order."""
    folder = make_run("a", {2000: {"swd2000": 5.0, "fid50k": 3.0}, 1000: {"swd2000": 8.0}})
    add(folder, line(2000, swd2000=4.0))
    assert values_of("a") == [(1000, None, 8), (2000, None, 4)]
    assert values_of("a", "fid50k") == [(2000, None, 3)]


BAD = [None, "x", True, float("nan"), float("inf"), -float("inf"), 10**400, 1e300, [1], {"a": 1}]


def test_torn_and_hostile_lines(here, quick):
    """Reference: the three good values; all else, down to brackets in brackets, is passed over. A
    negative value is one (KID may be), negative images and hours are none."""
    folder = make_run("a", {1000: {"swd2000": 5.0}, 2000: {"swd2000": 6.0, "kid50k": -0.25}})
    add(folder, *(line(3000, swd2000=bad, swd2000_floor=bad) for bad in BAD))
    add(folder, *(line(bad, swd2000=1.0) for bad in (*BAD, -1, 2.5)))
    add(folder, "", "[]", "7", "null", "[" * 100_000, '{"nimg": ' + "9" * 5000 + "}", "\0")
    add(folder, json.dumps({"nimg": 9, "swd2000": 1, "Metrics/": 1, "Metrics/$x$": 1, "M": {}}))
    add(folder, line(4000, **{"x" * 100_000: 1.0, "swd2000_é": 1.0, "swd2000_": 1.0, "swd9": 1.0}))
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b"\xff\xfe\x00\n" + line(3000, swd2000=2.0).encode()[:-5])
    stats = [{"nimg": n, "Timing/total_hours": bad} for bad in (*BAD, -1) for n in (1000, bad)]
    good = {"nimg": 2000, "Timing/total_hours": 0.5}
    content = "".join(json.dumps(tick) + "\n" for tick in [*stats, good]) + '{"nimg": 9000, "Tim'
    (folder / "stats.jsonl").write_text(content)
    assert values_of("a") == [(1000, 0.25, 5), (2000, 0.5, 6)]
    assert list(read_runs([folder])[0][0].metrics) == ["swd2000", "kid50k"]
    assert values_of("a", "kid50k") == [(2000, 0.5, -0.25)]
    assert cells(shown("a"))[1:] == [
        ["a", "swd2000", "6", "5", "1.0", "15m 00s", "2.0", "30m 00s"],
        ["a", "kid50k", "-0.25", "-0.25", "2.0", "30m 00s", "2.0", "30m 00s"],
    ]


def test_extreme_values_are_drawn(here):
    """Reference: no warning (they are errors here) at the limits of what counts as a number."""
    limit = LIMIT
    results = {0: {"kid50k": limit, "swd99": 1.0}, int(limit): {"kid50k": -limit, "swd99": 1.0}}
    make_run("a", results, {0: 1.0, 1: limit, 2: 0.0, int(limit): 0.0})
    make_run("b", {0: {"kid50k": 5e-324, "swd99": 0.0}})
    assert shown("a", "b")[-1] == "plotted in compare.png"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("swd", "swd16k"),
        ("swd16384", "swd16k"),
        ("swd2000", "swd2000"),
        ("swd_at_32", "swd16k_at_32"),
        ("pr50k_recall", "pr50k_recall"),
        ("swd9", None),
        ("swd2000_", None),
        ("swd2000 ", None),
        ("SWD", "swd16k"),
        ("_floor", None),
        ("", None),
    ],
)
def test_names(name, expected):
    """Reference: the protocols' own names; other names are rejected."""
    assert canonical(name) == expected


def test_what_is_whole_and_what_is_better():
    """Reference: written out, for each kind of result of a metric."""
    whole = ["swd16k", "msssim10k", "fid50k", "kid9999", "is50k", "pr50k_precision", "pr5_recall"]
    details = ["swd16k_at_32", "swd16k_floor", "msssim10k_reals", "kid50k_deviation", "pr50k"]
    assert [is_whole(name.replace("pr5_", "pr50k_")) for name in whole] == [True] * 7
    assert [is_whole(name) for name in details] == [False] * 5
    low = ["swd16k", "swd16k_at_32", "fid50k", "kid50k"]
    none = ["msssim10k", "swd16k_floor", "kid50k_deviation", "is50k_deviation", "pr50k_recall"]
    assert {better(name) for name in low} == {"lower"} and better("is50k") == "higher"
    assert {better(name) for name in none} == {None}


def test_asked_metrics(here):
    """Reference: those and no others, in the order asked, each once; details by name; precision
    and recall by the name of both; a protocol's short name."""
    two_runs()
    add(Path("full"), line(250_000, swd16k=3.0, pr50k_precision=0.5, pr50k_recall=0.25))
    runs, _ = read_runs([Path("growing"), Path("full")])
    asked = "msssim500, pr, swd2000_at_16,swd,swd2000_floor,msssim500"
    expected = ["msssim500", "pr50k_precision", "pr50k_recall", "swd2000_at_16", "swd16k"]
    assert chosen_metrics(runs, asked) == [*expected, "swd2000_floor"]
    everything = ["swd2000", "swd16k", "msssim500", "pr50k_precision", "pr50k_recall"]
    assert chosen_metrics(runs, None) == everything


# Names of runs


def test_run_names(here):
    """Reference: the shortest endings of the paths that differ; a run given twice is one run; a
    link counts as its target; the current folder has its own name."""
    for path in ("x/a/run", "y/a/run", "z/other"):
        make_run(path, {0: {"fid50k": 1.0}})
    Path("link").symlink_to("z/other")

    def names(*paths: str) -> list[str]:
        return [run.name for run in read_runs([Path(path) for path in paths])[0]]

    assert names("x/a/run", "z/other") == ["run", "other"]
    assert names("x/a/run", "y/a/run", "z/other") == ["x/a/run", "y/a/run", "other"]
    assert names("z/other", "z/../z/other/", "link") == ["other"]
    assert names("x/a/run/../run/.") == ["run"]


def test_odd_run_names(here):
    """Reference: the table's lines stay whole and no formula is set; long names are cut, unless
    they would be the same then; letters that the font lacks make no noise."""
    odd = ["_$a", "b$x^$", "c\td", "\udcff", "名", "n" * 60, "long-" * 5 + "1", "long-" * 5 + "2"]
    for name in odd:
        make_run(f"r/{name}", {0: {"fid50k": 1.0, "swd99_floor": 2.0, "swd99": 3.0}})
    lines = shown(*(f"r/{name}" for name in odd))
    found = [row[0] for row in cells(lines)[1:9]]
    cut = ["nnnnnnnn…nnnnnnnnnnnnn", "long-lon…g-long-long-1", "long-lon…g-long-long-2"]
    assert found == ["_$a", "b$x^$", "c\\td", "\\udcff", "名", *cut]
    assert max(map(len, found)) == curves.WIDTH
    for i in (1, 2):
        make_run(f"{'n' * 30}{i}{'n' * 30}", {0: {"fid50k": 1.0}})
    assert [len(run.name) for run in read_runs(sorted(here.glob("nnn*")))[0]] == [61, 61]


# The picture


def test_axes(here):
    """Reference: the runs' values: a row a metric, kimg on the left, minutes on the right, from 0;
    the reals' own value dashed; one legend with all runs; run and colour belong together."""
    two_runs()
    make_run("other", {1000: {"fid50k": 3.0}})  # no hours, one metric
    runs, _ = read_runs([Path("growing"), Path("full"), Path("other")])
    figure = draw(runs, ["swd2000", "msssim500", "swd2000_at_16", "fid50k"])
    axes = np.array(figure.axes).reshape(4, 2)
    left = [axis.get_ylabel() for axis in axes[:, 0]]
    assert left == ["swd2000", "msssim500", "swd2000_at_16", "fid50k"]
    bottom = [axis.get_xlabel() for axis in axes[-1]]
    assert bottom == ["images shown (kimg)", "minutes of training"]
    assert {axis.get_xlim()[0] for axis in axes.flat} == {0}
    titles = [axis.get_title(loc="left") for axis in axes[:2, 0]]
    assert titles[0] == "sliced Wasserstein distance of patches, lower is better"
    assert titles[1] == "similarity of pairs of fakes: high is little variety"
    growing, full, reals = axes[0, 0].lines
    assert growing.get_xydata().tolist() == [[100, 30], [200, 20], [300, 24]]
    assert growing.get_marker() != full.get_marker() and growing.get_marker() != "None"
    assert (reals.get_linestyle(), list(reals.get_ydata())) == ("--", [7.5, 7.5])
    minutes = axes[0, 1].lines[1].get_xydata()
    assert np.allclose(minutes, [[12, 40], [30, 34]])
    assert list(axes[1, 0].lines[-1].get_ydata()) == [0.25, 0.25]
    assert [len(axis.lines) for axis in axes.flat] == [3, 3, 3, 3, 2, 2, 1, 0]
    assert [text.get_text() for text in axes[3, 1].texts] == ["no times known"]
    assert axes[3, 0].lines[0].get_color() not in (growing.get_color(), full.get_color())
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["growing", "full", "other", "reals against reals"]


def test_long_runs_are_drawn_over_hours(here):
    """Reference: the runs' own hours, from two on; one short run is drawn over the same."""
    two_runs()
    make_run("long", {1000: {"swd2000": 9.0}}, {1000: 2.0})
    figure = draw(read_runs([Path("full"), Path("long")])[0], ["swd2000"])
    axis = figure.axes[1]
    assert axis.get_xlabel() == "hours of training"
    assert np.allclose(axis.lines[0].get_xydata(), [[0.2, 40], [0.5, 34]])
    assert axis.lines[1].get_xydata().tolist() == [[2, 9]]


def test_reals_of_different_data(here):
    """Reference: a dashed line for each value, named after its runs; the newest value of each."""
    for name, floor in (("a", 7.0), ("b", 7.0), ("c", 9.0)):
        results = {0: {"swd99": 20.0, "swd99_floor": 1.0}, 1: {"swd99": 9.0, "swd99_floor": floor}}
        make_run(name, results)
    figure = draw(read_runs([Path("a"), Path("b"), Path("c")])[0], ["swd99"])
    dashed = [axis for axis in figure.axes[0].lines if axis.get_linestyle() == "--"]
    assert [entry.get_ydata()[0] for entry in dashed] == [7, 9]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["a", "b", "c", "reals of a, b", "reals of c"]


# Mistakes


def test_a_mistake(here):
    """Reference: one message on stderr, exit code 2, no traceback, and nothing written."""
    result = run("nope")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: nope does not exist; give the folder of a run, such as runs/demo\n"
    )
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "Missing argument 'RUN…'"),
        ([""], "is empty; give a path"),
        (["full/config.yaml"], "Error: full/config.yaml is a file; give the folder of a run"),
        (["."], "Error: . is no run: it has no config.yaml; give the folder of a run"),
        (["full", "nope"], "Error: nope does not exist"),
        (["full", "--out", "f.gif"], "--out f.gif must end in one of .png, .svg, .pdf, .jpg"),
        (["full", "--out", "png"], "--out png must end in one of"),
        (["full", "--out", "no/f.png"], "--out no/f.png: there is no folder no"),
        (["full", "--out", "dir.png"], "--out dir.png: is a folder; give a file's name"),
        (["full", "--out", ""], "'--out': is empty"),
        (["full", "--json", "no/f"], "--json no/f: there is no folder no"),
        (["nope", "--out", "f.gif"], "--out f.gif"),  # before any run is read
        (["full", "--metrics", "swd200"], "no run has 'swd200' (did you mean 'swd2000'?); there"),
        (["full", "--metrics", "fid"], "no run has 'fid'; there is: swd2000, msssim500"),
        (["full", "--metrics", "swd2000,"], "no run has ''"),
        (["full", "--metrics", ""], "no run has ''"),
        (["full", "--metrics", "$^\n"], "no run has '$^'"),
    ],
)
def test_mistakes(arguments, expected, here):
    """Reference: the option, the value and the remedy are named, and nothing is left behind."""
    two_runs()
    Path("dir.png").mkdir()
    assert expected in refused(*arguments)


@pytest.mark.parametrize("text", [None, "", '{"nimg": 1}', '{"nimg": 1, "Metrics/x": 3}', "{"])
def test_runs_without_metrics(text, here, quick):
    """Reference: the others, with a note; alone the command that makes some is named."""
    two_runs()
    folder = make_run("bare", {})
    (folder / "metrics.jsonl").unlink()
    if text is not None:
        (folder / "metrics.jsonl").write_text(text)
    expected = shown("full", "growing")
    found = shown("full", "bare", "growing")
    assert "note: bare has no metrics yet" in found
    assert [text for text in found if text != "note: bare has no metrics yet"] == expected
    assert "bare has no metrics yet; make them with progan evaluate bare" in refused("bare")


def test_no_metric_in_common(here, quick):
    """Reference: the sentence that says what to do."""
    make_run("a", {1000: {"swd2000": 20.0}})
    make_run("b", {1000: {"swd500": 21.0}})
    assert any(text.startswith("no two runs have the same metric") for text in shown("a", "b"))
    assert not any(text.startswith("no two runs have the same") for text in shown("a"))


def test_too_many_metrics(here, quick):
    """Reference: all in the table, a dozen in the picture; those asked for, if any are."""
    results = {f"swd{100 + i}": 1.0 for i in range(curves.MOST + 1)}
    make_run("a", {0: results})
    lines = shown("a")
    assert [row[1] for row in cells(lines)[1:14]] == list(results)
    assert lines[-2] == "the picture has the first 12 of 13 metrics; --metrics chooses"
    lines = shown("a", "--metrics", ",".join(list(results)[1:]))
    assert len(lines) == 14 and lines[-1] == "plotted in compare.png"


def test_a_folder_in_place_of_a_file(here):
    """Reference: a sentence with the file's name; the folder stays."""
    folder = make_run("a", {0: {"swd99": 1.0}})
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    assert "Error: a/metrics.jsonl is a folder" in refused("a")
    assert (folder / "metrics.jsonl").is_dir()


def test_unlike_runs_are_noted(here, quick):
    """Reference: the settings that must agree for a metric to mean the same."""
    make_run("a", {1000: {"swd2000": 20.0}})
    make_run("b", {1000: {"swd2000": 21.0}})
    assert not [text for text in shown("a", "b") if text.startswith("note")]
    Path("b/config.yaml").write_text("network:\n  resolution: 64\n")
    note = "note: their network.resolution differs (128, 64): the metrics cannot be compared"
    lines = shown("a", "b")
    assert note in lines and not any("is ahead" in text for text in lines)


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("data.source", "cifar10, null"),
        ("data.max_images", "100, null"),
        ("data.fit", "crop, pad"),
        ("data.mirror", "false, true"),
        ("data.labels", "false, true"),
        ("network.channels", "1, 3"),
    ],
)
def test_what_the_images_depend_on_is_noted(setting, values, here, quick):
    """Reference: each setting that decides which images are compared."""
    section, key = setting.split(".")
    for name in ("a", "b"):
        make_run(name, {1000: {"swd2000": 20.0}})
    value = next(v for v in values.split(", ") if v not in ("null", "crop", "false", "3"))
    Path("b/config.yaml").write_text(f"{section}:\n  {key}: {value}\n")
    note = f"note: their {setting} differs ({values}): the metrics cannot be compared"
    assert note in shown("a", "b")
