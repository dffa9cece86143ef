"""Reads pickles of other projects: arrays of numpy, and inert stubs in place of their objects."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO

import numpy as np

from progan.runtime.pickles import Named, PlainReader, paired

ORDERS = {"<": "<", ">": ">", "=": "=", "|": "="}  # of bytes; the last: it has one
STUBS = {
    "tfutil Network",  # the official code
    "network Network",  # its older branch
    "models.utils.config BaseConfig",  # pytorch_GAN_zoo
}
DICTIONARIES = {"collections OrderedDict", "config EasyDict"}  # the latter of the official code
BASES = {
    f"{module} {name}" for module in ("__builtin__", "builtins") for name in ("object", "dict")
}
ARRAY = {"numpy ndarray"}
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class Stub:
    """In place of an object of another project's class: its state, and nothing that it does.

    Args:
        name: module and class, with a space between them.
    """

    def __init__(self, name: str):
        self.name = name
        self.state: Any = {}


class DType:
    """A dtype of numpy: its name, and the order of bytes, which a pickle gives later."""

    def __init__(self, name: Any, *_: object):
        if not isinstance(name, str) or name not in NUMBERS:
            raise ValueError("it holds an array of something else than numbers")
        self.name, self.order = name, "="


class PickleReader(PlainReader):
    """Builds plain data, arrays and stubs from one pickle; copies take at most twice its size.

    Args:
        calls, names: besides numpy's functions and the classes above.

    The others are as in `PlainReader`.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        calls: Mapping[str, Callable[..., Any]] | None = None,
        names: Collection[str] = (),
        persistent: Callable[[Any], Any] | None = None,
    ):
        self.left = 2 * size
        own: dict[str, Callable[..., Any]] = {
            "_codecs encode": lambda text, _: self.copied(text),  # bytes in protocols before 3
            **dict.fromkeys(("copy_reg _reconstructor", "copyreg _reconstructor"), self.made),
            "numpy dtype": DType,
            **(calls or {}),
        }
        for core in ("numpy.core", "numpy._core"):
            own[f"{core}.multiarray _reconstruct"] = blank
            own[f"{core}.multiarray scalar"] = lambda d, c: self.array((), d, c)[()]
            own[f"{core}.numeric _frombuffer"] = lambda c, d, s, o: self.array(s, d, c, o)
        names = STUBS | DICTIONARIES | BASES | ARRAY | set(names)
        super().__init__(file, size, own, names, persistent)

    def again(self, number: int) -> Any:
        """And no array, which would be converted at each of its places."""
        value = super().again(number)
        inner = value if type(value) is tuple else [value]
        if any(isinstance(each, np.ndarray) for each in inner):
            raise ValueError("it holds the same array in two places")
        return value

    def new(self, name: Any, *arguments: Any) -> Any:
        """A stub, or a dictionary, in place of an object."""
        given = [each for each in arguments if type(each) is not tuple or each]  # NEWOBJ's tuple
        if is_named(name, STUBS) and not given:
            return Stub(name)
        if is_named(name, DICTIONARIES) and len(given) < 2:
            items = given[0] if given else []  # of Python 2: a list of lists of two
            if type(items) is list and all(type(each) is list and len(each) == 2 for each in items):
                return paired([each for item in items for each in item])
        return super().new(name)

    def made(self, name: Any, base: Any, state: Any) -> Any:
        """In place of `copy_reg._reconstructor`, which protocols 0 and 1 have."""
        if not is_named(base, BASES):
            raise ValueError("it makes an object of an unknown base")
        it = self.new(name)
        return state if isinstance(it, dict) and isinstance(state, dict) else it

    def give(self, target: Any, state: Any) -> None:
        if isinstance(target, Stub):
            target.state = state
        elif isinstance(target, DType):
            target.order = ORDERS[state[1]] if isinstance(state[1], str) else ""
        elif type(target) is np.ndarray:
            _, shape, dtype, fortran, content = state
            self.array(shape, dtype, content, "F" if fortran else "C", target)
        else:
            super().give(target, state)

    def copied(self, content: Any) -> bytes:
        """As bytes, which Python 2 wrote as text.

        Raises:
            ValueError: a part of the file is to be copied again and again.
        """
        if not isinstance(content, str | bytes | bytearray):
            raise ValueError(f"it has a {type(content).__name__} where bytes should be")
        self.left -= len(content)
        if self.left < 0:
            raise ValueError("it copies a part many times")
        return content.encode("latin1") if isinstance(content, str) else bytes(content)

    def array(
        self, shape: Any, dtype: Any, content: Any, order: Any = "C", into: Any = None
    ) -> np.ndarray:
        """An array, if there are as many numbers as its shape needs; `into` may be an empty one."""
        if not isinstance(dtype, DType) or type(shape) is not tuple or len(shape) > 8:
            raise ValueError("it holds an array that is none of numbers")
        if not all(type(n) is int and 0 <= n <= self.size for n in shape):
            raise ValueError("it holds an array of a shape that cannot be")
        kind, numbers = np.dtype(dtype.order + dtype.name), self.copied(content)
        if math.prod(shape) * kind.itemsize != len(numbers):
            raise ValueError(f"an array of {shape} has {len(numbers):,} bytes")
        it: Any = np.empty(0) if into is None else into
        it.__setstate__((1, shape, kind, order == "F", numbers))
        return it


def blank(kind: Any, *_: object) -> np.ndarray:
    """In place of numpy's `_reconstruct`: an array whose state comes later."""
    if not is_named(kind, ARRAY):
        raise ValueError("it makes an array in an unknown way")
    return np.empty(0)


def is_named(value: Any, names: Collection[str]) -> bool:
    """Whether it is one of these names. Others, of any depth, are not hashed."""
    return type(value) is Named and value in names
