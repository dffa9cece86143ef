"""What is meant by an unknown option, an argument too many or an unknown command."""

import re
import shlex
from collections.abc import Collection
from pathlib import Path

import click

from progan.config.hints import KEYS, meant, plain, settings_for

# Words for options that a command may have, in the order in which they are looked for.
OPTIONS = {
    "--run-dir": "outdir out output output_dir out_dir save_dir results_dir result_dir logdir "
    "log_dir logging_dir outf name run_name project exp exp_name experiment",
    "--out": "outdir output output_dir out_dir save_dir outfile outf file save plot format o",
    "--data": "dataset data_dir dataroot dataset_name train_data_dir source path images input "
    "folder root dir d",
    "--config": "cfg c config_file preset model arch data dataset",
    "-o": "set override overrides option options opt opts cfg_options",
    "--dry-run": "n",
    "--plot": "out output outfile save png",
    "--sheet": "out output plot preview show grid",
    "--checkpoint": "run_dir",
    "--resume": "checkpoint ckpt weights resume_from_checkpoint continue load pkl "
    "restore from_checkpoint",
    "--init": "pretrained from_pretrained init_from initial transfer finetune fine_tune warm_start",
    "--freeze-d": "freezed freeze freeze_layers",
    "--max-hours": "hours time max_time time_limit",
    "--num": "n count samples num_samples num_images nsamples",
    "--seeds": "seed num n count samples num_samples num_images nsamples",
    "--metrics": "metric",
    "--class": "label label_idx class_idx class_id cls",
    "--grid": "as_grid montage nrow",
    "--max-resolution": "resolution res size image_size img_size",
    "--channels": "grey gray grayscale",
    "--allow-upscale": "upscale enlarge",
    "--json": "out output outfile save",
    "--device": "gpu gpu_id gpu_ids cuda",
}
GPUS = (
    "gpus num_gpus n_gpus ngpus ngpu devices nproc nproc_per_node num_processes world_size "
    "local_rank distributed multi_gpu"
)
# Words for what is given without an option, by what the argument's name begins with.
ARGUMENTS = {
    "RUN": (
        "the run or snapshot",
        "network run runs run_dir snapshot checkpoint ckpt weights "
        "model pkl model_path resume load best kimg",
    ),
    "PATH": ("the data", f"data {OPTIONS['--data']}"),
    "SOURCE": ("the data", f"data {OPTIONS['--data']}"),
    "DEST": ("the folder to write", f"dest destination out {OPTIONS['--out']}"),
}
# Words for what no option and no command does.
ANSWERS = {
    GPUS: "a process for each GPU: torchrun --nproc_per_node N -m progan train …; to choose one of "
    "several: -o run.device=cuda:1 for train, --device cuda:1 for others",
    "trunc truncation truncation_psi psi": "images are drawn without truncation, which StyleGAN "
    "has; progan sample --best-of 8 keeps the best of 8 latents of each seed",
    "optimizer optim weight_decay wd momentum": "optimizers and their options are settings, such "
    "as -o optim.optimizer=adamw -o optim.weight_decay=0.01",
    "overwrite force exist_ok restart": "a run starts anew in another --run-dir",
    "nhwc channels_last memory_format": "the layout of tensors in memory is chosen by itself",
    "quiet q silent verbose verbosity": "there is nothing more or less to print; "
    "add > run.log 2>&1 to keep it in a file",
    "help": "progan --help says what there is",
    "version v": "use progan --version",
    "stop kill": "Ctrl-C or touch RUN/stop ends a run, and nothing is lost",
    "tensorboard curves": "curves of all runs: tensorboard --logdir runs",
}
COMMANDS = {
    "train": "fit training run start",
    "train --init RUN": "finetune transfer",
    "train --resume RUN": "resume continue restart",
    "sample": "generate gen gen_images generate_images synthesize infer inference predict images",
    "find-rate": "lr_find find_lr lr_finder rate_finder range_test lr",
    "video": "interpolate interpolation gen_video walk morph",
    "timelapse": "progress history growing",
    "explore": "ui gui app gradio web visualizer visualize",
    "project": "projector projection invert inversion encode",
    "export": "onnx to_onnx torchscript save",
    "import": "convert_weights legacy load",
    "balance": "bias fairness shares",
    "report": "card model_card html",
    "evaluate": "eval test calc_metrics metrics fid score",
    "push": "upload publish share hub push_to_hub",
    "neighbours": "neighbors nearest memorization",
    "runs": "ls list_runs ps status jobs",
    "clean": "rm remove delete prune gc purge clear clear_cache",
    "show": "describe summary page",
    "data info": "info inspect",
    "data prepare": "prepare dataset_tool preprocess convert",
    "data list": "list datasets",
    "config": "settings presets options",
    "checkpoint verify": "verify",
    "train --data NAME --download": "download get fetch",
}


