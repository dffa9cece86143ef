"""Random settings, words of commands and bytes of files: accepted or refused, at once.

400 settings and commands and 100 files, the same every time; five times as many by `-m slow`.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from conftest import assert_identical, flat
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from test_train import train

from progan.cli.main import main
from progan.config.batch_rules import check_batches
from progan.config.config import Config
from progan.config.load import load_config, validate
from progan.config.yaml_io import parse_yaml
from progan.model.sampling import generate
from progan.runs.checkpoint import read
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import digest, load_snapshot
from progan.runtime.errors import UserError
from progan.runtime.text import printable

SAME = settings(
    deadline=None,  # `bounded` ends a case that hangs
    phases=set(Phase) - {Phase.explain},  # it traces every line, which takes twenty times as long
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


ALL = "PROGAN_ALL_CASES"


def cases(count: int) -> settings:
    """All of them, or a fifth where the environment does not ask for all."""
    return settings(SAME, max_examples=count if ALL in os.environ else count // 5)


@contextmanager
def bounded(seconds: float):
    """Fails if the body takes longer, and limits it to 1 GiB of memory.

    That counts addresses: libraries that are loaded, and 64 MiB that glibc reserves per thread.
    """

    def too_long(number, frame):
        pytest.fail(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**30, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


# Settings


def keys_of(model: type[BaseModel], above: str = "") -> list[str]:
    """Every section and setting, as `section.key`."""
    found = []
    for name, field in model.model_fields.items():
        found.append(above + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys_of(field.annotation, f"{above}{name}.")
    return found


KEYS = keys_of(Config)
SETTINGS = [key for key in KEYS if "." in key]  # with loss.weights, a section itself
LAUGHS = "[&a0 [x]" + "".join(f", &a{i + 1} [*a{i}, *a{i}, *a{i}]" for i in range(40)) + "]"
MERGED = "[&a0 {x: 1}" + "".join(f", &a{i + 1} {{<<: [*a{i}, *a{i}]}}" for i in range(40)) + "]"
HEX = "0x" + "f" * 5000  # Python reads it and refuses to print it
BASE_60 = "1" + ":59" * 60000
USUAL = "1 2 3 4 8 16 64 1024 0.5 1e-3 0.1 true false null demo wgan logistic r1 crop bf16 raw"
NASTY = "0 -1 -0.0 5 48 2048 1e9 1e300 -1e300 1e-320 1e999 .nan .inf -.inf nan inf yes No on ~ ''"
NASTY += " '4' \"\\0\" 0x10 0b_ 0o7 1_000 9:99 2020-01-01 2020-13-45 2001-12-14t21:59:43.10-05:00"
NASTY += (
    " !!int !!int&x !!bool !!null !!str !!set{a} !!binary&x !!python/name:os.system !x &a *a <<"
)
NASTY += " @ ` % & * - ? | > : { } [ ] [[[ , # ''' \\ é ☃ \U0001f600 \x00 \ud800 \x85 \u2028 \ufeff"
BOMBS = [LAUGHS, MERGED, HEX, BASE_60, "9" * 400, "9" * 5000, "x" * 100_000, "[" * 1000]
BOMBS += ["&a [*a]", "&a {x: *a}", "{<<: [1]}", "&a {<<: *a}", f"{{? {HEX} : 1}}", f"{{4: {HEX}}}"]
BOMBS += ["!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp 1"]
BOMBS += ["a: b", "- a", "--- 1\n--- 2", "{4: 1, 4: 2}", "{[1]: 2}", "{{a: 1}: 2}", "!!map [1]"]
MAP_KEYS = "4 8 16 1024 3 48 2048 0 -4 4.0 '4' true null [1] start end decay power map value .nan"
INNER = ["linear", "cosine", "polynomial", "exponential", "cosin"]

SCALARS = st.one_of(
    st.sampled_from(USUAL.split(" ")),
    st.sampled_from(NASTY.split(" ")),
    st.sampled_from(BOMBS + INNER),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.text(max_size=12),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]"),
        st.lists(st.tuples(st.sampled_from(MAP_KEYS.split(" ")), inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=5,
)
PARTS = st.sampled_from(
    ["data", "run", "loss", "weights", "map", "value", "[key]", "4", "x", "seeed"]
)
UNKNOWN = st.one_of(
    st.sampled_from([*KEYS, "", ".", "netwrk.x", "a" * 3000 + ".b", "run" + ".x" * 3000]),
    st.lists(st.one_of(PARTS, st.text(max_size=5)), max_size=4).map(".".join),
    st.tuples(st.sampled_from(KEYS), PARTS).map(".".join),
)
ASSIGNMENTS = st.one_of(
    st.tuples(st.sampled_from(SETTINGS), VALUES).map("=".join),
    st.tuples(st.sampled_from(SETTINGS), st.sampled_from(USUAL.split(" "))).map("=".join),
    st.tuples(UNKNOWN, st.sampled_from(["=", "=", "=", "", " = "]), VALUES).map("".join),
)


def named_by(assignment: str) -> str:
    """Names that a refusal must contain: the known part of the key, and the first unknown one."""
    key = assignment.partition("=")[0].strip()
    known = max((k for k in KEYS if f"{key}.".startswith(f"{k}.")), key=len, default="")
    is_section = any(k.startswith(f"{known}.") for k in KEYS)
    rest = key[len(known) :].removeprefix(".").partition(".")[0]
    return f"{known}.{rest}".strip(".") if is_section or not known else known


@cases(1000)
@given(st.lists(ASSIGNMENTS, min_size=1, max_size=3))
@example([f"run.seed={HEX}"])
@example([f"schedule.batch_size={{? {HEX} : 1}}"])
@example([f"run.seed={BASE_60}"])
@example([f"data.source={MERGED}"])
@example(["schedule.batch_size=1000000000"])
def test_settings(overrides):
    """Reference: the promise of `load_config`: a config that survives YAML and makes a schedule
    whose batches fit, or a UserError that names a key of them, within five seconds."""
    with bounded(5):
        try:
            config = load_config(None, overrides)
            schedule = config.make_schedule()
        except UserError as error:
            assert any(named_by(a) in str(error) for a in overrides), str(error)[:1000]
            return
        content = parse_yaml(config.to_yaml(), "its YAML")
        assert validate(content, "its YAML") == config
        with suppress(UserError):
            check_batches(schedule, 3, config.network.stddev_group)


def test_every_setting_is_named_where_it_is_refused():
    """Reference: the model's own list of keys, each given a value that no setting accepts."""
    for key in SETTINGS:
        with pytest.raises(UserError, match=rf"^in -o:\s+{key}.* does not fit"):
            load_config(None, [f"{key}=[[]]"])


