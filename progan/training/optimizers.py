"""The optimizer of a network: of the kind and with the options that each phase has."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from progan.config.optimizers import KEEPS
from progan.config.resolutions import ByResolution, at_resolution
from progan.model.growing import resolution_of
from progan.runtime.errors import UserError
from progan.runtime.extras import how_to_install

Groups = list[dict[str, Any]]


def timm_optimizer(name: str, groups: Groups, **options: Any) -> torch.optim.Optimizer:
    """One of timm's, which adapts the rate of each layer, also without weight decay."""
    try:
        from timm import optim
    except ImportError:
        raise UserError(
            f"the optimizer {name.lower()} needs timm: {how_to_install('optimizers')}"
        ) from None
    made: torch.optim.Optimizer = getattr(optim, name)(groups, always_adapt=True, **options)
    return made


class Kind(NamedTuple):
    """How an optimizer is made.

    Args:
        make: of groups of parameters.
        fused: it leaves a step out by itself where `found_inf` is 1; the device is not waited for.
        counts: its count of steps is one of a group.
    """

    make: Callable[[Groups], torch.optim.Optimizer]
    fused: bool = False
    counts: bool = False


KINDS = {
    "adam": Kind(lambda groups: torch.optim.Adam(groups, fused=True), fused=True),
    "adamw": Kind(lambda groups: torch.optim.AdamW(groups, fused=True), fused=True),
    "rmsprop": Kind(lambda groups: torch.optim.RMSprop(groups)),
    "adagrad": Kind(lambda groups: torch.optim.Adagrad(groups)),
    "sgd": Kind(lambda groups: torch.optim.SGD(groups, fused=True), fused=True),
    "lamb": Kind(lambda groups: timm_optimizer("Lamb", groups, max_grad_norm=None), counts=True),
    "lars": Kind(lambda groups: timm_optimizer("Lars", groups)),
}


class Optimizer:
    """Moves all parameters of a network that have gradients.

    Args:
        parameters: by name, as `network.named_parameters()`.
        block_rates: factor of the rate, by the resolution of a parameter's block.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], block_rates: ByResolution[float] = 1.0
    ):
        self.parameters = list(parameters.values())
        self.groups: dict[float, list[nn.Parameter]] = {}  # by factor
        for name, parameter in parameters.items():
            factor = at_resolution(block_rates, resolution_of(name))
            self.groups.setdefault(factor, []).append(parameter)
        self.restart("adam")

    def restart(self, kind: str) -> None:
        """Become an optimizer of this kind, without moments."""
        self.kind = kind
        self.inner = KINDS[kind].make([{"params": group} for group in self.groups.values()])

    def set(self, rate: float, options: Mapping[str, float]) -> None:
        """Set the learning rate and the options, which have the names of the config."""
        given: dict[str, Any] = dict(options)
        if "beta1" in given:
            given["betas"] = float(given.pop("beta1")), float(given.pop("beta2"))
        elif "beta2" in given:
            given["alpha"] = given.pop("beta2")
        for factor, group in zip(self.groups, self.inner.param_groups, strict=True):
            group.update(lr=rate * factor, **given)

    def apply(self, parameters: Sequence[Tensor], grads: list[Tensor]) -> Tensor:
        """Make one step, or none if a gradient is not finite.

        Returns 1.0 if the step was skipped, else 0.0 (0-dim). No parameter has a `.grad`
        afterwards. Only optimizers that are not fused wait for the device.
        """
        skipped = 1 - torch.stack(torch._foreach_norm(grads)).isfinite().all().float()
        if KINDS[self.kind].fused:
            self.inner.found_inf = skipped  # type: ignore[attr-defined]
        elif skipped.item():
            return skipped
        try:
            for parameter, grad in zip(parameters, grads, strict=True):
                # Fused optimizers ignore strides: other ones would move the wrong elements.
                assert grad.stride() == parameter.stride(), "gradients are not laid out as weights"
                parameter.grad = grad
            self.make_buffers(parameters)
            self.inner.step()
        finally:
            for parameter in parameters:
                parameter.grad = None
        return skipped

    def make_buffers(self, parameters: Sequence[Tensor]) -> None:
        """Begin SGD's momentum at 0: torch's would be undefined if the first step is skipped."""
        if self.kind == "sgd" and self.inner.param_groups[0]["momentum"]:
            for parameter in parameters:
                if "momentum_buffer" not in self.inner.state[parameter]:
                    self.inner.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def state_dict(self) -> dict[str, Any]:
        """Moments and counts of steps, by a parameter's place in the network."""
        places: dict[Tensor, int] = {parameter: i for i, parameter in enumerate(self.parameters)}
        kept = {places[parameter]: dict(moments) for parameter, moments in self.inner.state.items()}
        state: dict[str, Any] = {"optimizer": self.kind, "state": kept}
        if KINDS[self.kind].counts:
            groups = self.inner.param_groups
            state["counts"] = [torch.as_tensor(group.get("step", 0.0)) for group in groups]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` gave, laid out as the parameters: fused optimizers trust that.

        Raises:
            ValueError: they are not of these parameters.
        """
        name = state.get("optimizer", "adam")
        if name not in KINDS:
            raise ValueError(f"there is no optimizer {name!r}")
        kind, loaded = KINDS[name], {}
        for i, given in state["state"].items():
            parameter, keeps = self.parameters[i], set(KEEPS[name])
            if not keeps <= given.keys() <= keeps | {"momentum_buffer"}:
                raise ValueError(f"parameter {i} has {', '.join(given)}, and {name} other moments")
            loaded[parameter] = {
                key: laid_out(value, key, parameter, i) for key, value in given.items()
            }
        self.restart(name)
        self.inner.state.update(loaded)
        if kind.counts:
            for group, count in zip(self.inner.param_groups, state["counts"], strict=True):
                group["step"] = count.clone()


def laid_out(value: Tensor, name: str, parameter: nn.Parameter, i: int) -> Tensor:
    """A copy of a moment with the strides of its parameter, on its device; of a count likewise."""
    count = name == "step"
    shape, dtype = ((), torch.float32) if count else (parameter.shape, parameter.dtype)
    if value.shape != shape or value.dtype != dtype:
        raise ValueError(f"{name} of parameter {i} is not of its shape")
    if count:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter).copy_(value)
