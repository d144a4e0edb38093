"""The checkpoint reader: tensors come out right, and nothing else comes in."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.errors import BadData
from captioner.model.torch_weights import read_checkpoint, read_tensors


class _Global:
    """Pickles as a reference to MODULE.NAME, whatever that is."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Call:
    """Pickles as FUNCTION(*arguments)."""

    def __init__(self, function: _Global, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class _Storage:
    def __init__(self, kind: str, key: str, count: int) -> None:
        self.reference = ("storage", _Global("torch", kind), key, "cpu", count, None)


class _Pickler(pickle._Pickler):  # the Python one: its methods can be extended
    def persistent_id(self, obj: Any) -> Any:
        return obj.reference if isinstance(obj, _Storage) else None

    def save(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(obj, _Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, *args, **kwargs)


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def tensor(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> _Call:
    rebuild = _Global("torch._utils", "_rebuild_tensor_v2")
    return _Call(rebuild, storage, offset, shape, strides, False, OrderedDict())


def checkpoint(state: Any, storages: dict[str, np.ndarray], little_endian: bool = True) -> bytes:
    """A file as torch.save(_use_new_zipfile_serialization=False) writes it."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": little_endian}, state, list(storages)]
    return b"".join(map(pickled, parts)) + b"".join(
        struct.pack("<q", array.size) + array.tobytes() for array in storages.values()
    )


FLOATS = np.arange(24, dtype="<f4")
STORAGE = _Storage("FloatStorage", "1", 24)
NUMBERS = {"1": FLOATS}


def test_tensors_come_out_in_their_shapes() -> None:
    state = OrderedDict(
        plain=tensor(STORAGE, 0, (2, 3, 4), (12, 4, 1)),
        transposed=tensor(STORAGE, 0, (4, 6), (1, 4)),
        part=tensor(STORAGE, 5, (3,), (2,)),
        count=tensor(_Storage("LongStorage", "2", 1), 0, (), ()),
    )
    found = read_tensors(checkpoint(state, {**NUMBERS, "2": np.array([7], "<i8")}))
    np.testing.assert_array_equal(found["plain"], FLOATS.reshape(2, 3, 4))
    np.testing.assert_array_equal(found["transposed"], FLOATS.reshape(6, 4).T)
    np.testing.assert_array_equal(found["part"], [5, 7, 9])
    assert found["count"] == 7
    assert found["count"].dtype == np.int64
    assert all(array.flags["C_CONTIGUOUS"] and array.flags["OWNDATA"] for array in found.values())


def test_a_call_to_the_system_is_refused_and_not_made(tmp_path: Path) -> None:
    trap = tmp_path / "was-run"
    state = OrderedDict(weight=_Call(_Global("posix", "system"), f"touch {trap}"))
    with pytest.raises(BadData, match=r"tensors only \(posix.system is not a tensor\)"):
        read_tensors(checkpoint(state, {}))
    assert not trap.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "os.system", "torch.load", "numpy.load"])
def test_only_tensors_are_admitted(name: str) -> None:
    module, function = name.rsplit(".", 1)
    with pytest.raises(BadData, match=f"{name} is not a tensor"):
        read_tensors(checkpoint(OrderedDict(weight=_Global(module, function)), {}))


@pytest.mark.parametrize(
    ("state", "storages", "reason"),
    [
        ({"w": tensor(STORAGE, 0, (5, 5), (5, 1))}, NUMBERS, "beyond its storage"),
        ({"w": tensor(STORAGE, 20, (5,), (1,))}, NUMBERS, "beyond its storage"),
        ({"w": tensor(STORAGE, -1, (5,), (1,))}, NUMBERS, "impossible shape"),
        ({"w": tensor(STORAGE, 23, (2,), (-1,))}, NUMBERS, "impossible shape"),
        ({"w": tensor(STORAGE, 0, (5, 5), (1,))}, NUMBERS, "impossible shape"),
        ({"w": tensor("no storage", 0, (1,), (1,))}, {}, "without a storage"),
        ({"w": tensor(STORAGE, 0, (1,), (1,))}, {"2": FLOATS}, "does not fit the tensors"),
        ({"w": tensor(STORAGE, 0, (1,), (1,))}, {"1": FLOATS[:5]}, "holds 5 numbers, not 24"),
        ({"w": tensor(_Storage("ByteStorage", "1", 24), 0, (1,), (1,))}, NUMBERS, "torch.ByteStorage is not a tensor"),
        ({"w": "text"}, {}, "something else than tensors"),
        (["w"], {}, "something else than tensors"),
    ],
)
def test_what_does_not_fit_is_refused(state: Any, storages: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        read_tensors(checkpoint(state, storages))


GOOD = checkpoint(OrderedDict(w=tensor(STORAGE, 0, (24,), (1,))), NUMBERS)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"hello", pickled(5), *(GOOD[:n] for n in range(1, len(GOOD), 37))]
)
def test_other_files_and_short_ones_are_refused(data: bytes) -> None:
    with pytest.raises(BadData, match="is not a checkpoint that holds tensors only"):
        read_tensors(data)


def test_big_endian_is_refused() -> None:
    with pytest.raises(BadData, match="not little-endian"):
        read_tensors(checkpoint({}, {}, little_endian=False))


def test_the_checksum_is_compared_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(GOOD)
    good = hashlib.sha256(GOOD).hexdigest()
    np.testing.assert_array_equal(read_checkpoint(file, good)["w"], FLOATS)
    trap = tmp_path / "was-run"
    file.write_bytes(pickle.dumps(_Trap(trap)))
    with pytest.raises(BadData, match=f"are not the published ones .*expected {good}"):
        read_checkpoint(file, good)
    assert not trap.exists()
    with pytest.raises(BadData, match="cannot be read: No such file"):
        read_checkpoint(tmp_path / "none.pth", good)


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))
