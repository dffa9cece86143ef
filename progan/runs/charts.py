"""Curves in TensorBoard: what each shows, what is good, which share a chart. Loads no torch."""

import re
from collections.abc import Iterable

from progan.config.metric_names import PROTOCOLS, canonical, parts
from progan.runs.records import SECTION

LEFT_OUT = ("Progress/kimg", "Progress/tick")  # the axis itself, and a count of the points
ABOUT = {
    "Loss/D": "The critic's loss, with its penalty. With the paper's loss it is below 0, by the "
    "distance that the critic sees between reals and fakes. Good: it changes slowly within a "
    "phase, and jumps only where a resolution begins. It does not say how good images are: the "
    "critic learns, too.",
    "Loss/G": "The generator's loss; with the paper's, minus the mean score of fakes. Scores have "
    "no fixed zero, so the value itself says nothing. Good: it stays finite, and does not grow "
    "from tick to tick.",
    "Loss/scores/real": "The critic's mean score of reals. Good: above that of fakes, by a "
    "distance that does not grow. Scores in the thousands are a sign that training diverges.",
    "Loss/scores/fake": "The critic's mean score of fakes. Good: below that of reals, by a "
    "distance that does not grow.",
    "Loss/signs/real": "Mean sign of the scores of reals; `data.augment_target` is its aim. "
    "Near 1 the critic knows the reals by heart.",
    "Loss/labels/D": "The critic's loss on labels. Good: it falls.",
    "Loss/labels/G": "The loss on labels of fakes. Good: it falls, down to that of the critic.",
    "Loss/gradient_penalty": "The gradient penalty without its weight. With the paper's: the mean "
    "square of the gradient norm's distance from its target, 1. Good: it stays far below 1.",
    "Loss/gradient_norm": "The mean norm of the critic's gradient in the images, where the penalty "
    "takes it. With the paper's: good near its target, 1. r1 and r2 have no target; good: it does "
    "not grow from tick to tick.",
    "Loss/skipped": "Updates that were left out, as gradients were not finite; only ticks with "
    "some have a point. Good: no curve at all.",
    "Progress/resolution": "The resolution that is trained.",
    "Progress/alpha": "The weight of the newest layers: it rises from 0 to 1 while they fade in.",
    "Progress/batch_size": "Images in an update, over all processes.",
    "Progress/batch_gpu": "Images in a forward pass. Lower than planned where memory was short.",
    "Progress/learning_rate": "The learning rate (of the generator, where the critic has its own).",
    "Progress/learning_rate_D": "The critic's learning rate.",
    "Progress/variety": "How much samples differ from each other, relative to reals. Good: near 1. "
    "Far below it, samples look alike.",
    "Progress/penalty_weight": "The weight of the gradient penalty.",
    "Progress/drift": "The weight that keeps scores of reals near 0.",
    "Progress/label": "The weight of the loss on labels.",
    "Progress/augment_strength": "The share of images that are augmented.",
    "Timing/sec_per_kimg": "Seconds for 1,000 images, without pauses for samples and metrics. Each "
    "resolution takes longer than the one before.",
    "Timing/images_per_sec": "Images shown in a second, without pauses. Good: level in a phase.",
    "Timing/total_hours": "Hours of training, over all starts.",
    "Timing/hours_left": "Hours until the run ends, as they were likely at that tick.",
    "Timing/data_wait": "Share of the time that training waits for images. Good: near 0; else more "
    "data.workers may help.",
    "Resources/cpu_mem_gb": "Memory of the main process, in GiB. Good: level in a phase.",
    "Resources/peak_gpu_mem_gb": "The most memory of the GPU so far, in GiB.",
    "Resources/energy_kwh": "Energy that all GPUs have taken so far, over all starts, in kWh.",
    "fakes": "Samples of the same seeds at every tick. Good: sharper and as varied as the reals.",
    "reals": "Images of the data at this resolution, to compare with.",
}
DETAILS = {
    "floor": "What reals get against other reals: samples can hardly get below it.",
    "reals": "The same between reals. Samples that vary as much come near it.",
    "deviation": "The standard deviation over parts of the images.",
    "precision": "The share of fakes that lie among the reals. Higher is better.",
    "recall": "The share of reals that lie among the fakes: variety. Higher is better.",
}


def about(tag: str) -> str:
    """What a curve or a picture shows, and what is good; empty if it is unknown."""
    known = canonical(name) if (name := tag.removeprefix(SECTION)) != tag else None
    if known is None:
        return ABOUT.get(tag, "")
    kind, count, ending = parts(known)
    protocol = PROTOCOLS[kind]
    if level := re.fullmatch(r"at_(\d+)", ending):
        return f"Part of {known.partition('_')[0]}: patches of images of {level[1]}x{level[1]}."
    if ending:
        return DETAILS.get(ending, "")
    good = f" {protocol.better.capitalize()} is better." if protocol.better else ""
    return f"{protocol.what[0].upper()}{protocol.what[1:]}, from {count:,} fakes.{good}"


def is_drawn(tag: str, value: float) -> bool:
    """Whether a value is worth a point; all are in `stats.jsonl`."""
    return tag not in LEFT_OUT and (tag != "Loss/skipped" or value != 0)


def layout(metrics: Iterable[str]) -> dict[str, dict[str, list]]:
    """Charts of several curves, for `SummaryWriter.add_custom_scalars`: regexes of tags.

    Args:
        metrics: names of metrics that the run has, or will have.
    """
    charts = {
        "Training": {
            "losses of critic and generator": r"Loss/(D|G)$",
            "scores of reals and fakes: good if their distance does not grow": r"Loss/scores/",
            "gradient penalty: good if far below 1; norm: near 1": r"Loss/gradient_(penalty|norm)$",
            "variety of samples, relative to reals: good if near 1": r"Progress/variety$",
        },
        "Speed": {
            "images a second": r"Timing/images_per_sec$",
            "share of time that training waits for data: good if near 0": r"Timing/data_wait$",
        },
        "Metrics": metric_charts(metrics),
    }
    return {
        section: {title: ["Multiline", [tags]] for title, tags in some.items()}
        for section, some in charts.items()
        if some
    }


def metric_charts(metrics: Iterable[str]) -> dict[str, str]:
    """A chart for each metric with what real images get, and one of its levels."""
    charts = {}
    for name in sorted({name.partition("_")[0] for name in metrics}):
        kind = parts(name)[0]
        better = PROTOCOLS[kind].better
        good = {"swd": ": lower is better, down to the floor", "msssim": ": good if as in reals"}
        title = name + good.get(kind, f": {better} is better" if better else "")
        charts[title] = f"{SECTION}{name}(_floor|_reals|_precision|_recall)?$"
        if kind == "swd":
            charts[f"{name} by resolution of the patches' images"] = rf"{SECTION}{name}_at_\d+$"
    return charts
