"""Phases to try single steps with."""

from progan.config.curves import Ramp
from progan.config.schedule import Curve, Phase


def a_phase(
    resolution: int,
    fading: bool = False,
    start: int = 0,
    end: int = 8,
    batch_size: int = 8,
    batch_gpu: int | None = None,
    rate: float | Ramp = 0.001,
    optimizer: str = "adam",
    **options: float,
) -> Phase:
    """A phase of the paper's Adam, or of another optimizer with these options."""
    curve = Curve(rate, start, end) if isinstance(rate, Ramp) else Curve(rate)
    given = options or {"beta1": 0.0, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
    return Phase(
        resolution,
        fading,
        start,
        end,
        batch_size,
        batch_gpu,
        curve,
        curve,
        optimizer,
        tuple((name, Curve(value)) for name, value in given.items()),
    )
