"""Arrays by name in an .npz without pickles: how weights are kept. Knows nothing of networks."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from captioner.errors import BadData


def rounded(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays in float16."""
    return {name: array.astype(np.float16) for name, array in arrays.items()}


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an .npz, in the order of their names, without times."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            one = io.BytesIO()
            np.lib.format.write_array(one, np.asanyarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), one.getvalue())
    return packed.getvalue()


def unpack_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz. Raises BadData when it is missing, cut short or holds anything but arrays."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise BadData(f"{path} is missing: run the stage that writes it first.") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError):
        raise BadData(f"{path} is damaged: delete it and run its stage again.") from None
