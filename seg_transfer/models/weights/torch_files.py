"""Files that ``torch.save`` wrote, read as data: where each storage lies, and the tensors that are asked for."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seg_transfer.errors import reason_of
from seg_transfer.models.weights.inert import unpickle
from seg_transfer.models.weights.stored import Storage, StoredTensor, Stub, bytes_of

_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of torch's format before version 1.6."""
_PROTOCOL = 1001
_EMBEDDED = "torch.storage._load_from_bytes"
_LOCAL_HEADER = struct.Struct("<4s22xHH")

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True)
class TorchFile:
    """The contents of a file.

    Attributes:
        source: The file, or the bytes of one that is embedded in another.
        content: What was saved; see `seg_transfer.models.weights.stored`.
        places: Key of a storage -> its first byte in the file, and its bytes.
        is_big_endian: Whether the storages are in big-endian order.
    """

    source: Path | bytes
    content: Any
    places: Mapping[str, tuple[int, int]]
    is_big_endian: bool = False


def read_torch_file(source: Path | bytes) -> TorchFile:
    """Read everything but the storages; nothing in the file is run.

    Raises:
        ValueError, zipfile.BadZipFile, OSError: It is damaged, or was not written by ``torch.save`` or ``pickle.dump``.
    """
    with _opened(source) as file:
        start = file.read(4)
        file.seek(0)
        return _read_zip(source, file) if start == b"PK\x03\x04" else _read_stream(source, file)


def read_tensors(saved: TorchFile, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Read tensors, each with the strides and in the dtype in which it was saved; views of one storage share it.

    Raises:
        ValueError: A tensor lies outside its storage, or a storage outside the file; the message names the tensor.
    """
    found: dict[str, Tensor] = {}
    with _opened(saved.source) as file:
        read: dict[str | int, Tensor] = {}
        for name, tensor in stored.items():
            try:
                flat = _elements(saved, file, tensor.storage, read)
                flat = flat.view(_dtype(tensor.dtype)) if tensor.dtype else flat
                found[name] = flat.as_strided(tensor.shape, tensor.stride, flat.storage_offset() + tensor.offset)
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                raise ValueError(f"tensor {name} is damaged: {reason_of(error)}") from error
    return found


@contextmanager
def _opened(source: Path | bytes) -> Iterator[io.BufferedIOBase]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    with _Bounded(source.open("rb", buffering=0)) as file:
        yield file


class _Bounded(io.BufferedReader):
    """A file whose ``read`` does not allocate what a damaged file claims to hold."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and 0 <= size <= io.DEFAULT_BUFFER_SIZE:
            return super().read(size)
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


# Formats


def _read_zip(source: Path | bytes, file: io.BufferedIOBase) -> TorchFile:
    with zipfile.ZipFile(file) as archive:
        infos = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in infos if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("a zip archive without the data.pkl of torch.save")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in infos:
        raise ValueError("a TorchScript archive, which holds code; save the network's state_dict() with torch.save")
    places = {name: _place(file, info) for name, info in infos.items() if name.startswith(root)}
    content = unpickle(io.BytesIO(_bytes_at(file, places[pickles[0]])))
    order = _bytes_at(file, places[f"{root}byteorder"]) if f"{root}byteorder" in places else b"little"
    if order not in (b"little", b"big"):
        raise ValueError("an unknown order of bytes")
    if sum(size for _, size in places.values()) > _size_of(file):
        raise ValueError("records that overlap")
    start = f"{root}data/"
    storages = {name.removeprefix(start): place for name, place in places.items() if name.startswith(start)}
    return TorchFile(source, content, storages, order == b"big")


def _place(file: io.BufferedIOBase, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Find the bytes of a record. torch checks no CRC, and can be told to write none, so none is checked here."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed records, which torch.save does not write; load and save it again")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise ValueError("a zip archive without its end")
    _, name, extra = _LOCAL_HEADER.unpack(header)
    return info.header_offset + _LOCAL_HEADER.size + name + extra, info.file_size


def _read_stream(source: Path | bytes, file: io.BufferedIOBase) -> TorchFile:
    """Read torch's old format, in which the storages follow the pickles, or a single pickle."""
    content = unpickle(file)
    if not (isinstance(content, int) and content == _MAGIC):
        return TorchFile(source, content, {})
    if unpickle(file) != _PROTOCOL:
        raise ValueError("an unknown version of the format")
    unpickle(file)  # the machine that wrote it; storages are little-endian on all of them
    named: dict[str, Storage] = {}
    content = unpickle(file, lambda storage: named.setdefault(storage.key, storage))
    keys, places = unpickle(file), {}
    for key in keys if isinstance(keys, list) else ():
        numel = int.from_bytes(_bytes_at(file, (file.tell(), 8)), "little", signed=True)
        if not isinstance(key, str) or key not in named or numel < 0:
            raise ValueError("storages that its pickle does not name")
        places[key] = (file.tell(), numel * _dtype_of(named[key]).itemsize)
        file.seek(sum(places[key]))
    return TorchFile(source, content, places)


# Storages


def _elements(
    saved: TorchFile, file: io.BufferedIOBase, storage: Storage | Stub, read: dict[str | int, Tensor]
) -> Tensor:
    """Return the elements of a storage as a flat tensor; `read` keeps the bytes of those that were read before."""
    if isinstance(storage, Stub):
        return _embedded(storage, read)
    dtype = _dtype_of(storage)
    if storage.key not in read:
        start, size = saved.places[storage.key]
        if start + size > _size_of(file):
            raise ValueError("its values are beyond the end of the file")
        file.seek(start)
        values = torch.empty(size, dtype=torch.uint8)
        buffer: Any = values.numpy()
        if size and file.readinto(buffer) != size:
            raise ValueError("its values are beyond the end of the file")
        read[storage.key] = _swapped(values, dtype) if saved.is_big_endian else values
    begin, end = storage.start * dtype.itemsize, (storage.start + storage.numel) * dtype.itemsize
    if end > read[storage.key].numel():
        raise ValueError("its storage is smaller than it claims")
    return read[storage.key][begin:end].view(dtype)


def _swapped(values: Tensor, dtype: torch.dtype) -> Tensor:
    size = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    return values.view(-1, size).flip(1).reshape(-1)


def _embedded(stub: Stub, read: dict[str | int, Tensor]) -> Tensor:
    """Return the elements of a storage that was pickled without ``torch.save``: it embeds a file of its own."""
    embedded = stub.args[0] if stub.name == _EMBEDDED and stub.args else None
    if id(embedded) not in read:
        content = bytes_of(embedded)
        if content is None:
            raise ValueError(f"its values are kept as {stub.name}")
        saved = read_torch_file(content)
        if not isinstance(saved.content, Storage):
            raise ValueError("its values are missing")
        with _opened(content) as file:
            read[id(embedded)] = _elements(saved, file, saved.content, {})
    return read[id(embedded)]


def _dtype_of(storage: Storage) -> torch.dtype:
    if storage.kind not in DTYPES:
        raise ValueError(f"it has the type {storage.kind}")
    return DTYPES[storage.kind]


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"an unknown type {name}")
    return dtype


def _bytes_at(file: io.BufferedIOBase, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    found = file.read(place[1])
    if len(found) < place[1]:
        raise ValueError("the end is missing")
    return found


def _size_of(file: io.BufferedIOBase) -> int:
    return file.getbuffer().nbytes if isinstance(file, io.BytesIO) else os.fstat(file.fileno()).st_size
