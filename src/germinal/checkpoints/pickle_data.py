"""Reads a pickle as data. A pickle is a program that calls functions by name; here a call becomes a node that holds the
function's name and its arguments, so that nothing is looked up, imported or run.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

_MOST_STEPS = 1_000_000
"""A tensor takes about thirty."""


@dataclass(frozen=True, slots=True)
class Name:
    """A function or class, by its whole name."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was not made.

    Attributes:
        function: The whole name of what would be called.
        arguments: With what.
    """

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """Something that is not in the pickle.

    Attributes:
        to: What the pickle says of it.
    """

    to: Any


def read_pickle(stream: IO[bytes]) -> Any:
    """The value of the pickle at the stream's position, which is then behind it.

    Raises:
        ValueError: it is not a pickle, is cut, or does what no file of tensors does.
    """
    machine = _Machine()
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if step > _MOST_STEPS:
                raise ValueError(f"it takes more than {_MOST_STEPS:,} steps")
            machine.do(opcode.name, argument)
        return machine.pop()
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"it is not a pickle as expected ({error!r})") from error


class _Machine:
    """The stack and the memo that a pickle works on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def do(self, opcode: str, argument: Any) -> None:
        """One step."""
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise ValueError(f"it has the step {opcode}, which no file of tensors has")

    def pop(self) -> Any:
        if self.marks and self.marks[-1] >= len(self.stack):
            raise ValueError("it takes what it has not put there")
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        start = self.marks.pop()
        marked = self.stack[start:]
        del self.stack[start:]
        return marked

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def store(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def recall(self, place: int) -> None:
        self.stack.append(self.memo[place])

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple(reversed([self.pop() for _ in range(count)])))

    def named(self, whole: str) -> None:
        self.stack.append(Name(whole.replace(" ", ".", 1)))

    def named_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(Name(f"{module}.{name}"))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name | Reference) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is not a function")
        if isinstance(function, Reference):
            self.stack.append(Call("a class that is in the file", arguments))
        elif function.name == "collections.OrderedDict" and len(arguments) <= 1:
            self.stack.append({})
            for key, value in arguments[0] if arguments else ():
                self.put(key, value)
        else:
            self.stack.append(Call(function.name, arguments))

    def set_attributes(self, _: Any) -> None:
        state = self.pop()
        if isinstance(target := self.stack[-1], dict):  # an OrderedDict, which has the versions of its modules
            return
        if not isinstance(target, Call):
            raise ValueError("it sets attributes of what is not an object")
        self.stack[-1] = Call(f"{target.function}.__setstate__", (target, state))

    def drop(self, _: Any) -> None:
        self.pop()

    def repeat(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def refer(self, _: Any) -> None:
        self.stack.append(Reference(self.pop()))

    def put(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int) or not isinstance(self.stack[-1], dict):
            raise ValueError(f"a key is {type(key).__name__}, not a name")
        self.stack[-1][key] = value

    def put_pairs(self, _: Any) -> None:
        pairs = self.pop_marked()
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.put(key, value)

    def put_pair(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.put(key, value)

    def mapping(self, _: Any) -> None:
        pairs = self.pop_marked()
        self.stack.append({})
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.put(key, value)

    def add(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it adds to what is not a list")
        self.stack[-1].extend(items)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple},
}
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "DUP": _Machine.repeat,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.store),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_marked())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_marked()),
    "DICT": _Machine.mapping,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_on_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.set_attributes,
    "BINPERSID": _Machine.refer,
    "SETITEM": _Machine.put_pair,
    "SETITEMS": _Machine.put_pairs,
    "APPEND": lambda machine, _: machine.add([machine.pop()]),
    "APPENDS": lambda machine, _: machine.add(machine.pop_marked()),
}
