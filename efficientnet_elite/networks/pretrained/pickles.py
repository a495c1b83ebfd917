"""Reads pickles of plain data without executing them.

`pickle.load` runs whatever a file asks for. Here the few operations that lists, dictionaries,
numbers and strings need are interpreted instead, and every class or function that a file names is
looked up in a table of the caller; it is never imported.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Hashable, Mapping
from typing import IO, Any

# Operations that push their argument, or what the opcode itself stands for.
_ARGUMENT = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "LONG4",
    "BINFLOAT",
    "BINSTRING",
    "SHORT_BINSTRING",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
_CONSTANT: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}


def one_line(text: str) -> str:
    """A text from a file that may contain anything, as a line for a message."""
    return ascii(text)[1:-1][:100]


class RefusedError(Exception):
    """A pickle asks for something that is not plain data; the message names it."""


class DamagedError(Exception):
    """A pickle ends too early, or its operations do not fit together."""


class Name:
    """A class or function that a pickle names, with what the caller's table has for it.

    Attributes:
      text: such as ``torch._utils._rebuild_tensor_v2``.
      meaning: the entry of the table.
    """

    def __init__(self, text: str, meaning: Any):
        self.text, self.meaning = text, meaning


def load(
    file: IO[bytes], names: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The value of the pickle that begins at the file's position, which then stands at its end.

    Args:
      file: open for reading.
      names: what the classes and functions mean that the pickle may name, such as
        ``collections.OrderedDict``. An entry that is a function is called where the pickle calls
        the name; any other entry is only passed on, as a `Name`.
      persistent: gives the object of a persistent identifier.

    Raises:
      RefusedError: the pickle names something else, or uses an operation that plain data does not
        need.
      DamagedError: it cannot be read.
    """
    machine = _Machine(names, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise DamagedError(one_line(str(error))) from error


class _Machine:
    """The stack, the stacks below the marks, and the memo of a pickle.

    The method ``op_NAME`` does the operation NAME.
    """

    def __init__(self, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None):
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Does one operation."""
        if opcode in _ARGUMENT:
            self.stack.append(argument)
        elif opcode in _CONSTANT:
            self.stack.append(_CONSTANT[opcode]())
        elif opcode in _TUPLE:
            self.stack[-_TUPLE[opcode] :] = [self._top(_TUPLE[opcode])]
        elif opcode not in _IGNORED:
            operation = getattr(self, f"op_{opcode.lower()}", None)
            if operation is None:
                raise RefusedError(f"the pickle operation {opcode}")
            operation(argument)

    def _top(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise ValueError("too few values on the stack")
        return tuple(self.stack[-count:])

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def _container(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"no {kind.__name__} where one is filled")
        return self.stack[-1]

    def _fill(self, values: list[Any]) -> None:
        """Adds keys and values, in turn, to the dictionary on top of the stack."""
        target = self._container(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            # The hash of a nested tuple may take for ever, and no state dict needs one.
            if not isinstance(key, str | bytes | int | float | None):
                raise RefusedError(f"a key of the type {type(key).__name__}")
            target[key] = value

    def op_stop(self, _: Any) -> None:
        self._top(1)

    def op_mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def op_pop(self, _: Any) -> None:
        self.stack.pop()

    def op_tuple(self, _: Any) -> None:
        values = self._since_mark()
        self.stack.append(tuple(values))

    def op_append(self, _: Any) -> None:
        value = self.stack.pop()
        self._container(list).append(value)

    def op_appends(self, _: Any) -> None:
        values = self._since_mark()
        self._container(list).extend(values)

    def op_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def op_setitems(self, _: Any) -> None:
        self._fill(self._since_mark())

    def op_binput(self, index: Any) -> None:
        self.memo[index] = self.stack[-1]

    op_long_binput = op_binput

    def op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_binget(self, index: Any) -> None:
        self.stack.append(self.memo[index])

    op_long_binget = op_binget

    def op_global(self, argument: Any) -> None:
        self._named(argument.replace(" ", ".", 1))

    def op_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        # The text of a nested tuple may fill the memory.
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name that is no text")
        self._named(f"{module}.{name}")

    def _named(self, text: str) -> None:
        if text not in self.names:
            raise RefusedError(one_line(text))
        self.stack.append(Name(text, self.names[text]))

    def op_reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that has no name")
        if not callable(called.meaning):
            raise RefusedError(f"a call of {called.text}")
        self.stack.append(called.meaning(*arguments))

    def op_build(self, _: Any) -> None:
        """Ignores the attributes of a dictionary, such as a state dict's versions of layers."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise RefusedError("the attributes of an object")

    def op_binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise RefusedError("a persistent identifier")
        self.stack.append(self.persistent(self.stack.pop()))


def ordered_dict(pairs: Any = ()) -> dict[Hashable, Any]:
    """What ``collections.OrderedDict`` in a pickle means."""
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    ):
        raise ValueError("an ordered dictionary of something that is no pairs")
    return dict(pairs)
