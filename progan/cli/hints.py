"""What is meant by an unknown option, an argument too many or an unknown command."""

import re
import shlex
from collections.abc import Collection
from pathlib import Path

import click

from progan.config.hints import about, meant, plain, settings_for

# Words for options that a command may have, in the order in which they are looked for.
OPTIONS = {
    "--run-dir": "outdir out output output_dir out_dir save_dir results_dir result_dir logdir "
    "log_dir name run_name project exp exp_name experiment",
    "--out": "outdir output output_dir out_dir save_dir outfile file save",
    "--data": "dataset data_dir dataroot dataset_name train_data_dir source path images input "
    "folder root dir",
    "--config": "cfg preset model arch",
    "--resume": "checkpoint ckpt weights resume_from_checkpoint pretrained continue load pkl "
    "restore from_checkpoint",
    "--max-hours": "hours max_time time_limit",
    "--seeds": "seed num n count samples num_samples num_images nsamples",
    "--num": "n count samples num_samples num_images",
    "--metrics": "metric",
    "--class": "label label_idx class_idx class_id cls",
    "--grid": "as_grid montage nrow",
    "--max-resolution": "resolution res size image_size img_size",
    "--channels": "grey gray grayscale",
    "--allow-upscale": "upscale enlarge",
    "--json": "out output outfile save",
}
GPUS = (
    "gpus num_gpus n_gpus ngpus ngpu devices nproc nproc_per_node num_processes world_size "
    "local_rank distributed multi_gpu"
)
RUN = "network run snapshot checkpoint ckpt weights model pkl model_path resume load"
TRUNCATION = "trunc truncation truncation_psi psi"
COMMANDS = {
    "train": "fit training run start finetune",
    "train --resume RUN": "resume continue restart",
    "sample": "generate gen gen_images generate_images synthesize infer inference predict images",
    "evaluate": "eval test calc_metrics metrics fid score",
    "neighbours": "neighbors nearest memorization",
    "data info": "info inspect",
    "data prepare": "prepare dataset_tool preprocess convert",
    "data list": "list datasets",
    "config": "settings presets options",
    "checkpoint verify": "verify",
}


def explained(error: click.UsageError) -> click.UsageError:
    """The error, with what to write instead where that can be known."""
    if error.ctx is None:
        return error
    hint = ""
    if isinstance(error, click.NoSuchOption):
        hint = for_option(error.option_name, error.ctx.command)
    elif match := re.match(r"Got unexpected extra arguments? \((.*)\)", error.message):
        hint = for_argument(match[1].split(" ")[0], error.ctx)
    elif match := re.match(r"No such command '(.*?)'", error.message):
        hint = for_command(match[1], error.ctx.command.name)
    if not hint:
        return error
    return click.UsageError(f"{error.message.rstrip('.')}; {hint}", error.ctx)


def for_option(option: str, command: click.Command) -> str:
    """The command's own option, or the setting, that is meant by an unknown option."""
    known = {name for parameter in command.params for name in parameter.opts}
    word = plain(option)
    if isinstance(command, click.Group):
        return f"give a command first, such as progan train {option} …"
    if word in map(plain, GPUS.split()):
        return (
            "a process for each GPU: torchrun --nproc_per_node N -m progan train …, and "
            "-o run.device=cuda:1 takes one GPU of several"
        )
    if name := own_option(word, known):
        return f"use {name}"
    runs = [part for part in command.params if str(part.human_readable_name).startswith("RUN")]
    if runs and word in map(plain, RUN.split()):
        return "give the run or snapshot itself, without an option"
    if word in map(plain, TRUNCATION.split()):
        return "images are drawn without truncation, which StyleGAN has"
    settings = settings_for(option) if "-o" in known else []
    hints = " or ".join(f"-o {key}=…" for key, _ in settings)
    meaning = f" ({about(settings[0][0])})" if len(settings) == 1 else ""
    return f"use the setting {hints}{meaning}" if hints else ""


def own_option(word: str, known: Collection[str]) -> str:
    """Which of the options `known` is meant by a word, or nothing."""
    found = (name for name, words in OPTIONS.items() if plain(word) in map(plain, words.split()))
    return next((name for name in found if name in known), "")


def for_argument(word: str, ctx: click.Context) -> str:
    """The option that takes an argument too many."""
    known = {name for parameter in ctx.command.params for name in parameter.opts}
    given = shlex.quote(word)
    for override in ctx.params.get("overrides") or ():
        if "=" not in override and "=" not in word.strip("="):
            rest = given if word.strip("=") else "…"
            return f"settings take a = without spaces: -o {shlex.quote(override)}={rest}"
        if any(override.count(a) > override.count(b) for a, b in ("{}", "[]")):
            return f"a setting with spaces needs quotes: -o '{override} …'"
    key, equals, value = word.partition("=")
    if equals and (own := f"--{key}" if f"--{key}" in known else own_option(key, known)):
        return f"use {own} {shlex.quote(value)}"
    if equals and "-o" in known:
        other = "" if "." in key else meant(key, shlex.quote(value))
        return other.removeprefix("; ") or f"settings take -o: -o {given}"
    if "--resume" in known and (Path(word) / "config.yaml").is_file():
        return f"to go on with this run: progan train --resume {given}"
    options = ["--data", "--config", "--seeds", "--out"]
    if "--out" in known and Path(word).suffix:
        options.insert(0, "--out")
    option = next((option for option in options if option in known), None)
    return f"did you mean {option} {given}?" if option else ""


def for_command(word: str, group: str | None) -> str:
    """The command that is meant by a word in a group of commands."""
    from progan.data.sources.find import NAMED

    data = word in NAMED or Path(word).is_dir()
    if data and group == "data":
        return f"to see what is in it: progan data info {shlex.quote(word)}"
    if data:
        return f"to train on it: progan train --data {shlex.quote(word)}"
    found = [name for name, words in COMMANDS.items() if plain(word) in map(plain, words.split())]
    return f"did you mean progan {found[0]}?" if found else ""