SECTION = st.dictionaries(st.sampled_from([k.split(".")[-1] for k in KEYS]), VALUES, max_size=3)
TEXTS = st.one_of(
    st.text(max_size=200).map(str.encode),
    st.binary(max_size=100),
    VALUES.map(lambda value: value.encode(errors="surrogatepass")),
    st.dictionaries(st.sampled_from(["data", "run", "schedule", "network", "x", "null"]), SECTION)
    .map(
        lambda content: "\n".join(
            f"{name}:" + "".join(f"\n  {key}: {value}" for key, value in section.items())
            for name, section in content.items()
        )
    )
    .map(lambda text: text.encode(errors="surrogatepass")),
    st.tuples(st.integers(0, 1500), st.integers(0, 30), st.binary(max_size=3)).map(
        lambda cut: replaced(Config().to_yaml().encode(), *cut)
    ),
)


def replaced(data: bytes, start: int, count: int, new: bytes) -> bytes:
    return data[:start] + new + data[start + count :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@cases(500)
@given(content=TEXTS)
@example(content=f"run: {{seed: {HEX}}}".encode())
@example(content=f"x: {MERGED}".encode())
def test_config_files(folder, content):
    """Reference: a config that makes a schedule, or a UserError that names the file; and a key of
    it, where it is YAML and a map."""
    path = folder / "my.yaml"
    path.write_bytes(content)
    with bounded(5):
        try:
            config = load_config(str(path))
        except UserError as error:
            text = str(error)
            assert str(path) in text, text[:1000]
            no_map = any(
                s in text for s in ("cannot read", "is not valid YAML", "must be a map of")
            )
            assert no_map or "unknown key" in text or any(key in text for key in KEYS), text[:1000]
            return
        try:
            config.make_schedule()
        except UserError as error:
            assert "schedule." in str(error)


def test_a_map_merged_twice_may_be_merged_again():
    """Reference: YAML's rule for `<<`: a key of the map itself wins, then the first that has it;
    and no key twice, wherever it is anchored."""
    text = "k: {deep: {a: &a {<<: &z {x: 0, y: 5}, x: 1}}}\nb: {<<: [*a, *z], y: 2}\nc: {<<: *a}"
    content = parse_yaml(text, "it")
    assert (content["b"], content["c"]) == ({"x": 1, "y": 2}, {"x": 1, "y": 5})
    for twice in ("{a: &a {x: 1, x: 2}, b: {<<: *a}}", "{k: {a: &a {x: 1, x: 2}}, b: {<<: *a}}"):
        with pytest.raises(UserError, match="the key 'x' is there twice"):
            parse_yaml(twice, "it")


# Commands


@pytest.fixture(scope="module")
def kept(photos, tmp_path_factory) -> Path:
    """A run with its checkpoints and snapshots, in its own folder."""
    run_dir = tmp_path_factory.mktemp("fuzz") / "run"
    train(photos, run_dir)
    return run_dir


@pytest.fixture
def here(kept, photos, monkeypatch) -> Path:
    """The current folder has a run and photos; slow work after the checks is skipped."""
    monkeypatch.chdir(kept.parent)
    monkeypatch.delenv("PROGAN_DATA", raising=False)
    if not Path("photos").exists():
        shutil.copytree(photos, "photos")  # commands may write there
        Path("broken.yaml").write_text("network: [")
        Path("empty.zip").touch()
    monkeypatch.setattr("progan.cli.train.start", lambda *_: None)
    monkeypatch.setattr("progan.cli.dry_run.dry_run", lambda *_: None)
    nothing = {"phases": [], "processes": 1}
    monkeypatch.setattr("progan.cli.bench.measure", lambda *_: nothing)
    monkeypatch.setattr("progan.cli.data.prepare_into", lambda *_, **__: None)
    return kept.parent


def commands_of(group: click.Group, *above: str) -> dict[tuple[str, ...], click.Command]:
    found = {}
    for name, command in group.commands.items():
        inner = isinstance(command, click.Group)
        found |= commands_of(command, *above, name) if inner else {(*above, name): command}
    return found


COMMANDS = commands_of(main)
WORDS = "run photos demo celeba mnist nowhere run/config.yaml broken.yaml empty.zip . run/snapshots"
WORDS += " photos/cats photos/dogs/00.png a.json nowhere/a.json a.png a.txt 0 1 4 8 4,8 8,7 1,2,3"
WORDS += " 0-3 1,5,8-11 5-1 0-1000001 -1 nan inf 1e9 1_0 x - -- --nonsense -x -o --config ٣ 0x10"
WORDS += " {0..3}.tar nope://a.tar cats file:///nowhere.tar"
ANY_WORD = st.one_of(
    st.sampled_from(["", *WORDS.split(" "), "9" * 5000, "x" * 5000, "é☃", "\udcff", "a\nb"]),
    st.text(st.characters(exclude_characters="/~.\0"), max_size=8),
)

FITTING = {
    "overrides": ["network.resolution=8", "run.seed=1", "schedule.total_kimg=1"],
    "config_name": ["demo", "mnist", "run/config.yaml"],
    "run": ["run"],
    "run_dir": ["run", "new"],
    "resume": ["run"],
    "source": ["run", "photos"],
    "json_file": ["a.json"],
    "resolutions": ["4", "4,8"],
    "seeds": ["0-3"],
    "workers": ["0"],
    "channels": ["1"],
    "storage": ["raw"],
    "crop": ["0,0,16"],
    "device": ["cpu"],
    **dict.fromkeys(["max_resolution", "max_images", "max_hours", "peak_tflops", "max_bad"], ["8"]),
}


TAKES_MINUTES = {("doctor",)}  # whatever it is given


@st.composite
def command_lines(draw) -> list[str]:
    """A command with some of its options and arguments, and at times a word too many."""
    name = draw(st.sampled_from(sorted(COMMANDS.keys() - TAKES_MINUTES)))
    words = list(name)
    for param in draw(st.permutations(COMMANDS[name].params)):
        if param.name == "download" or draw(st.integers(0, 9)) == 0:
            continue
        if isinstance(param, click.Option):
            if draw(st.integers(0, 2)):
                continue
            words.append(draw(st.sampled_from(param.opts)))
        if not getattr(param, "is_flag", False):
            anything = ASSIGNMENTS if param.name == "overrides" else ANY_WORD
            fitting = st.sampled_from(FITTING.get(param.name, ["photos", "a.png"]))
            words.append(draw(fitting if draw(st.booleans()) else anything).replace("\0", ""))
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(ANY_WORD))
    return words


