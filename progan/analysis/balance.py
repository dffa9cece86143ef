"""How often labels appear in samples beside the data, allowing for a classifier's errors."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from progan.analysis.classifier import Classifier, Trial
from progan.analysis.shares import class_intervals, class_shares, corrected, interval
from progan.runtime.disk import write_atomically
from progan.runtime.text import percent, printable, table

CHANCE = 0.05  # so many rows are marked by chance alone
TELLING = 0.6  # balanced accuracy; 0.5 is guessing
FEWEST_EACH = 10  # held-out images with a label, and without it, to know its errors by
MOST_SHOWN = 64  # rows of a table or a chart
MOST_SENTENCES = 10
DOUBT = (
    "What is in no number: on samples that look unlike the data the classifier may err more. Look "
    "at them, too."
)
LONGEST_NAME = 30


@dataclass(frozen=True)
class Row:
    """One label; all values are parts of 1.

    data: its share of the data. seen_in_reals, seen_in_samples: how often the classifier sees it,
    in held-out reals and in samples. sensitivity, specificity: how often it sees it where it is,
    and does not where it is not. Where that says something, samples is the estimated share of the
    samples, and low … high the 95 % interval of samples - data; else they are None.
    """

    name: str
    data: float
    seen_in_reals: float
    seen_in_samples: float
    sensitivity: float
    specificity: float
    samples: float | None
    low: float | None
    high: float | None

    @property
    def accuracy(self) -> float:
        """Balanced: the mean over images with the label and images without it."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def difference(self) -> float | None:
        return None if self.samples is None else self.samples - self.data

    @property
    def verdict(self) -> str:
        if self.samples is None:
            return "cannot tell"
        return "amplified" if self.low > 0 else "lessened" if self.high < 0 else ""

    def to_dict(self) -> dict[str, Any]:
        more = {"difference": self.difference, "accuracy": self.accuracy, "verdict": self.verdict}
        return asdict(self) | more


def compare_shares(classifier: Classifier, samples: Iterable[Any]) -> list[Row]:
    """A row a label, the largest difference first and those that cannot be told last.

    Args:
        samples: batches uint8 [n, C, r, r], arrays or tensors, with r the classifier's resolution
            times a power of two.
    """
    seen, count = np.zeros(len(classifier.names), np.int64), 0
    for batch in samples:
        found = classifier.see(torch.as_tensor(batch))
        seen, count = seen + found.sum(0), count + len(found)
    assert count, "no samples"
    rows = rows_for(classifier, seen, count)
    return sorted(rows, key=lambda row: -1 if row.samples is None else abs(row.difference))[::-1]


def rows_for(classifier: Classifier, seen: np.ndarray, count: int) -> list[Row]:
    """Of all labels, each seen in so many of the samples, int64 [K]."""
    trial, rows = classifier.trial, []
    for k, (share, low, high) in enumerate(estimates(trial, seen, count)):
        data = float(classifier.shares[k])
        having, lacking = int(trial.having[k]), int(trial.lacking[k])
        found, spared = int(trial.found[k]), int(trial.spared[k])
        row = Row(
            name=classifier.names[k],
            data=data,
            seen_in_reals=(found + lacking - spared) / (having + lacking),
            seen_in_samples=int(seen[k]) / count,
            sensitivity=found / max(having, 1),
            specificity=spared / max(lacking, 1),
            samples=share,
            # The interval's centre is not quite the estimate, which it must hold all the same.
            low=min(low, share) - data,
            high=max(high, share) - data,
        )
        if min(having, lacking) < FEWEST_EACH or row.accuracy < TELLING:
            row = replace(row, samples=None, low=None, high=None)
        rows.append(row)
    return rows


def estimates(trial: Trial, seen: np.ndarray, count: int) -> list[tuple[float, float, float]]:
    """Of all labels, each seen in so many of the samples: their shares' (value, low, high)."""
    if trial.confusion is not None:
        columns = class_shares(seen, trial.confusion), *class_intervals(seen, trial.confusion)
        return [tuple(map(float, row)) for row in zip(*columns, strict=True)]
    by_label = zip(seen, trial.found, trial.having, trial.spared, trial.lacking, strict=True)
    found = []
    for seen_k, *errors in by_label:
        counts = int(seen_k), count, *map(int, errors)
        found.append((corrected(*counts), *interval(*counts)))
    return found


def points(difference: float) -> str:
    """`+17.0`: of hundred."""
    return f"{100 * difference:+.1f}"


def span(row: Row) -> str:
    return f"{points(row.low)} … {points(row.high)}"


