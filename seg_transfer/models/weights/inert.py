"""Pickles read as data: tensors become records of where their values are, every other object an inert stub.

Unpickling calls what a file names. Here nothing is looked up, imported or called: the opcodes are interpreted on a
stack that holds numbers, text, lists, tuples, dicts and the records of `seg_transfer.models.weights.stored`, and
nothing else.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from seg_transfer.models.weights.stored import Storage, Stub, created, is_key, named, storage_of

_MAX_OPCODES = 3_000_000
"""A checkpoint of 10,000 tensors has about 300,000; an opcode creates at most some hundred bytes."""
_MAX_NAME = 200


def unpickle(file: Any, on_storage: Callable[[Storage], object] | None = None) -> Any:
    """Read one pickle, of any protocol, as data; the file is then positioned behind it.

    Args:
        file: Its ``read`` must not allocate more than what is there, as `io.BytesIO` does not.
        on_storage: Called with every storage that the pickle names.

    Raises:
        ValueError: It is damaged, holds too much, or uses what no checkpoint needs.
    """
    machine = _Machine(on_storage)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= _MAX_OPCODES:
            raise ValueError(f"more than {_MAX_OPCODES:,} objects")
        if opcode.name == "STOP":
            return machine.stack.pop()
        try:
            _OPERATIONS[opcode.name](machine, argument)
        except KeyError as error:
            raise ValueError(f"opcode {opcode.name} of pickle ({error})") from error
        except (IndexError, TypeError) as error:
            raise ValueError(f"opcode {opcode.name} of pickle lacks its operands") from error
    raise ValueError("no end of the pickle")


class _Machine:
    """The stack machine of pickle: a stack, the stacks below the marks, and the memo."""

    def __init__(self, on_storage: Callable[[Storage], object] | None) -> None:
        self.on_storage = on_storage
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop(self, count: int) -> tuple[Any, ...]:
        """Take the topmost objects off, in the order in which they were put on."""
        if len(self.stack) < count:
            raise IndexError
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return taken

    def pop_mark(self) -> list[Any]:
        """Take off everything above the last mark."""
        taken, self.stack = self.stack, self.below.pop()
        return taken


def _push(value_of: Callable[[Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(value_of(argument))


def _mark(machine: _Machine, _: Any) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: _Machine, _: Any) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _drop_marked(machine: _Machine, _: Any) -> None:
    machine.pop_mark()


def _from_mark(create: Callable[[list[Any]], Any]) -> Callable[[_Machine, Any], None]:
    def operation(machine: _Machine, _: Any) -> None:
        taken = machine.pop_mark()  # which replaces the stack
        machine.stack.append(create(taken))

    return operation


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(machine.pop(count))


def _put(machine: _Machine, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _get(machine: _Machine, index: Any) -> None:
    machine.stack.append(machine.memo[index])


def _set_items(target: Any, flat: list[Any]) -> None:
    """Keep the items whose keys are text or numbers; the names of weights are."""
    items = target.items if isinstance(target, Stub) else target
    if not isinstance(items, dict):
        raise TypeError
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if is_key(key):
            items[key] = value


def _set_item(machine: _Machine, _: Any) -> None:
    flat = list(machine.pop(2))
    _set_items(machine.stack[-1], flat)


def _set_marked_items(machine: _Machine, _: Any) -> None:
    flat = machine.pop_mark()
    _set_items(machine.stack[-1], flat)


def _dict_of(flat: list[Any]) -> dict[str | int, Any]:
    created: dict[str | int, Any] = {}
    _set_items(created, flat)
    return created


def _append_to(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Stub):
        raise TypeError


def _append(machine: _Machine, _: Any) -> None:
    values = list(machine.pop(1))
    _append_to(machine.stack[-1], values)


def _append_marked(machine: _Machine, _: Any) -> None:
    values = machine.pop_mark()
    _append_to(machine.stack[-1], values)


def _global(machine: _Machine, argument: str) -> None:
    machine.stack.append(named(argument.replace(" ", ".", 1)))


def _stack_global(machine: _Machine, _: Any) -> None:
    module, name = machine.pop(2)
    # Long texts are not joined: a file could have two of them joined a million times.
    is_short = isinstance(module, str) and isinstance(name, str) and len(module) + len(name) < _MAX_NAME
    machine.stack.append(named(f"{module}.{name}" if is_short else None))


def _reduce(machine: _Machine, _: Any) -> None:
    function, args = machine.pop(2)
    machine.stack.append(created(function, args))


def _new_object_with_keywords(machine: _Machine, _: Any) -> None:
    kind, args, _ = machine.pop(3)
    machine.stack.append(created(kind, args))


def _object(machine: _Machine, _: Any) -> None:
    kind, *args = machine.pop_mark()
    machine.stack.append(created(kind, tuple(args)))


def _instance(machine: _Machine, argument: str) -> None:
    args = tuple(machine.pop_mark())
    machine.stack.append(created(named(argument.replace(" ", ".", 1)), args))


def _build(machine: _Machine, _: Any) -> None:
    """Keep the state of a stub. That of a dict is the versions of modules; that of a tensor are its own attributes."""
    (state,) = machine.pop(1)
    if isinstance(machine.stack[-1], Stub):
        machine.stack[-1].state = state


def _persistent(machine: _Machine, _: Any) -> None:
    (mark,) = machine.pop(1)
    machine.stack.append(storage_of(mark))
    if machine.on_storage and isinstance(machine.stack[-1], Storage):
        machine.on_storage(machine.stack[-1])


def _nothing(machine: _Machine, _: Any) -> None:
    pass


def _itself(value: Any) -> Any:
    return value


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _push(_itself)
    ),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE"), _push(_itself)),
    **dict.fromkeys(("BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _push(_itself)),
    "BYTEARRAY8": _push(_itself),
    "NONE": _push(lambda _: None),
    "NEWTRUE": _push(lambda _: True),
    "NEWFALSE": _push(lambda _: False),
    "EMPTY_DICT": _push(lambda _: {}),
    "EMPTY_TUPLE": _push(lambda _: ()),
    # A list stands for a set: hashing tuples that are nested a million times would end the process.
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), _push(lambda _: [])),
    **dict.fromkeys(("LIST", "FROZENSET"), _from_mark(list)),
    "TUPLE": _from_mark(tuple),
    "DICT": _from_mark(_dict_of),
    **{f"TUPLE{count}": _tuple_of(count) for count in (1, 2, 3)},
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _drop_marked,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "SETITEM": _set_item,
    "SETITEMS": _set_marked_items,
    "APPEND": _append,
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _append_marked),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    "NEWOBJ_EX": _new_object_with_keywords,
    "OBJ": _object,
    "INST": _instance,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
"""Not among them: EXT1, EXT2, EXT4 (registered extensions), PERSID, NEXT_BUFFER and READONLY_BUFFER."""
