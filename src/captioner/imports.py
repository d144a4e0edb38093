"""Imports that leave out what a library takes along only because it is installed.

Keras asks for scikit-learn and pandas, nltk for scipy. Each does without where there is none, and these take seconds to
import.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec


@contextmanager
def without(*names: str) -> Iterator[None]:
    """While this runs, what this thread imports finds none of the modules `names`, unless they are loaded already.

    Afterwards, and in other threads, they can be imported as ever.
    """
    finder = _Missing(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Missing:
    """A finder (``sys.meta_path``) that lets this thread find none of `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.thread = names, threading.get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in self.names and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)
        return None
