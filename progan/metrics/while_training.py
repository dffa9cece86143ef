"""Metrics while training: which are due at a tick, and their values for the averaged generator."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from accelerate import Accelerator

from progan.config.config import Config
from progan.data.dataset import Dataset
from progan.metrics.evaluate import Evaluation, Stopped
from progan.metrics.inception import loader
from progan.metrics.inputs import Fakes, Reals
from progan.metrics.reference_cache import ReferenceCache
from progan.metrics.registry import make
from progan.model.networks import Generator
from progan.runtime.memory import explain_short_memory


class MetricsDuringTraining:
    """Measures on all processes together, without any influence on the training.

    Raises:
        UserError: a metric of the config cannot be computed here.
    """

    def __init__(self, config: Config, data: Dataset, G_ema: Generator, accelerator: Accelerator):
        self.every = config.run.metrics
        self.data = data
        self.G_ema = G_ema
        self.accelerator = accelerator
        self.full, self.mirror = config.network.resolution, config.data.mirror
        self.cache = Path(config.data.cache) if config.data.cache else None
        file = Path(config.run.inception) if config.run.inception else None
        self.load = loader(file, accelerator.device)
        for name in self.every:
            make(name, self.load)

    def due(self, tick: int, last: bool) -> list[str]:
        """Names of the metrics due at this tick; after the last image all of them."""
        return [name for name, ticks in self.every.items() if last or tick % ticks == 0]

    def measure(
        self,
        names: list[str],
        resolution: int,
        alpha: float | None,
        stopped: Callable[[], bool],
    ) -> dict[str, float]:
        """The metrics of the averaged generator as it is now; empty if a stop was requested.

        Raises:
            UserError: they take more memory than there is.
        """
        reals = Reals(self.data, self.full, self.mirror, self.accelerator.device)
        fakes = Fakes(self.G_ema, self.data, resolution, alpha, self.full)
        kept = ReferenceCache(self.cache, self.data, self.full, self.mirror)
        metrics = [make(name, self.load) for name in names]
        short_memory = explain_short_memory(
            lambda: f"while measuring {', '.join(names)}",
            "go on with fewer images, such as -o 'run.metrics={swd2000: 10}', or without them",
        )
        with suppress(Stopped), short_memory:
            return Evaluation(reals, self.accelerator, kept, stopped=stopped).measure(
                metrics, fakes
            )
        return {}
