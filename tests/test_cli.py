"""The commands as a user sees them: help, previews, and every mistake with its message."""

import logging
import os
import shutil
import struct
import zlib
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import options, progan
from PIL import Image

from progan.cli.hints import COMMANDS, OPTIONS
from progan.cli.main import main
from progan.cli.options import check_target
from progan.config import hints
from progan.config.load import load_config, presets
from progan.model.networks import Generator
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import save_snapshot
from progan.runtime.errors import UserError


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments: object) -> str:
    """The message of a command that must end with exit code 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROGAN_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize("command", [[], ["train"], ["sample"], ["schedule"], ["config"]])
def test_help(command):
    """Reference: every command explains itself and lists its options."""
    result = run(*command, "--help")
    assert result.exit_code == 0 and "Usage:" in result.output
    assert "-h, --help" in result.output


def test_the_list_of_commands_is_whole():
    """Reference: click's own mark for a sentence that is too long for a line of 80 columns."""
    listed = run("--help").output.partition("Commands:")[2]
    assert "sample" in listed and "..." not in listed


def test_every_option_says_what_it_takes():
    """Reference: click's names of types, which stand where an option has no word of its own."""
    for command in (*main.commands.values(), *main.commands["data"].commands.values()):
        shown = [p.make_metavar(click.Context(command)) for p in command.params]
        assert not {"TEXT", "INTEGER", "INTEGER RANGE", "NUMBER"} & set(shown), command.name


def test_module_and_errors_in_a_real_process(here):
    """Reference: a real `python -m progan`: exit code 2, one message on stderr, no traceback."""
    result = progan("train", "--data", "nowhere", cwd=here)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ") and "Traceback" not in result.stderr
    assert not list(here.iterdir()), "a refused command leaves nothing behind"


def test_dry_run_prints_config_and_phases(here):
    """Reference: the config printed is the config resolved; a line a phase; nothing is written."""
    result = run("train", "--data", "demo", "--dry-run", *options())
    assert result.exit_code == 0, result.output
    about, table, _, yaml = result.output.split("\n\n")
    assert "8,192 images of demo" in about and "run folder runs/demo: a new run" in about
    (here / "printed.yaml").write_text(yaml)
    assert load_config("printed.yaml") == load_config(
        "demo", [part for part in options() if part != "-o"]
    )
    lines = table.strip().splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == [
        "4x4 stable",
        "8x8 fading",
        "8x8 stable",
    ]
    assert all(word in lines[0] for word in ("images", "batch", "rate", "GFLOP", "time"))
    assert "total 0.1 kimg, about" in lines[4] and "3 phases from 4x4 to 8x8, 0.096" in lines[5]
    assert [path.name for path in here.iterdir()] == ["printed.yaml"]


@pytest.mark.parametrize(
    "command", [["train", "--data", "demo", "--dry-run"], ["train", "--data", "demo"], ["bench"]]
)
def test_a_run_that_would_end_below_its_resolution_is_refused(here, command):
    """Reference: configs/demo.yaml: 64x64 is stable when its 36 kimg end; 256x256 takes 56."""
    settings = ["--config", "demo", "-o", "network.resolution=256"]
    for output in (refused(*command, *settings), refused("schedule", *settings)):
        assert "ends at 64x64" in output and "after 50 kimg and has trained after 56" in output
    assert run("schedule", *settings, "-o", "schedule.total_kimg=null").exit_code == 0
    assert not list(here.iterdir())


def test_named_data_takes_its_preset(here):
    """Reference: configs/celeba.yaml, with nothing given but the name."""
    result = run("train", "--data", "celeba", "--dry-run", *tiny_networks())
    assert result.exit_code == 0, result.output
    assert "source: celeba" in result.output and "mirror: true" in result.output
    assert "128x128 stable" in result.output


def tiny_networks() -> list[str]:
    return ["-o", "network.channel_base=512", "-o", "network.channel_max=4"]


