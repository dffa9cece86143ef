"""Inception score: high if fakes are of clear classes, and of many; reals play no part.

Salimans et al., *Improved techniques for training GANs* (2016), over 10 splits.
"""

from torch import Tensor

from progan.metrics.inception import KNOWN, TORCH_FIDELITY, Inception, library
from progan.metrics.metric import Bar, Gather, Metric, Rows, alone, no_bar
from progan.runtime.errors import UserError

SPLITS = 10


class InceptionScore(Metric):
    """The score of `count` fakes, and its deviation over splits.

    Raises:
        UserError: the file of weights has no class scores.
    """

    def __init__(self, name: str, count: int, inception: Inception):
        super().__init__(name, reals=0, fakes=count)
        if not inception.has_scores:
            raise UserError(
                f"{name} needs Inception's class scores, which this --inception FILE lacks; "
                f"leave {name} out, or give {KNOWN[TORCH_FIDELITY]}"
            )
        self.inception = inception
        self.scores = Rows()

    def of(self, count: int) -> "InceptionScore":
        return InceptionScore(self.name, count, self.inception)

    def add(self, side: str, images: Tensor, first: int) -> None:
        self.scores.add(self.inception(images)[1], first)

    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        mean, deviation = score(self.scores.gathered(gather))
        return {self.name: mean, f"{self.name}_deviation": deviation}


def score(class_scores: Tensor) -> tuple[float, float]:
    """Mean and deviation over splits of class scores [N, classes] before the softmax."""
    result = library("metric_isc").isc_features_to_metric(class_scores, splits=SPLITS)
    return result["inception_score_mean"], result["inception_score_std"]
