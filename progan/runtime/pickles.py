"""Reads pickles, and builds nothing but numbers, texts, lists, tuples and dictionaries.

`pickle.load` runs whatever code a file asks for. Here a pickle is read operation by operation:
nothing is imported, and of what it names only functions of ours are called, those on a list.
"""

import pickletools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, BinaryIO

MOST_OPERATIONS = 200_000  # of a pickle; the official networks at 1024x1024 take 10,000
MOST_VALUE = 2**29  # bytes of a value, which is an array's numbers if it is large
MOST_LINE = 2**20  # bytes of a value that is written as text
VALUES = {  # operations whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),  # Python 2's, as Latin-1
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}


class UnknownNameError(ValueError):
    """A pickle names a class or a function that is not on the list."""

    def __init__(self, name: str):
        super().__init__(f"it names {name[:100].replace(' ', '.', 1)}, which is not read")
        self.name = name


class Named(str):
    """A name in a pickle, which stands for a class or a function: `module name`."""


class PlainReader:
    """Builds plain data from one pickle, of any protocol from 0 to 5.

    Args:
        file: is read from where it stands to the end of the pickle.
        size: of the file, in bytes. No operation takes more memory.
        calls: functions of ours by the names of those that a pickle may ask for.
        names: others that it may name, such as types of storages.
        persistent: what a persistent id stands for; None: there must be none.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        calls: Mapping[str, Callable[..., Any]],
        names: Collection[str] = (),
        persistent: Callable[[Any], Any] | None = None,
    ):
        self.file, self.size = file, size
        self.calls, self.known = calls, calls.keys() | set(names)
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, count: int) -> bytes:
        """For pickletools: never more than there is, as Python takes the memory first."""
        if count > MOST_VALUE:
            raise ValueError("a value is too large")
        return self.file.read(min(count, self.size))

    def readline(self) -> bytes:
        return self.file.readline(MOST_LINE)

    def build(self) -> Any:
        """What the pickle holds.

        Raises:
            UnknownNameError: it names what is not on the list.
            Exception: of any type, if it is damaged or holds something else than plain data.
        """
        for number, (operation, argument) in enumerate(self.operations()):
            if number > MOST_OPERATIONS:
                raise ValueError(f"it has more than {MOST_OPERATIONS:,} operations")
            if operation.name == "STOP":
                return self.stack[-1]
            self.step(operation.name, argument)

    def operations(self) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
        """The pickle's operations and their arguments.

        Raises:
            ValueError: in words for people; pickletools speaks of opcodes and streams.
        """
        operations = pickletools.genops(self)  # type: ignore[arg-type]  # it needs no more of one
        try:
            for operation, argument, _ in operations:
                yield operation, argument
        except Exception:  # damage makes it raise many types
            raise ValueError("it is no pickle, or a damaged one") from None

    def step(self, operation: str, argument: Any) -> None:
        stack = self.stack
        match operation:
            case _ if operation in VALUES:
                stack.append(argument)
            case _ if operation in EMPTY:
                stack.append(EMPTY[operation]())
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.take(len(stack) - int(operation[-1]))))
            case "TUPLE":
                stack.append(tuple(self.take(self.marks.pop())))
            case "LIST":
                stack.append(self.take(self.marks.pop()))
            case "DICT":
                stack.append(paired(self.take(self.marks.pop())))
            case "APPEND" | "SETITEM":
                self.fill(operation, self.take(len(stack) - (1 if operation == "APPEND" else 2)))
            case "APPENDS" | "SETITEMS":
                self.fill(operation, self.take(self.marks.pop()))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.again(argument))
            case _:
                stack.append(self.thing(operation, argument))

    def thing(self, operation: str, argument: Any) -> Any:
        """What the operations of objects put on the stack."""
        stack = self.stack
        match operation:
            case "GLOBAL":
                return self.named(argument)
            case "STACK_GLOBAL":
                return self.named(*self.take(len(stack) - 2))
            case "BINPERSID" if self.persistent:
                return self.persistent(shareable(stack.pop()))  # flat: its parts may be keys
            case "REDUCE":
                return self.call(*self.take(len(stack) - 2))
            case "NEWOBJ":
                return self.new(*self.take(len(stack) - 2))
            case "OBJ":  # of a class without a base, in Python 2
                return self.new(*self.take(self.marks.pop()))
            case "INST":
                return self.new(self.named(argument), *self.take(self.marks.pop()))
            case "BUILD":
                state, target = stack.pop(), stack.pop()
                self.give(target, state)
                return target
        raise ValueError(f"it holds {operation}, which no such file does")

    def named(self, *words: Any) -> Named:
        name = " ".join(words)  # TypeError if one is no text
        if name not in self.known:
            raise UnknownNameError(name)
        return Named(name)

    def again(self, number: int) -> Any:
        """What a pickle has put aside, if it may stand in several places."""
        if number not in self.memo:
            raise ValueError("it refers to what it does not hold")
        return shareable(self.memo[number])

    def take(self, start: int) -> list[Any]:
        """What is on the stack from `start`, which leaves it."""
        if start < 0:
            raise ValueError("it takes more than it has")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def fill(self, operation: str, items: list[Any]) -> None:
        """Adds items to the list or dictionary below them."""
        target = self.stack[-1]
        if operation.startswith("APPEND") and type(target) is list:
            target += items
        elif operation.startswith("SETITEM") and isinstance(target, dict):
            target.update(paired(items))
        else:
            raise ValueError(f"it adds to a {type(target).__name__}")

    def call(self, function: Any, arguments: Any) -> Any:
        """A function of ours, in place of the one that is named."""
        if type(function) is not Named or type(arguments) is not tuple:
            raise ValueError("it calls what is no function")
        if function not in self.calls:
            return self.new(function, *arguments)
        return self.calls[function](*arguments)

    def new(self, name: Any, *arguments: Any) -> Any:
        """An object of a class: there is none."""
        raise ValueError("it makes an object of what is no class, or in an unknown way")

    def give(self, target: Any, state: Any) -> None:
        """Sets the state of an object that has been made empty."""
        if not isinstance(target, dict):  # torch's state dictionaries have versions, of no use here
            raise ValueError(f"it sets attributes of a {type(target).__name__}")


def paired(items: list[Any]) -> dict[Any, Any]:
    """A dictionary; no key is deep, as its hash would be, too."""
    return dict(zip(map(shareable, items[::2]), items[1::2], strict=True))


def shareable(value: Any) -> Any:
    """`value`, if it may stand in several places, or be a key: a name, a number, a tensor, or a
    tuple of those. Lists within lists, each twice, would unfold to any size."""
    inner = value if type(value) is tuple else [value]
    if any(isinstance(each, list | dict | tuple) for each in inner):
        raise ValueError("it holds the same list in two places")
    return value