def test_schedule_table_and_plot(here):
    """Reference: the one-GPU schedule of the official code: 1024x1024 stable from 9600 kimg (to
    whole batches) until 12000; and a picture that is one. With trial updates the table has the
    time, and the picture is twice as wide."""
    result = run("schedule", "--config", "celeba-hq", "--plot", "s.png", "--no-time")
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if line.startswith("1024x1024 stable"))
    assert line.split()[2:4] == ["9600.0", "12000.0"]
    assert result.output.endswith("plotted in s.png\n")
    with Image.open("s.png") as picture:
        width = picture.size[0]
        assert width > 800 and np.asarray(picture.convert("L")).std() > 10
    again = run("schedule", *options(), "--plot", "s.png")
    assert "on this machine" in again.output
    assert again.output.endswith("plotted in s.png (replaced)\n")
    with Image.open("s.png") as picture:
        assert picture.size[0] == 2 * width


def test_config_to_edit(here):
    """Reference: the preset with the override; a file in the way keeps its content."""
    arguments = ["config", "--config", "demo", "-o", "run.seed=7", "--out", "my.yaml"]
    result = run(*arguments)
    assert result.exit_code == 0 and result.output.endswith("train --config my.yaml\n")
    config = load_config("my.yaml")
    assert config == load_config("demo", ["run.seed=7"])
    assert run("config", "--config", "my.yaml").output == Path("my.yaml").read_text()
    Path("my.yaml").write_text("mine")
    assert "my.yaml: the file exists" in refused(*arguments)
    assert Path("my.yaml").read_text() == "mine"
    assert "there is no folder nowhere" in refused(*arguments[:-1], "nowhere/my.yaml")
    assert run("config", "--out", "all.yaml").output.endswith("--config all.yaml --data FOLDER\n")
    assert sorted(path.name for path in here.iterdir()) == ["all.yaml", "my.yaml"]


def test_train_on_demo_and_sample(here):
    """Reference: the README's first steps, with the smallest run: grids, then seeds."""
    few = options(network__resolution=4, data__max_images=64)  # to draw all takes ten seconds
    result = run("train", "--data", "demo", *few)
    assert result.exit_code == 0, result.output
    assert "runs/demo" in result.output
    result = run("sample", "runs/demo", "--grid")
    assert result.exit_code == 0, result.output
    assert list(Path("samples-of-demo").glob("grid-*.png"))
    result = run("train", "--data", "demo", *few)
    assert result.exit_code == 0 and "already complete at 0.096 kimg" in result.output


