"""How often labels appear in samples and in the data, corrected for a classifier's errors."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from progan.analysis.classifier import Classifier, Trial
from progan.analysis.shares import class_intervals, class_shares, corrected, interval
from progan.model.grid import save_figure
from progan.runtime.text import percent, printable, table

CHANCE = 0.05  # share of the rows that are marked by chance alone
LEAST_ACCURACY = 0.6  # balanced, for an estimate; 0.5 is guessing
FEWEST_EACH = 10  # held-out images with a label, and without it, to measure its errors
MOST_SHOWN = 64  # rows of a table or a chart
MOST_SENTENCES = 10
DOUBT = (
    "The classifier may err more on samples that look unlike the data, which no number here shows. "
    "Look at the samples, too."
)
LONGEST_NAME = 30


@dataclass(frozen=True)
class Estimate:
    """A label's share of the samples.

    Args:
        low, high: the 95 % interval of the difference, samples - data.
    """

    samples: float
    low: float
    high: float
    difference: float

    @property
    def span(self) -> str:
        return f"{points(self.low)} … {points(self.high)}"


@dataclass(frozen=True)
class Row:
    """One label; all values are shares, 0 to 1.

    Args:
        data: share of the data's images.
        seen_in_reals, seen_in_samples: share of the held-out reals, or of the samples, in which
            the classifier sees the label.
        sensitivity: share of the reals with the label in which it sees it.
        specificity: share of the reals without the label in which it does not.
        estimate: None if the classifier is too weak, or was tested on too few images.
    """

    name: str
    data: float
    seen_in_reals: float
    seen_in_samples: float
    sensitivity: float
    specificity: float
    estimate: Estimate | None

    @property
    def accuracy(self) -> float:
        """Balanced: the mean over images with the label and images without it."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def verdict(self) -> str:
        if self.estimate is None:
            return "cannot tell"
        return (
            "amplified" if self.estimate.low > 0 else "lessened" if self.estimate.high < 0 else ""
        )

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        estimate = values.pop("estimate") or dict.fromkeys(f.name for f in fields(Estimate))
        return values | estimate | {"accuracy": self.accuracy, "verdict": self.verdict}


def compare_shares(classifier: Classifier, samples: Iterable[Any]) -> list[Row]:
    """A row for each label, the largest difference first and those without an estimate last.

    Args:
        samples: batches uint8 [n, C, r, r], arrays or tensors, with r the classifier's resolution
            times a power of two.
    """
    seen, count = np.zeros(len(classifier.labels.names), np.int64), 0
    for batch in samples:
        found = classifier.see(torch.as_tensor(batch))
        seen, count = seen + found.sum(0), count + len(found)
    assert count, "no samples"
    rows = rows_for(classifier, seen, count)
    return sorted(rows, key=lambda row: -abs(row.estimate.difference) if row.estimate else 1)


def rows_for(classifier: Classifier, seen: np.ndarray, count: int) -> list[Row]:
    """A row for each label, from the number of samples, of `count`, in which it was seen: [K]."""
    trial, rows = classifier.trial, []
    names, shares = classifier.labels.names, classifier.labels.shares.tolist()
    for k, (share, low, high) in enumerate(estimates(trial, seen, count)):
        data = shares[k]
        having, lacking = int(trial.having[k]), int(trial.lacking[k])
        found, spared = int(trial.found[k]), int(trial.spared[k])
        # The interval's centre is not quite the estimate, which it must contain all the same.
        ends = min(low, share) - data, max(high, share) - data
        row = Row(
            name=names[k],
            data=data,
            seen_in_reals=(found + lacking - spared) / (having + lacking),
            seen_in_samples=int(seen[k]) / count,
            sensitivity=found / max(having, 1),
            specificity=spared / max(lacking, 1),
            estimate=Estimate(share, *ends, difference=share - data),
        )
        if min(having, lacking) < FEWEST_EACH or row.accuracy < LEAST_ACCURACY:
            row = replace(row, estimate=None)
        rows.append(row)
    return rows