def explained(error: click.UsageError) -> click.UsageError:
    """The error, with what to write instead where that can be known."""
    if error.ctx is None:
        return error
    hint = ""
    if isinstance(error, click.NoSuchOption):
        hint = for_option(error.option_name, error.ctx.command)
    elif match := re.match(r"Got unexpected extra arguments? \((.*)\)", error.message):
        hint = for_argument(match[1].split(" "), error.ctx)
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
        return answer(word) or f"give a command first, such as progan train {option} …"
    for argument, (what, words) in ARGUMENTS.items():
        names = (str(part.human_readable_name) for part in command.params)
        if word in map(plain, words.split()) and any(name.startswith(argument) for name in names):
            return f"give {what} itself, without an option"
    if name := own_option(word, known):
        return f"use {name}"
    settings = settings_for(option) if "-o" in known else []
    hints = " or ".join(f"-o {key}=…" for key, _ in settings)
    meaning = f" ({KEYS[settings[0][0]]})" if len(settings) == 1 else ""
    if not hints:  # the version is asked for without a command
        return answer("verbose" if word == "v" else word)
    return f"use the setting {hints}{meaning}"


def answer(word: str) -> str:
    """What to do where nothing is called so, or nothing."""
    found = (text for words, text in ANSWERS.items() if word in map(plain, words.split()))
    return next(found, "")


def own_option(word: str, known: Collection[str]) -> str:
    """Which of the options `known` is meant by a word, or nothing."""
    found = (name for name, words in OPTIONS.items() if plain(word) in map(plain, words.split()))
    return next((name for name in found if name in known), "")


def for_argument(words: list[str], ctx: click.Context) -> str:
    """The option that takes the first argument too many."""
    word = words[0]
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
        return f"use {own} {'…' if value.lower() in ('true', 'false') else shlex.quote(value)}"
    if equals and "." in key and "-o" in known:
        return f"settings take -o: -o {given}"
    if "-o" in known and (equals or not Path(word).exists()):
        after = value if equals else "".join(words[1:2])
        other = meant(key, shlex.quote(after) if after else "…")
        if equals or other:
            nothing = f"no setting is called {key}: progan config lists all"
            return other.removeprefix("; ") or answer(plain(key)) or nothing
    if (Path(word) / "config.yaml").is_file() and "--resume" in known:
        return f"to go on with this run: progan train --resume {given}"
    if (Path(word) / "config.yaml").is_file() and "--config" in known:
        return f"did you mean --config {shlex.quote(f'{word}/config.yaml')}?"
    if "--grid" in known and re.fullmatch(r"\d+[x,]\d+", word):
        return "--grid takes no size: --seeds 0-15 makes a grid of 16 images"
    options = ["--data", "--config", "--seeds", "--out"]
    if re.fullmatch(r"\d[\d.,-]*", word) and not Path(word).exists():
        options = ["--seeds", "--length", "--num"]
    elif "--out" in known and Path(word).suffix:
        options.insert(0, "--out")
    option = next((option for option in options if option in known), None)
    return f"did you mean {option} {given}?" if option else ""


def for_command(word: str, group: str | None) -> str:
    """The command that is meant by a word in a group of commands."""
    from progan.data.sources.find import NAMED

    given = shlex.quote(word)
    if (Path(word) / "config.yaml").is_file():
        verify = group == "checkpoint"
        return f"for this run: progan {'checkpoint verify' if verify else 'train --resume'} {given}"
    data = word in NAMED or Path(word).is_dir()
    if data and group == "data":
        return f"to see what is in it: progan data info {given}"
    if data:
        return f"to train on it: progan train --data {given}"
    found = [name for name, words in COMMANDS.items() if plain(word) in map(plain, words.split())]
    if found:
        return f"did you mean progan {found[0]}?"
    all_of = f"progan {group}" if group in ("data", "checkpoint") else "progan"
    return answer(plain(word)) or f"{all_of} --help lists all commands"