def test_train_on_celeba_in_its_authors_layout(here, monkeypatch):
    """Reference: a tiny tree as the authors ship it; the preset reaches 128x128 (in few images),
    and the reals' grid shows the official crop."""
    folder = here / "data" / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    for i in range(4):
        image = Image.new("RGB", (178, 218), "black")
        image.paste("red", (89 - 64, 121 - 64, 89 + 64, 121 + 64))
        image.save(folder / f"{i + 1:06d}.jpg", quality=95)
    shorter = {"stable_kimg": 0.004, "fade_kimg": 0.004, "total_kimg": 0.044, "batch_size": 4}
    settings = [part for k, v in shorter.items() for part in ("-o", f"schedule.{k}={v}")]
    result = run("train", "--data", "celeba", *tiny_networks(), *settings)
    assert result.exit_code == 0, result.output
    with Image.open(here / "runs" / "celeba" / "images" / "reals-0128.png") as picture:
        pixels = np.asarray(picture)[8:128, 8:128]  # JPEG blurs the edge
    assert pixels[..., 0].min() > 200 and pixels[..., 1:].max() < 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedule", "--plot", "s.xyz"], "must end in one of .png"),
        (["schedule", "--plot", "nowhere/s.png"], "nowhere/s.png: there is no folder nowhere"),
        (["train", "--data", "demo", "--run-dir", "file/run"], "/file is a file; give a folder"),
        (["sample", "snapshot", "--out", "file"], "--out file is a file; give a folder"),
        (["sample", "snapshot", "--out", "file/x"], "--out file is a file; give a folder"),
        (["sample", "snapshot", "--out", "x.zip"], "--out x.zip.partial is a file"),
        (["sample", "snapshot", "--seeds", "0", "--out", "p.png"], "is a pipe or a device"),
        (
            ["sample", "snapshot", "--seeds", "0", "--out", "d"],
            "cannot write d/seed0000.png: there is a folder",
        ),
        (["sample", "snapshot", "--seeds", "0-99999999999"], "more than 1,000,000"),
    ],
)
def test_places_that_cannot_be_written(here, arguments, message):
    """Reference: the message names the place; it is an error of the system, not of ours."""
    for name in ("file", "x.zip.partial"):
        (here / name).write_text("mine")
    os.mkfifo("p.png")
    Path("d/seed0000.png").mkdir(parents=True)
    G = Generator(4, channel_base=64)
    config = load_config(None, ["network.resolution=4", "network.channel_base=64"])
    save_snapshot(Snapshot(here / "snapshot", G, config, 0, 4, None))
    extra = options(network__resolution=4) if arguments[0] == "train" else []
    assert message in refused(*arguments, *extra)
    assert (here / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "what to train on?"),
        (["--data", "deno"], "did you mean 'demo'"),
        (["--data", "lsun"], "lsun: not found; looked for"),
        (["--data", "celeba"], "img_align_celeba.zip"),
        (["--data", "cifar10"], "--download"),
        (["--data", "empty"], "no images in"),
        (["--data", "demo", "--config", "celebra"], "did you mean 'celeba'"),
        (["--data", "demo", "--config", "empty"], "cannot read config"),
        (["--data", "demo", "-o", "network.resolution=100"], "power of two"),
        (["--data", "demo", "-o", "schedule.stabel_kimg=1"], "did you mean 'stable_kimg'"),
        (["--data", "demo", "-o", "run.seed=x"], "run.seed: 'x'"),
        (["--data", "demo", "-o", "nonsense"], "section.key=value"),
        (["--data", "demo", "-o", "schedule.batch_gpu=6"], "must be divisible by batch_gpu"),
        (["--data", "demo", "-o", "schedule.batch_size=6"], "network.stddev_group"),
        (["--data", "demo", "-o", "run.tracker=tensorbord"], "did you mean 'tensorboard'"),
        (["--data", "demo", "-o", "run.tracker=swanlab"], "is not installed"),
        (["--data", "demo", "--run-dir", "full"], "holds something else"),
        (["--data", "demo", "--run-dir", "full/a.txt"], "is a file"),
        (["--resume", "full"], "no config.yaml"),
        (["--resume", "full", "--data", "demo"], "leave out --data"),
        (["--data", ""], "--data is empty"),
        (["--data", "demo", "--run-dir", ""], "is empty; give a path"),
        (["--data", "demo", "--config", ""], "cannot read config ''"),
        (["--data", "~nosuchuser/photos"], "no such path"),
        (["--data", "demo", "-o", "network.z_dim=1000000000"], "network.z_dim: 1000000000"),
        (["--data", "small", "-o", "network.resolution=64"], "-o network.resolution=16"),
        (["--data", "full/a.txt"], "is of no kind that can"),
        (["--data", "broken", *options()], "mending or removing the files"),
        (["--device", "cpu"], "use the setting -o run.device=…"),
        (["--penalty", "1"], "the setting -o loss.penalty=… or -o loss.weights.penalty=…"),
        (["--dta", "demo"], "Did you mean '--data'?"),
    ],
)
def test_mistakes(here, arguments, message):
    """Reference: the part of the message that says what to do. No mistake writes anything."""
    for name in ("empty", "full", "small", "broken"):
        (here / name).mkdir()
    (here / "full" / "a.txt").write_text("mine")
    Image.new("RGB", (20, 30)).save(here / "small" / "a.png")
    (here / "broken" / "a.png").write_bytes(b"no image")
    assert message in refused("train", *arguments)
    assert sorted(p.name for p in here.iterdir()) == ["broken", "empty", "full", "small"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train demo", "did you mean --data demo?"),
        ("train ./photos --dry-run", "did you mean --data ./photos?"),
        ("train runs/b", "to go on with this run: progan train --resume runs/b"),
        ("train run.seed=1", "settings take -o: -o run.seed=1"),
        ("train data=photos epochs=3", "use --data photos"),
        ("train imgsz=64", "did you mean -o network.resolution=64?"),
        ("train --ngpu 2", "torchrun --nproc_per_node N"),
        ("train --betas 0.5,0.9", "use the setting -o optim.beta1=… or -o optim.beta2=…"),
        ("train -o network={resolution:64}", "-o takes section.key=value"),
        ("train -o network.resolution=64.0", "must be a valid integer; write 64"),
        ("train -o schedule.batch_size={4:16,8:8}", "put a space after the colon: '4: 16'"),
        ('train -o schedule.batch_size={"4":16}', "; write its keys without quotes"),
        ("train -o data.source=010", "; put quotes around what is no number"),
        ("train resume=True", "use --resume …"),
        ("train patience=3", "no setting is called patience: progan config lists all"),
        ("train run.seed 1", "did you mean -o run.seed=1?"),
        ("train -n", "use --dry-run"),
        ("train --set lr=1", "use -o"),
        ("train --overwrite", "a run starts anew in another --run-dir"),
        ("train --n_critic 5", "-o loss.critic_updates="),
        ("train -o run.device=0", "must be auto, cpu, cuda, cuda:1 (any number)"),
        ("train -o training.lr=1", "unknown key training (did you mean 'schedule.learning_rate'?)"),
        ("sample runs/b --grid 4x4", "--grid takes no size: --seeds 0-15 makes a grid of 16 im"),
        ("sample runs/b --gpu 0", "use --device"),
        ("evaluate runs/b --gpus 1", "--device cuda:1 for others"),
        ("help", "progan --help says what there is"),
        ("schedule runs/b", "did you mean --config runs/b/config.yaml?"),
        ("config seed", "did you mean -o run.seed=…?"),
        ("data info --dataset x", "give the data itself, without an option"),
        ("data prepare a --out b", "give the folder to write itself, without an option"),
        ("data download", "did you mean progan train --data NAME --download?"),
        ("checkpoint runs/b", "for this run: progan checkpoint verify runs/b"),
        ("runs/b", "for this run: progan train --resume runs/b"),
        ("stop", "Ctrl-C or touch RUN/stop ends a run"),
        ("-v", "use progan --version"),
        ("train -v", "nothing more or less to print"),
        ("train --quiet", "nothing more or less to print"),
        ("train --freezed 4", "use --freeze-d"),
        ("train --pretrained runs/b", "use --init"),
        ("train --augpipe bgc", "use the setting -o data.augment=…"),
        ("train --nhwc 1", "is chosen by itself"),
        ("train --lr_warmup_steps 9", "use the setting -o schedule.learning_rate=…"),
        ("sample --network x.pkl", "give the run or snapshot itself, without an option"),
        ("sample runs/b --trunc 0.7", "images are drawn without truncation, which StyleGAN has"),
        ("predict", "did you mean progan sample?"),
        ("interpolate runs/b", "did you mean progan video?"),
        ("nonsense", "progan --help lists all commands"),
        ("data nonsense", "progan data --help lists all commands"),
        ("train --resume runs/b/config.yaml", "is a file; give the folder of a run, "),
        ("schedule celeba", "did you mean --config celeba?"),
        ("sample runs/b x.png", "did you mean --out x.png?"),
        ("sample runs/b 3-5", "did you mean --seeds 3-5?"),
        ("average runs/b 0.1", "did you mean --length 0.1?"),
        ("balance runs/b 100", "did you mean --num 100?"),
        ("import x.pkl --run-dir runs/x", "use --checkpoint"),
        ("neighbours runs/b faces", "did you mean --data faces?"),
        ("train --batch-size 8", "use the setting -o schedule.batch_size=… (images"),
        ("train --Batch_Size=8", "use the setting -o schedule.batch_size=…"),
        ("train --lr 0.1", "use the setting -o schedule.learning_rate=…"),
        ("train --epochs 3", "use the setting -o schedule.total_kimg=… (length of the run in thou"),
        ("train --seed 1", "use the setting -o run.seed=…"),
        ("bench --resolution 64", "use the setting -o network.resolution=…"),
        ("train --gpus 2", "torchrun --nproc_per_node N -m progan train …"),
        ("train --outdir x", "use --run-dir"),
        ("train --cfg x", "use --config"),
        ("sample --outdir x", "use --out"),
        ("sample --nsamples 16", "use --num"),
        ("data prepare a b --resolution 64", "use --max-resolution"),
        ("--data demo", "give a command first, such as progan train --data …"),
        ("demo", "to train on it: progan train --data demo"),
        ("data demo", "to see what is in it: progan data info demo"),
        ("generate", "did you mean progan sample?"),
        ("train -o lr=0.1", "did you mean -o schedule.learning_rate=0.1?"),
        ("train -o batch_size=8", "did you mean -o schedule.batch_size=8?"),
        (
            "train -o epochs=8",
            "did you mean -o schedule.total_kimg=… (length of the run in thousand",
        ),
        ("train -o network.lr=8", "network.lr (did you mean 'schedule.learning_rate'?)"),
        ("train --data demo -o network.resolution 64", "-o network.resolution=64"),
        ("train --data demo -o run.device = cpu", "without spaces: -o run.device=…"),
        ("train -o schedule.batch_size={4: 16}", "quotes: -o 'schedule.batch_size={4: …'"),
        ("train --data demo --network.resolution 64", "use the setting -o network.resolution=… ("),
        ("train -o data.label=true", "data.label (did you mean 'labels'?)"),
        ("sample nowhere", "no such run or snapshot: nowhere; runs in runs, newest first:"),
        ("sample b", "no such run or snapshot: b; did you mean runs/b?"),
        ("sample runs/bb", "(did you mean 'runs/b'?)"),
        ("sample run/b", "no such run or snapshot: run/b; did you mean runs/b?"),
        ("train --resume b", "b is no run: it has no config.yaml; did you mean runs/b?"),
        *(
            (command, "; runs in runs, newest first:\n  runs/b\n  runs/a\n")
            for command in ("sample runs", "evaluate runs", "neighbours runs", "balance runs")
        ),
        ("report demo", "config.yaml; the network demo that comes with progan has no run\n"),
        ("compare runs", "newest first:\n  runs/b\n  runs/a\n"),
        ("checkpoint verify runs", "newest first:\n  runs/b\n  runs/a\n"),
        ("train --resume runs", "newest first:\n  runs/b\n  runs/a\n"),
    ],
)
def test_what_newcomers_write_leads_to_the_right_option(here, command, message):
    """Reference: what does it, by hand. No mistake writes anything. Another program's config.yaml
    makes no run of a folder."""
    for name, time in (("a", 1), ("b", 2), ("hydra", 3)):
        (here / "runs" / name).mkdir(parents=True)
        for file in ("config.yaml", *["stats.jsonl"] * (name != "hydra")):
            (here / "runs" / name / file).write_text("")
            os.utime(here / "runs" / name / file, (time, time))
    assert message in refused(*command.split())
    assert [path.name for path in here.iterdir()] == ["runs"]


