"""Which file a run's first weights came from. No torch."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from progan.config.resolutions import is_resolution
from progan.config.value_types import LIMIT

MOST_NAME = 1000  # characters


@dataclass(frozen=True)
class Origin:
    """The networks that a run began with; kept in its checkpoints and snapshots.

    Args:
        name: of the file and of its run's folder: `faces/checkpoint-000240.000.pt`.
        sha256: of the file.
        nimg: images that the other run had shown.
        resolution: up to which its networks had been trained.
        licence: of its weights, where another project's file states one.
    """

    name: str
    sha256: str
    nimg: int
    resolution: int
    licence: str | None = None

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, state: Any) -> "Origin":
        """Raises ValueError if `state` is not what `state_dict` gives."""
        try:
            it = cls(**state)
            right = isinstance(it.name, str) and 0 < len(it.name) <= MOST_NAME
            right = right and re.fullmatch("[0-9a-f]{64}", it.sha256) is not None
            right = right and type(it.nimg) is int and 0 <= it.nimg <= 1000 * LIMIT
            right = right and type(it.resolution) is int and is_resolution(it.resolution)
            text = it.licence is None or isinstance(it.licence, str)
            right = right and text and len(it.licence or "") <= MOST_NAME
        except TypeError:
            right = False
        if not right:
            raise ValueError("what it says of its first weights is not what progan writes")
        return it
