"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what a pickle may hold.

The legacy (not zipped) format: five pickles (magic number, protocol version, system information, the state dict
with references to storages, the list of storage keys), then each storage as an 8-byte count and its raw numbers.
Knows nothing of networks.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captioner.errors import BadData

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@dataclass(frozen=True)
class _StorageType:
    """Stands for torch.FloatStorage and the like: a marker, nothing that can be called."""

    dtype: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): _StorageType("<f4"),
    ("torch", "LongStorage"): _StorageType("<i8"),
}


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that knows tensors and the dictionary that holds them; everything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not a tensor") from None

    def persistent_load(self, reference: Any) -> _Storage:
        match reference:
            case ("storage", _StorageType(dtype=dtype), str(key), str(), int(count), None) if count >= 0:
                return _Storage(key, dtype, count)
        raise pickle.UnpicklingError("a reference to something that is not a storage")


def read_checkpoint(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The tensors of the checkpoint at `path` by name, C-contiguous, own memory.

    The file's SHA-256 is compared with `sha256` before a byte of it is interpreted. Raises BadData.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadData(f"The weights {path} cannot be read: {error.strerror or error}.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BadData(f"The weights {path} are not the published ones (SHA-256 {found}, expected {sha256}).")
    return read_tensors(data, path.name)


def read_tensors(data: bytes, source: str = "checkpoint") -> dict[str, np.ndarray]:
    """The tensors in the bytes of a legacy checkpoint. Raises BadData for anything that is not plain tensors."""
    file = io.BytesIO(data)

    def load() -> Any:
        return _TensorsOnly(file).load()

    try:
        return _read(file, load)
    except (pickle.UnpicklingError, struct.error, ValueError, TypeError, KeyError, EOFError, IndexError) as error:
        raise BadData(f"{source} is not a checkpoint that holds tensors only ({error}).") from None


def _read(file: io.BytesIO, load: Callable[[], Any]) -> dict[str, np.ndarray]:
    if load() != _MAGIC or load() != _PROTOCOL:
        raise ValueError("not the legacy PyTorch format")
    if load().get("little_endian") is not True:
        raise ValueError("not little-endian")
    state, keys = load(), load()
    if not isinstance(state, dict) or not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise ValueError("something else than tensors in the state dict")
    storages = {tensor.storage.key: tensor.storage for tensor in state.values()}
    if sorted(keys) != sorted(storages):
        raise ValueError("the list of storages does not fit the tensors")
    numbers = {key: _read_storage(file, storages[key]) for key in keys}
    return {name: _view(tensor, numbers[tensor.storage.key]) for name, tensor in state.items()}


def _read_storage(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    (count,) = struct.unpack("<q", file.read(8))
    if count != storage.count:
        raise ValueError(f"storage {storage.key} holds {count} numbers, not {storage.count}")
    dtype = np.dtype(storage.dtype)
    return np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype, count=count)


def _view(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    if min((*tensor.shape, *tensor.strides, tensor.offset), default=0) < 0 or len(tensor.shape) != len(tensor.strides):
        raise ValueError("a tensor with an impossible shape")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if 0 not in tensor.shape and last >= len(numbers):
        raise ValueError("a tensor that reaches beyond its storage")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")
