"""Pickles, written opcode by opcode, that run code when they are unpickled, and files that claim what they do not hold.

Each of the first would leave the marker, or do something that an audit hook sees.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, *args: bytes) -> bytes:
    return named(module, name) + b"(" + b"".join(args) + b"tR"


def body(code: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + code + b"."


def touch(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


STORAGE = b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"
TENSOR = (
    named("torch._utils", "_rebuild_tensor_v2")
    + b"("
    + STORAGE
    + b"K\x00(K\x04t(K\x01t\x89"
    + called("collections", "OrderedDict")
    + b"tR"
)


def _setstate(marker: Path) -> bytes:
    """A state whose ``__setstate__`` reduces again: functools.partial runs what its state names."""
    partial = named("functools", "partial") + b"(" + named("builtins", "exec") + b"tR"
    return partial + b"(" + named("builtins", "exec") + b"(" + text(touch(marker)) + b"t}Ntb)R"


def _object(marker: Path) -> bytes:
    return b"(" + named("builtins", "exec") + text(touch(marker)) + b"o"


def _instance(marker: Path) -> bytes:
    return b"(" + text(touch(marker)) + b"ibuiltins\nexec\n"


def _new_object(marker: Path) -> bytes:
    command = b"(" + text("touch") + text(str(marker)) + b"l"
    return named("subprocess", "Popen") + b"(" + command + b"t\x81"


def _new_object_with_keywords(marker: Path) -> bytes:
    command = text("args") + b"(" + text("touch") + text(str(marker)) + b"l"
    return named("subprocess", "Popen") + b")}" + command + b"s\x92"


def _stack_global(marker: Path) -> bytes:
    return text("os") + text("system") + b"\x93(" + text(f"touch '{marker}'") + b"tR"


def _dotted(marker: Path) -> bytes:
    return text("torch") + text("os.system") + b"\x93(" + text(f"touch '{marker}'") + b"tR"


def _chain(marker: Path) -> bytes:
    module = called("importlib", "import_module", text("os"))
    return called("builtins", "getattr", module, text("system")) + b"(" + text(f"touch '{marker}'") + b"tR"


def _subclass(marker: Path) -> bytes:
    args = b"(" + text(touch(marker)) + b"t"
    return called(
        "torch._tensor", "_rebuild_from_type_v2", named("builtins", "exec"), named("torch", "Tensor"), args, b"N"
    )


def _hook(marker: Path) -> bytes:
    return TENSOR + b"}" + text("_backward_hooks") + called("builtins", "exec", text(touch(marker))) + b"sb"


def _storage(marker: Path) -> bytes:
    kind = called("builtins", "exec", text(touch(marker)))
    return b"(" + text("storage") + kind + text("0") + text("cpu") + b"K\x04tQ"


def _source_of_a_module(marker: Path) -> bytes:
    return (
        b"("
        + text("module")
        + named("os", "mkdir")
        + text("a.py")
        + text(touch(marker))
        + b"tQ("
        + text(str(marker))
        + b"tR"
    )


def _embedded(marker: Path) -> bytes:
    inner = MAGIC + body(called("builtins", "exec", text(touch(marker)))) + pickle.dumps([], 2)
    raw = b"B" + struct.pack("<I", len(inner)) + inner
    storage = called("torch.storage", "_load_from_bytes", raw)
    return called("torch._utils", "_rebuild_tensor_v2", storage, b"K\x00", b"(K\x04t", b"(K\x01t", b"\x89", b"N")


def _key(marker: Path) -> bytes:
    return b"}" + called("builtins", "exec", text(touch(marker))) + b"K\x01s"


def _codec(marker: Path) -> bytes:
    return called("_codecs", "encode", text(touch(marker)), text("undefined"))


def _array(marker: Path) -> bytes:
    made = called("numpy._core.multiarray", "_reconstruct", named("numpy", "memmap"), b"(K\x00t", text("b"))
    return (
        made + b"(K\x01(K\x01t" + called("numpy", "memmap", text(str(marker)), text("w+")) + b"\x89" + text("x") + b"tb"
    )


CODE: dict[str, Callable[[Path], bytes]] = {
    "a call": lambda marker: called("builtins", "exec", text(touch(marker))),
    "a process": lambda marker: called("os", "system", text(f"touch '{marker}'")),
    "a folder": lambda marker: called("os", "mkdir", text(str(marker))),
    "a file": lambda marker: called("builtins", "open", text(str(marker)), text("w")),
    "a connection": lambda marker: called("socket", "create_connection", b"(" + text("127.0.0.1") + b"K\x09t"),
    "an import": lambda marker: called("importlib", "import_module", text("antigravity")),
    "a shared library": lambda marker: called("ctypes", "CDLL", text("libm.so.6")),
    "another checkpoint": lambda marker: called("torch", "load", text(str(marker))),
    "a repository": lambda marker: called("torch.hub", "load", text("a/b"), text("c")),
    "a new object": _new_object,
    "a new object with keywords": _new_object_with_keywords,
    "an old object": _object,
    "an instance": _instance,
    "a state": _setstate,
    "a name from the stack": _stack_global,
    "a dotted name": _dotted,
    "an attribute of a module": _chain,
    "a subclass of tensors": _subclass,
    "a hook of a tensor": _hook,
    "a class of storages": _storage,
    "the source of a module": _source_of_a_module,
    "a file in the file": _embedded,
    "a key of a dict": _key,
    "a codec": _codec,
    "an array in a file": _array,
    "an extension": lambda marker: b"\x82\x01)R",
    "a name outside the file": lambda marker: b"Pos.system\n",
    "a buffer": lambda marker: b"\x97",
}
"""What a file does when it is unpickled -> its opcodes, given the marker."""


def as_zip(code: bytes, file: Path) -> None:
    """Write an archive of torch around a pickle; its one storage has four floats."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", code)
        archive.writestr("net/byteorder", b"little")
        archive.writestr("net/data/0", struct.pack("<4f", 1, 2, 3, 4))
        archive.writestr("net/version", b"3\n")


