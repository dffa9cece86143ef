"""The optimizers that a phase may have, by torch's names, and the options of each."""

from typing import Literal, get_args

OptimizerName = Literal["adam", "adamw", "rmsprop", "adagrad", "sgd", "lamb", "lars"]
Option = float | bool

ADAM: dict[str, Option] = {"beta1": 0.0, "beta2": 0.99, "eps": 1e-8}  # the paper's (App. A)
# Options by name, and what they are where a config has null.
OPTIONS: dict[str, dict[str, Option]] = {
    "adam": {**ADAM, "weight_decay": 0.0},
    "adamw": {**ADAM, "weight_decay": 0.01},
    "rmsprop": {"beta2": 0.99, "momentum": 0.0, "eps": 1e-8, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-10, "weight_decay": 0.0},
    "sgd": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "lamb": {**ADAM, "eps": 1e-6, "weight_decay": 0.0},
    "lars": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
}
# What each keeps of a parameter, besides a momentum_buffer where it has momentum.
KEEPS: dict[str, tuple[str, ...]] = {
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "rmsprop": ("step", "square_avg"),
    "adagrad": ("step", "sum"),
    "sgd": (),
    "lamb": ("exp_avg", "exp_avg_sq"),
    "lars": (),
}
assert OPTIONS.keys() == KEEPS.keys() == set(get_args(OptimizerName))


def momentum_of(optimizer: str) -> str | None:
    """The option that is its momentum."""
    return next((name for name in ("momentum", "beta1") if name in OPTIONS[optimizer]), None)
