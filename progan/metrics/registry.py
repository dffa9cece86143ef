"""Makes the metric that a name such as swd16k stands for."""

from collections.abc import Callable

from progan.config.metric_names import parse
from progan.metrics.fid import FID
from progan.metrics.inception import Inception
from progan.metrics.inception_score import InceptionScore
from progan.metrics.kid import KID
from progan.metrics.metric import Metric
from progan.metrics.msssim import MSSSIM
from progan.metrics.precision_recall import PrecisionRecall
from progan.metrics.swd import SWD

PLAIN: dict[str, Callable[[str, int], Metric]] = {"swd": SWD, "msssim": MSSSIM}
ON_FEATURES: dict[str, Callable[[str, int, Inception], Metric]] = {
    **{"fid": FID, "kid": KID, "is": InceptionScore, "pr": PrecisionRecall}
}


def make(name: str, inception: Callable[[], Inception]) -> Metric:
    """A new metric; those that need Inception share the one that `inception` returns.

    Raises:
        UserError: Inception or its class scores are missing.
    """
    kind, count = parse(name)
    if kind in PLAIN:
        return PLAIN[kind](name, count)
    return ON_FEATURES[kind](name, count, inception())