def shown(word: str) -> list[str]:
    """The forms of a word that a message may contain: as it is, quoted, as a path, in ASCII, in
    printable lines."""
    key = [named_by(word)] if "=" in word else []
    lines = "\n".join(map(printable, word.split("\n")))
    return [word, repr(word), str(Path(word)), ascii(word)[1:-1], lines, *key]


@cases(500)
@given(words=command_lines())
@example(words=["sample", "run", "--class", "9" * 5000])
@example(words=["train", "--data", "\x7f"])
@example(words=["train", "--data", "\udcff"])
@example(words=["data", "list", "--root", "\udcff"])
@example(words=["compare", "\x1f\n"])
@example(words=["push", "run", ""])
@example(words=["clean", "--cache"])
def test_command_lines(here, words):
    """Reference: exit code 0, or 2 and a message that names a word of the command, or its key, or
    what is missing; no exception, and ten seconds at most."""
    # explore would serve its page until it is stopped.
    with bounded(10), patch("progan.outputs.explorer_page.serve"):
        result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert result.exit_code in (0, 2), result.output
    assert "Traceback" not in result.output
    if result.exit_code == 2:
        told = [form for word in words for form in shown(word)]
        told += ["Missing", "is empty", "''", "what to train on?", "data.source", "data.labels"]
        told += ["no folder runs"]  # the default
        assert any(word and word in result.output for word in told), result.output[:1000]