def short(name: str) -> str:
    """Printable, whatever bytes a folder's name has, and not too long."""
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def figures(rows: Sequence[Row], exclusive: bool) -> str:
    """One line a label, in under 100 columns."""
    header = ["class" if exclusive else "attribute", "data", "samples", "difference"]
    lines = [[*header, "95 % interval", "classifier", ""]]
    for row in rows[:MOST_SHOWN]:
        told = ["-", "-", "-"]
        if row.samples is not None:
            told = [percent(row.samples), points(row.difference), span(row)]
        cells = [short(row.name), percent(row.data), *told, percent(row.accuracy), row.verdict]
        lines.append(cells)
    printed = table(lines, left=(0, len(lines[0]) - 1))
    if len(rows) > MOST_SHOWN:
        printed += f"\nand {len(rows) - MOST_SHOWN} more, with smaller differences"
    return printed


def sentences(rows: Sequence[Row]) -> list[str]:
    """What the table says, in words."""
    told = [row for row in rows if row.samples is not None]
    marked = [row for row in told if row.verdict]
    said = [
        f"{short(row.name)}: {percent(row.data)} of the data, {percent(row.samples)} of the "
        f"samples ({points(row.difference)} points, 95 % interval {span(row)})"
        for row in marked[:MOST_SENTENCES]
    ]
    if len(marked) > MOST_SENTENCES:
        said.append(f"and {len(marked) - MOST_SENTENCES} more that differ")
    by_chance = round(CHANCE * len(told))
    if marked and by_chance:
        said.append(f"(by chance alone about {by_chance} of {len(told)} rows would be marked)")
    if told and not marked:
        said.append("No share in the samples differs from the data's beyond chance.")
    if not told:
        said.append("Nothing can be told: the classifier sees none of the labels well enough.")
    elif len(told) < len(rows):
        said.append(
            f"cannot tell: the classifier is right in less than {percent(TELLING, 0)} (50 % is "
            f"guessing), or was tried on fewer than {FEWEST_EACH} images with or without the label"
        )
    return [*said, DOUBT]


def chart(rows: Sequence[Row], title: str, path: Path) -> None:
    """Bars of the data's and the samples' shares, a pair a label, as a picture file."""
    from matplotlib.figure import Figure

    shown = rows[:MOST_SHOWN]
    figure = Figure(figsize=(8.5, 1.9 + 0.42 * len(shown)), layout="constrained")
    axis = figure.add_subplot()
    draw_bars(axis, shown)
    if len(rows) > len(shown):
        title += f"\nthe {len(shown)} of {len(rows)} labels with the largest differences"
    axis.set_title(title, loc="left", fontsize=11, parse_math=False)
    suffix = path.suffix[1:].lower()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a label may be in any script
        write_atomically(path, lambda file: figure.savefig(file, format=suffix, dpi=150))


def draw_bars(axis: Any, rows: Sequence[Row]) -> None:
    """Down the axis in the order of the rows; pale where nothing is beyond chance."""
    from matplotlib.ticker import PercentFormatter

    grey, strong, pale = "#8d99a6", "#d1495b", "#efb8bf"
    for y, row in enumerate(rows):
        axis.barh(y - 0.2, 100 * row.data, 0.38, color=grey)
        end = 100 * row.data
        note, colour = "cannot tell", "#777777"
        if row.samples is not None:
            note, colour = points(row.difference), strong if row.verdict else colour
            low, high = 100 * (row.data + row.low), 100 * (row.data + row.high)
            share, end = 100 * row.samples, max(end, high)
            axis.barh(y + 0.2, share, 0.38, color=strong if row.verdict else pale)
            errors = [[share - low], [high - share]]
            axis.errorbar(share, y + 0.2, xerr=errors, color="#333333", capsize=2.5, lw=1.1)
        weight = "bold" if row.verdict in ("amplified", "lessened") else "normal"
        offset = {"xytext": (6, 0), "textcoords": "offset points"}
        axis.annotate(note, (end, y), **offset, va="center", size=9, color=colour, weight=weight)
    axis.set_yticks(range(len(rows)), [short(row.name) for row in rows], parse_math=False)
    axis.set_ylim(len(rows) - 0.45, -0.55)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.1)
    axis.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    axis.set_xlabel("share of the images; beside the bars the difference in points")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    labels = {"data": grey, "samples, with 95 % intervals": pale, "differing beyond chance": strong}
    handles = [axis.barh(0, 0, color=colour, label=label) for label, colour in labels.items()]
    axis.figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False)