def estimates(trial: Trial, seen: np.ndarray, count: int) -> list[tuple[float, float, float]]:
    """The estimated share of each label and its interval's ends; arguments as of `rows_for`."""
    if trial.confusion is not None:
        shares = class_shares(seen, trial.confusion).tolist()
        lows, highs = class_intervals(seen, trial.confusion)
        return list(zip(shares, lows.tolist(), highs.tolist(), strict=True))
    by_label = zip(seen, trial.found, trial.having, trial.spared, trial.lacking, strict=True)
    found = []
    for seen_k, *errors in by_label:
        counts = int(seen_k), count, *map(int, errors)
        found.append((corrected(*counts), *interval(*counts)))
    return found


def points(difference: float) -> str:
    """`+17.0`: percentage points."""
    return f"{100 * difference:+.1f}"


def short(name: str) -> str:
    """The name in printable characters, cut if it is long."""
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def figures(rows: Sequence[Row], kind: str) -> str:
    """A table with a line for each label, in under 100 columns."""
    header = ["class" if kind == "classes" else "attribute", "data", "samples", "difference"]
    lines = [[*header, "95 % interval", "classifier", ""]]
    for row in rows[:MOST_SHOWN]:
        estimate = ["-", "-", "-"]
        if found := row.estimate:
            estimate = [percent(found.samples), points(found.difference), found.span]
        cells = [short(row.name), percent(row.data), *estimate, percent(row.accuracy), row.verdict]
        lines.append(cells)
    printed = table(lines, left=(0, len(lines[0]) - 1))
    if len(rows) > MOST_SHOWN:
        printed += f"\nand {len(rows) - MOST_SHOWN} more, with smaller differences"
    return printed


def sentences(rows: Sequence[Row]) -> list[str]:
    """The table in words."""
    known = [(row, row.estimate) for row in rows if row.estimate]
    marked = [(row, found) for row, found in known if row.verdict]
    said = [
        f"{short(row.name)}: {percent(row.data)} of the data, {percent(found.samples)} of the "
        f"samples ({points(found.difference)} points, 95 % interval {found.span})"
        for row, found in marked[:MOST_SENTENCES]
    ]
    if len(marked) > MOST_SENTENCES:
        said.append(f"and {len(marked) - MOST_SENTENCES} more that differ")
    by_chance = round(CHANCE * len(known))
    if marked and by_chance:
        said.append(f"(by chance alone about {by_chance} of {len(known)} rows would be marked)")
    if known and not marked:
        said.append("No share in the samples differs from the data's beyond chance.")
    if not known:
        said.append("No share can be estimated: the classifier recognizes none of the labels well.")
    elif len(known) < len(rows):
        said.append(
            f"cannot tell: the classifier is right in less than {percent(LEAST_ACCURACY, 0)} (50 % "
            f"is guessing), or was tested on fewer than {FEWEST_EACH} images with or without the "
            "label"
        )
    return [*said, DOUBT]


def chart(rows: Sequence[Row], title: str, path: Path) -> None:
    """A picture file with two bars for each label: its shares of the data and of the samples."""
    from matplotlib.figure import Figure

    shown = rows[:MOST_SHOWN]
    figure = Figure(figsize=(8.5, 1.9 + 0.42 * len(shown)), layout="constrained")
    axis = figure.add_subplot()
    draw_bars(axis, shown)
    if len(rows) > len(shown):
        title += f"\nthe {len(shown)} of {len(rows)} labels with the largest differences"
    axis.set_title(title, loc="left", fontsize=11, parse_math=False)
    save_figure(figure, path, dpi=150)


def draw_bars(axis: Any, rows: Sequence[Row]) -> None:
    """Rows from top to bottom; pale if the difference may be chance."""
    from matplotlib.ticker import PercentFormatter

    grey, strong, pale = "#8d99a6", "#d1495b", "#efb8bf"
    for y, row in enumerate(rows):
        axis.barh(y - 0.2, 100 * row.data, 0.38, color=grey)
        end = 100 * row.data
        note, colour = "cannot tell", "#777777"
        if found := row.estimate:
            note, colour = points(found.difference), strong if row.verdict else colour
            low, high = 100 * (row.data + found.low), 100 * (row.data + found.high)
            share, end = 100 * found.samples, max(end, high)
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
    axis.set_xlabel("share of the images; next to the bars the difference in points")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    labels = {"data": grey, "samples, with 95 % intervals": pale, "differing beyond chance": strong}
    handles = [axis.barh(0, 0, color=colour, label=label) for label, colour in labels.items()]
    axis.figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False)
