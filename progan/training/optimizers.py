"""The optimizer of a network: of the kind and with the options that each phase has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from progan.config.optimizers import KEEPS
from progan.config.resolutions import ByResolution, at_resolution
from progan.model.growing import resolution_of
from progan.runtime.errors import UserError
from progan.runtime.extras import how_to_install

Groups = list[dict[str, Any]]


OF_TIMM = {"lamb": "Lamb", "lars": "Lars"}


def check_installed(kinds: Iterable[str]) -> None:
    """Raises UserError if one of these optimizers needs a library that is not there."""
    for kind in OF_TIMM.keys() & set(kinds):
        try:
            import timm.optim  # noqa: F401
        except ImportError:
            raise UserError(
                f"the optimizer {kind} needs timm: {how_to_install('optimizers')}"
            ) from None


def timm_optimizer(kind: str, groups: Groups, **options: Any) -> torch.optim.Optimizer:
    """One of timm's, which adapts the rate of each layer, also without weight decay."""
    check_installed([kind])
    from timm import optim

    made: torch.optim.Optimizer = getattr(optim, OF_TIMM[kind])(
        groups, always_adapt=True, **options
    )
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
    "lamb": Kind(lambda groups: timm_optimizer("lamb", groups, max_grad_norm=None), counts=True),
    "lars": Kind(lambda groups: timm_optimizer("lars", groups)),
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
        """Begin momentum at 0, from the first update on that has any.

        SGD's would be undefined if that is skipped. RMSprop makes its own with its other moments
        only, so a momentum that rises from 0 would find none.
        """
        if not self.inner.param_groups[0].get("momentum"):
            return
        for parameter in parameters:
            kept = self.inner.state[parameter]
            makes_all = KEEPS[self.kind] and not kept
            if "momentum_buffer" not in kept and not makes_all:
                kept["momentum_buffer"] = torch.zeros_like(parameter)

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