# Files


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "end", "insert", "repeat", "zero", "swap"]),
        st.one_of(st.integers(0, 400), st.integers(-2000, -1), st.integers(0, 10**6)),
        st.one_of(st.integers(1, 16), st.integers(1, 5000)),
        st.binary(min_size=1, max_size=16),
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list) -> bytes:
    for kind, at, count, new in edits:
        at %= len(data) or 1
        part = data[at : at + count]
        put = {
            "flip": bytes([part[0] ^ (1 << count % 8)]) + part[1:] if part else b"",
            "cut": b"",
            "insert": new + part,
            "repeat": part + part,
            "zero": bytes(len(part)),
            "swap": part[::-1],
        }
        data = data[:at] if kind == "end" else replaced(data, at, count, put[kind])
    return data


ODD = st.one_of(
    st.sampled_from([None, True, 0, -1, 1.5, 2**31, 2**40, 2**63, 2**64, 10**400, "", "x", [], {}]),
    st.sampled_from(["F64", "I32", "U32", "F16", "BF16", "BOOL", "F8_E4M3", "I64", "C64", "f32"]),
    st.lists(st.sampled_from([0, 1, 4, 8, 512, 2**20, 2**40, 2**62, -1]), max_size=4),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    ),
)
TOLD = ["config", "progress", "classes", "examples", "sha256", "progan", "more"]
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.just("__metadata__"), st.sampled_from(TOLD), ODD | ODD.map(json.dumps)),
        st.tuples(st.integers(0, 99), st.sampled_from(["dtype", "shape", "data_offsets"]), ODD),
        st.tuples(st.integers(0, 99), st.just("like"), st.integers(0, 99)),
        st.tuples(st.integers(0, 99), st.just("name"), st.text(max_size=5)),
    ),
    min_size=1,
    max_size=3,
)
LENGTHS = st.one_of(st.none(), st.sampled_from([0, 1, 100_000_001, 2**32, 2**63 - 1, 2**64 - 1]))


