"""The energy that a run takes: counted by the driver, added up over processes and starts."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from progan.runs.checkpoint import Progress
from progan.runs.records import ENERGY
from progan.runtime import energy
from progan.runtime.energy import EnergyMeter, counted
from progan.training.statistics import spent

CUDA = torch.device("cuda", 0)


class FakeNVML(SimpleNamespace):
    """The package pynvml, as far as it is used: one GPU, whose count may fail."""

    class NVMLError(Exception):
        pass

    def __init__(self, reads):
        super().__init__(reads=iter(reads))

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-12ab"
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert handle == "handle"
        if (value := next(self.reads)) is None:
            raise self.NVMLError
        return value


def with_reads(monkeypatch, *reads):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML(reads))
    properties = SimpleNamespace(uuid="12ab")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


def alone(device=CUDA):
    return SimpleNamespace(device=device, num_processes=1)


def test_what_a_gpu_takes(monkeypatch):
    """Reference: differences of the driver's counts, mJ to J. Where one count fails, both
    differences with it are unknown."""
    with_reads(monkeypatch, 5_000, 7_500, 7_500, None, 9_000, 9_001)
    meter = EnergyMeter(alone())
    assert [meter.took() for _ in range(5)] == [2.5, 0.0, None, None, 0.001]


def test_where_nothing_counts(monkeypatch):
    """Reference: None for a CPU, without the package, and on a GPU that has no such count."""
    with_reads(monkeypatch, None)
    assert counted(torch.device("cpu")) is None and counted(CUDA) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an ImportError
    assert counted(CUDA) is None
    assert EnergyMeter(alone()).took() is None


@pytest.mark.parametrize(("other", "expected"), [([3_000, 0], 5.0), ([0, 1], None)])
def test_several_processes(monkeypatch, other, expected):
    """Reference: the sum with another process by hand; unknown if it has no count."""
    monkeypatch.setattr(energy, "summed", lambda _, mine: np.add(mine, other).tolist())
    with_reads(monkeypatch, 1_000, 3_000)
    assert EnergyMeter(alone()).took() == expected


def test_energy_is_kept_over_starts():
    """Reference: by hand. A checkpoint of a version that did not measure, or one start that did
    not, leaves the whole unknown."""
    run = Progress()
    run.spend(3600.0, 1.8e6)
    run.load_state_dict(run.state_dict())
    run.spend(1.0, 1.8e6)
    assert spent(run)[ENERGY] == 1.0 and run.seconds == 3601
    old = {k: v for k, v in run.state_dict().items() if k != "joules"}
    assert Progress.of(old).joules is None and ENERGY not in spent(Progress.of(old))
    run.spend(1.0, None)
    run.spend(1.0, 5.0)
    assert run.joules is None
    for joules in (-1.0, float("nan"), float("inf"), "1", True):
        with pytest.raises(ValueError, match="no run can be so far"):
            Progress.of(old | {"joules": joules})
