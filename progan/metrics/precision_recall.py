"""Precision: the share of fakes among the reals; recall: the share of reals among the fakes.

Kynkäänniemi et al., *Improved precision and recall metric* (2019), with 3 neighbours.
"""

from torch import Tensor

from progan.metrics.features import OnFeatures
from progan.metrics.inception import library
from progan.metrics.metric import Bar, Gather, alone, no_bar
from progan.runtime.errors import UserError

NEIGHBOURS = 3


class PrecisionRecall(OnFeatures):
    """Gives `NAME_precision` and `NAME_recall`.

    The paper uses features of VGG16, this Inception's: compare only values of the same features.
    """

    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        sides = (self.features(side, gather).to(self.inception.device) for side in self.sides)
        both = precision_recall(*sides)
        return dict(zip((f"{self.name}_precision", f"{self.name}_recall"), both, strict=True))


def precision_recall(reals: Tensor, fakes: Tensor) -> tuple[float, float]:
    """Precision and recall of features [N, F] and [M, F].

    Distances are computed in blocks of 1000 rows, each a gigabyte with 50,000 features.

    Raises:
        UserError: there are too few images to have so many neighbours.
    """
    if min(len(reals), len(fakes)) <= NEIGHBOURS:
        raise UserError(f"pr needs more than {NEIGHBOURS} images on each side")
    result = library("metric_prc").prc_features_to_metric(
        fakes,
        reals,
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=1000,
        save_cpu_ram=True,
        verbose=False,
    )
    return result["precision"], result["recall"]