def as_legacy(code: bytes, file: Path) -> None:
    """Write torch's old format around a pickle; its one storage has four floats, if the pickle names one."""
    keys, values = (["0"], struct.pack("<q4f", 4, 1, 2, 3, 4)) if b"storage" in code else ([], b"")
    file.write_bytes(MAGIC + code + pickle.dumps(keys, 2) + values)


def as_pickle(code: bytes, file: Path) -> None:
    file.write_bytes(code)


def nested(opening: bytes, closing: bytes, depth: int = 30_000) -> bytes:
    return body(opening * depth + closing * depth)


def doubled(depth: int = 60) -> bytes:
    """A dict of which every level names the next one twice: 2 ** depth paths in a kilobyte."""
    code = b"}" + text("w") + TENSOR + b"sq\x00"
    for level in range(depth):
        code += (
            b"}(" + text("a") + b"h" + bytes([level]) + text("b") + b"h" + bytes([level]) + b"uq" + bytes([level + 1])
        )
    return body(code)


def tensor_of(numel: int = 4, offset: int = 0, shape: int = 4, stride: int = 1, key: str = "0") -> bytes:
    """A tensor in a dict, with the sizes that it claims."""
    numbers = [b"\x8a\x08" + struct.pack("<q", number) for number in (numel, offset, shape, stride)]
    storage = b"(" + text("storage") + named("torch", "FloatStorage") + text(key) + text("cpu") + numbers[0] + b"tQ"
    view = numbers[1] + b"(" + numbers[2] + b"t(" + numbers[3] + b"t\x89N"
    return body(b"}" + text("w") + named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + view + b"tRs")


CLAIMS: dict[str, bytes] = {
    "lists without end": nested(b"]q\x00h\x00", b"a"),
    "tuples without end": nested(b"(", b"t"),
    "a key of tuples without end": body(b"}" + b"(" * 30_000 + b"t" * 30_000 + b"K\x01s"),
    "a set of tuples without end": body(b"\x8f(" + b"(" * 30_000 + b"t" * 30_000 + b"\x90"),
    "a dict in itself": body(b"}q\x00" + text("a") + b"h\x00s"),
    "paths without end": doubled(),
    "a text of an exabyte": body(b"\x8d" + struct.pack("<Q", 1 << 60)),
    "bytes of a terabyte": body(b"\x8e" + struct.pack("<Q", 1 << 40)),
    "an array of bytes of a terabyte": body(b"\x96" + struct.pack("<Q", 1 << 40)),
    "a frame of an exabyte": body(b"\x95" + struct.pack("<Q", 1 << 60)),
    "a memo of billions": body(b"}r" + struct.pack("<I", 0xFFFFFFFF)),
    "an integer of a gigabyte": body(b"\x8b" + struct.pack("<i", 1 << 30)),
    "an integer of many digits": body(b"I" + b"9" * 100_000 + b"\n"),
    "a storage of an exabyte": tensor_of(numel=1 << 58),
    "a tensor of an exabyte": tensor_of(shape=1 << 58),
    "a tensor beyond its storage": tensor_of(offset=3),
    "a tensor before its storage": tensor_of(offset=-1),
    "steps beyond a storage": tensor_of(stride=2),
    "steps backward": tensor_of(stride=-1),
    "a storage that is not there": tensor_of(key="7"),
    "a storage outside": tensor_of(key="../../data.pkl"),
    "no operands": body(b"R"),
    "no end": b"\x80\x02}",
    "nothing": b"\x80\x02.",
    "no memo": body(b"h\x07"),
}
"""What a file claims -> its pickle."""


def overlapping(file: Path) -> None:
    """Write an archive whose directory lists the same megabyte a thousand times."""
    saved = io.BytesIO()
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("net/data.pkl", tensor_of())
        archive.writestr("net/data/0", bytes(1 << 20))
        first = archive.getinfo("net/data/0")
        for index in range(1, 1000):
            info = zipfile.ZipInfo(f"net/data/{index}")
            info.header_offset, info.CRC = first.header_offset, first.CRC
            info.file_size = info.compress_size = first.file_size
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    file.write_bytes(saved.getvalue())
