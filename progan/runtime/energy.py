"""The energy that GPUs take, as their drivers count it."""

import torch
from accelerate import Accelerator

from progan.runtime.distributed import summed


def counted(device: torch.device) -> int | None:
    """Millijoules that a device has taken since its driver was loaded; None if nothing counts them.

    NVIDIA's GPUs count since Volta, with memory and everything else on the board, whoever uses
    it. It takes the package nvidia-ml-py. CPUs count as well, but tell only the system's owner.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except (pynvml.NVMLError, AttributeError):
        return None  # an older GPU, or a part of one


class EnergyMeter:
    """What the devices of all processes take, from when it is made."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.last = counted(accelerator.device)

    def took(self) -> float | None:
        """Joules since the last call, of all processes, which all call it.

        Returns:
            None if one of them has no count: a part of a sum would be taken for the whole.
        """
        last, self.last = self.last, counted(self.accelerator.device)
        took = None if last is None or self.last is None else self.last - last
        millijoules, unknown = summed(self.accelerator, [took or 0, took is None])
        return None if unknown else millijoules / 1000