def test_hints_name_what_there_is():
    """Reference: the settings, and the options of the commands."""
    assert set(hints.WORDS) <= {key + end for key in hints.KEYS for end in ("", "=")}
    options = {
        name
        for command in [*main.commands.values(), *main.commands["data"].commands.values()]
        for parameter in command.params
        for name in parameter.opts
    }
    assert set(OPTIONS) <= options
    for name in COMMANDS:
        first, *rest = name.split()
        assert first in main.commands
        assert not rest or rest[0].startswith("--") or rest[0] in main.commands[first].commands


def test_a_few_bad_images_are_counted_named_and_left_out(photos, here, monkeypatch):
    """Reference: three files broken in known ways among 24 good ones; stderr names the list."""
    folder = here / "mixed"
    folder.mkdir()
    for path in photos.rglob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "bad-a.png").write_bytes(b"")
    (folder / "bad-b.jpg").write_bytes(b"not an image")
    (folder / "bad-c.png").write_bytes(bomb())
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    result = run("train", "--data", folder, *options())
    assert result.exit_code == 0, result.output
    assert "left out 3 bad images" in result.stderr and "24 images of" in result.stdout
    listing = Path(result.stderr.split("named in ")[1].split("\n")[0]).read_text()
    assert [line.split(":")[0] for line in listing.splitlines()] == [
        "bad-a.png",
        "bad-b.jpg",
        "bad-c.png",
    ]
    assert "data.max_bad" in refused(
        "train", "--data", str(folder), *options(data__max_bad=2), "--run-dir", "r"
    )