def parts_of(data: bytes) -> tuple[dict, bytes]:
    """The header and the weights of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_header(data: bytes, edits: list, length: int | None) -> bytes:
    """A safetensors file with another header, of another length than it says."""
    header, weights = parts_of(data)
    names = [name for name in header if name != "__metadata__"]
    for which, field, value in edits:
        if which == "__metadata__":
            header[which][field] = value
        elif field == "like":
            header[names[which % len(names)]] = header[names[value % len(names)]]
        elif field == "name":
            header[value] = header[names[which % len(names)]]
        else:
            entry = header[names[which % len(names)]]
            header[names[which % len(names)]] = entry | {field: value}
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + weights


def read_snapshot(folder: Path, data: bytes) -> Snapshot | None:
    """Read it, or return None if it is refused for any reason but memory."""
    path = folder / "changed.safetensors"
    path.write_bytes(data)
    with bounded(10):
        try:
            return load_snapshot(path)
        except UserError as error:
            assert path.name in str(error) and "memory" not in str(error)
            return None


def check_same(snapshot: Snapshot | None, original: bytes, folder: Path) -> None:
    """If it was read, assert that it equals what was saved."""
    if snapshot:
        saved = read_snapshot(folder, original)
        assert_identical(flat(saved.G.state_dict()), flat(snapshot.G.state_dict()))
        for name in ("config", "nimg", "resolution", "alpha", "data"):
            assert getattr(snapshot, name) == getattr(saved, name), name
        found, expected = (
            s.labels and (s.labels.names, s.labels.values) for s in (snapshot, saved)
        )
        np.testing.assert_equal(found, expected)


def newest(kept: Path, kind: str) -> bytes:
    return sorted((kept / kind).iterdir())[-1].read_bytes()


@cases(120)
@given(edits=EDITS)
def test_snapshots_with_other_bytes(kept, folder, edits):
    """Reference: the snapshot that was saved, or a refusal."""
    data = newest(kept, "snapshots")
    check_same(read_snapshot(folder, edited(data, edits)), data, folder)


@cases(120)
@given(edits=HEADERS, length=LENGTHS)
@example(edits=[(0, "shape", [2**20, 2**20]), (0, "data_offsets", [0, 2**42])], length=None)
def test_snapshots_with_another_header(kept, folder, edits, length):
    """Reference: the snapshot that was saved, or a refusal before memory is taken."""
    data = newest(kept, "snapshots")
    check_same(read_snapshot(folder, with_header(data, edits, length)), data, folder)


@pytest.mark.parametrize("dtype", ["I32", "U32"])
def test_snapshots_with_weights_of_another_type(kept, folder, dtype):
    """Reference: a refusal; the checksum is of bytes, and these are the same as other numbers."""
    data = newest(kept, "snapshots")
    count = len(parts_of(data)[0]) - 1
    for i in range(count):
        assert read_snapshot(folder, with_header(data, [(i, "dtype", dtype)], None)) is None


@cases(60)
@given(
    key=st.sampled_from(["progress", "progress", "classes", "examples", "config"]),
    value=ODD.map(json.dumps) | st.lists(ODD, min_size=3, max_size=3).map(json.dumps),
)
@example(key="progress", value='["x", 8, null]')
@example(key="progress", value="[-1, 8, null]")
@example(key="progress", value="[1, 1073741824, null]")
@example(key="progress", value="[1, 8.0, null]")
@example(key="progress", value='[1, 8, "x"]')
@example(key="progress", value="[1, 8, NaN]")
@example(key="progress", value="[1, 8, true]")
@example(key="progress", value="[1, 4, 0.5]")
@example(key="progress", value="[1" + "0" * 400 + ", 8, null]")
@example(key="progress", value="[" * 100_000)
@example(key="config", value=f"run: {{seed: {HEX}}}")
@example(key="config", value=f"x: {MERGED}")
def test_snapshots_signed_by_others(kept, folder, key, value):
    """Reference: the checksum, computed again here. Refused, or an image can be made with it."""
    header, _ = parts_of(newest(kept, "snapshots"))
    tensors = read_snapshot(folder, newest(kept, "snapshots")).G.state_dict()
    metadata = header["__metadata__"] | {key: value}
    told = [("__metadata__", key, value), ("__metadata__", "sha256", digest(tensors, metadata))]
    found = read_snapshot(folder, with_header(newest(kept, "snapshots"), told, None))
    if found:
        assert type(found.nimg) is int
        generate(found.G, [0], None, found.resolution, found.alpha)


@cases(200)
@given(edits=EDITS)
def test_checkpoints_with_other_bytes(kept, folder, edits):
    """Reference: the state that was saved, or an exception, and not of memory."""
    data = newest(kept, "checkpoints")
    path = folder / "changed.pt"
    path.write_bytes(edited(data, edits))
    with bounded(10):
        try:
            found = read(path)
        except Exception as error:
            assert not isinstance(error, MemoryError) and "memory" not in str(error)
            return
    path.write_bytes(data)
    assert_identical(flat(read(path)), flat(found))


@pytest.mark.slow
def test_all_cases():
    """Reference: this file's other tests, with all of their cases."""
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", __file__]
    result = subprocess.run(words, env=os.environ | {ALL: ""}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
