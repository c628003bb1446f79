"""Pickles read as plain data: nothing that a pickle names is imported, looked up or called.

`pickletools` of the standard library splits the bytes into operations. Those in a closed list run here, on numbers,
strings, tuples, lists and dicts; a name in a closed list becomes an inert `Global`, and calling it is a table of our
own. Everything else is refused. PyTorch writes no more than this: torch/serialization.py.
"""

import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any

from mlx_llava.convert.torch_bin.allowed_calls import CALLS, GLOBALS, Global, RefusedError, kind_of, storage_of
from mlx_llava.errors import CheckpointError
from mlx_llava.program.text import escape

MAX_OPERATIONS = 500_000  # a tensor takes about 50, a shard of a 13B model holds about 150 tensors


def refused(where: str, reason: str) -> CheckpointError:
    """The error for a file that contains anything but tensors."""
    return CheckpointError(
        f"{where}: {reason}; nothing was executed", "Use a safetensors file, or one that contains only tensors."
    )


def read(stream: BytesIO, where: str) -> Any:
    """The value of the next pickle in a stream; CheckpointError for anything but tensors."""
    machine = _Machine()
    try:
        for count, (operation, argument, place) in enumerate(pickletools.genops(stream)):
            step = OPERATIONS.get(operation.name)
            if step is None:
                raise RefusedError(f"operation {operation.name} at byte {place}")
            if count >= MAX_OPERATIONS:
                raise RefusedError(f"more than {MAX_OPERATIONS} operations")
            step(machine, argument)
        return machine.pop()
    except RefusedError as error:
        raise refused(where, str(error)) from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError):
        raise refused(where, "a damaged pickle") from None


class _Machine:
    """A stack, the stacks below the marks, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """The values since the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.pop() for _ in range(count))
        return items[::-1]

    def put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def append(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        table = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # hashing nested tuples may never end, and integers can be chosen so that all hashes collide
            if type(key) is not str and not (type(key) is int and 0 <= key < 2**31):
                raise RefusedError(f"a {kind_of(key)} as a key")
            table[key] = value

    def name(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):  # printing nested tuples may never end
            raise RefusedError(f"a {kind_of(module)} and a {kind_of(name)} as a name")
        full = f"{module} {name}"
        if full not in GLOBALS:
            raise RefusedError(f"asks for {escape(full.replace(' ', '.'))}, not a tensor")
        self.push(Global(full))

    def reduce(self, _: object) -> None:
        function, arguments = self.last(2)
        if type(function) is not Global or function.name not in CALLS or type(arguments) is not tuple:
            raise RefusedError(f"a call of a {kind_of(function)}")
        self.push(CALLS[function.name](*arguments))

    def build(self, _: object) -> None:
        state = self.pop()
        if type(self.stack[-1]) is not dict or type(state) is not dict or state.keys() != {"_metadata"}:
            raise RefusedError(f"state for a {kind_of(self.stack[-1])}")  # state_dict()._metadata: versions of modules

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise RefusedError(f"items for a {kind_of(self.stack[-1])}")
        return self.stack[-1]


_ARGUMENT = """
    BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8
""".split()
OPERATIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda m, x: None,
    "FRAME": lambda m, x: None,
    "STOP": lambda m, x: None,
    **dict.fromkeys(_ARGUMENT, lambda m, x: m.push(x)),
    "NONE": lambda m, x: m.push(None),
    "NEWTRUE": lambda m, x: m.push(True),
    "NEWFALSE": lambda m, x: m.push(False),
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda m, x: m.push(()),
    "EMPTY_LIST": lambda m, x: m.push([]),
    "EMPTY_DICT": lambda m, x: m.push({}),
    "TUPLE": lambda m, x: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, x: m.push(m.last(1)),
    "TUPLE2": lambda m, x: m.push(m.last(2)),
    "TUPLE3": lambda m, x: m.push(m.last(3)),
    "APPEND": lambda m, x: m.append([m.pop()]),
    "APPENDS": lambda m, x: m.append(m.marked()),
    "SETITEM": lambda m, x: m.set_items([*m.last(2)]),
    "SETITEMS": lambda m, x: m.set_items(m.marked()),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda m, x: m.put(len(m.memo)),
    "BINGET": lambda m, x: m.push(m.memo[x]),
    "LONG_BINGET": lambda m, x: m.push(m.memo[x]),
    "GLOBAL": lambda m, x: m.name(*x.split(" ", 1)),
    "STACK_GLOBAL": lambda m, x: m.name(*m.last(2)),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": lambda m, x: m.push(storage_of(m.pop())),
}