def bomb() -> bytes:
    """A PNG whose header claims 40000 x 40000 pixels."""
    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + crc


def test_groups_of_three_can_be_previewed(here):
    """Reference: a batch of six with groups of three, as our own message proposes."""
    settings = options(schedule__batch_size=6, network__stddev_group=3)
    assert run("train", "--data", "demo", "--dry-run", *settings).exit_code == 0


def test_a_relative_source_in_a_config_can_be_resumed_from_anywhere(photos, here, monkeypatch):
    """Reference: the absolute path in the run's config, as for --data."""
    shutil.copytree(photos, here / "mine")
    (here / "c.yaml").write_text("data: {source: mine}")
    assert run("train", "--config", "c.yaml", *options()).exit_code == 0
    assert f"source: {here / 'mine'}" in (here / "runs" / "mine" / "config.yaml").read_text()
    (here / "else").mkdir()
    monkeypatch.chdir(here / "else")
    shutil.rmtree(here / "mine")  # what is complete needs no data
    assert "already complete" in run("train", "--resume", "../runs/mine").output


def test_a_class_without_a_usable_image_is_refused(photos, here):
    """Reference: a third class folder with one broken file; the message names the class."""
    shutil.copytree(photos, here / "photos")
    (here / "photos" / "owls").mkdir()
    (here / "photos" / "owls" / "a.png").write_bytes(b"broken")
    assert "no image of class owls" in refused(
        "train", "--data", "photos", *options(data__labels="true")
    )


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_previewed(here, name):
    """Reference: a line a phase, and the total of the file."""
    result = run("schedule", "--config", name)
    assert result.exit_code == 0
    total = load_config(name).make_schedule().total_nimg / 1000
    assert result.output.splitlines()[-1] == f"total {total:,.1f} kimg"


def test_what_a_message_names_cannot_speak_to_the_terminal(here):
    """Reference: the escape sequence in a file's name, written out."""
    output = refused("compare", "\x1b[31mred")
    assert "\x1b" not in output and "\\x1b[31mred does not exist" in output


@pytest.mark.parametrize("name", ["snapshot-1.safetensors", "checkpoint-1.pt", "config.yaml"])
def test_no_result_replaces_a_part_of_a_run(here, name):
    """Reference: the file as it was; the same name is free where there is none."""
    assert check_target(here / name) == str(here / name)
    (here / name).write_text("weeks of work")
    with pytest.raises(
        UserError, match="would replace a network, or settings of a run; give another name"
    ):
        check_target(here / name)
