"""What the emulator remembers between `down` and `up`: models, endpoint configs, endpoints, in one JSON file.

Every change is written whole before it is answered. Knows nothing of processes.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captioner.records import read_json, write_json

ACCOUNT = "123456789012"
REGION = "us-east-1"
KINDS = ("model", "endpoint-config", "endpoint")

Resource = dict[str, Any]


class Store:
    """Resources by kind and name. Values handed out are copies; changes go through `change`."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.RLock()
        self._state: dict[str, dict[str, Resource]] = {kind: {} for kind in KINDS}
        if file.exists():
            for kind, found in read_json(file).items():
                self._state[kind] = found

    def get(self, kind: str, name: str) -> Resource | None:
        with self._lock:
            return copy.deepcopy(self._state[kind].get(name))

    def member(self, kind: str, name: str, key: str) -> Any:
        """One member of a resource, None when there is no such one: cheaper than a copy of it all."""
        with self._lock:
            return copy.deepcopy(self._state[kind].get(name, {}).get(key))

    def all(self, kind: str) -> list[Resource]:
        """Every resource of `kind`, the newest first, as AWS lists them."""
        with self._lock:
            found = copy.deepcopy(list(self._state[kind].values()))
        return sorted(found, key=lambda one: -one["CreationTime"])

    def add(self, kind: str, name: str, value: Resource) -> bool:
        """Add a resource with its ARN and times; False (nothing changed) when the name is taken."""
        with self._lock:
            if name in self._state[kind]:
                return False
            now = time.time()
            self._state[kind][name] = {**value, "Arn": arn(kind, name), "CreationTime": now, "LastModifiedTime": now}
            self._save()
            return True

    def change(self, kind: str, name: str, edit: Callable[[Resource], None]) -> Resource | None:
        """Apply `edit` to a resource as one step; an exception in it changes nothing. None: there is no such one."""
        with self._lock:
            if name not in self._state[kind]:
                return None
            value = copy.deepcopy(self._state[kind][name])
            edit(value)
            value["LastModifiedTime"] = time.time()
            self._state[kind][name] = value
            self._save()
            return copy.deepcopy(value)

    def remove(self, kind: str, name: str) -> bool:
        with self._lock:
            found = self._state[kind].pop(name, None)
            if found is not None:
                self._save()
            return found is not None

    def by_arn(self, wanted: str) -> tuple[str, str] | None:
        """(kind, name) of the resource with this ARN."""
        with self._lock:
            every = ((kind, name, one["Arn"]) for kind, named in self._state.items() for name, one in named.items())
            return next(((kind, name) for kind, name, found in every if found == wanted), None)

    def _save(self) -> None:
        write_json(self._file, self._state)


def arn(kind: str, name: str) -> str:
    # AWS lower-cases names in ARNs.
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"
