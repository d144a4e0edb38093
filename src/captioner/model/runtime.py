"""TensorFlow's first import: how many threads it has, what it leaves aside, and that it greets nobody."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec

# Keras and TensorFlow take these, where they are installed, for wrappers, tables and drawings that nobody here hands
# to them: nearly half of the import.
EXTRAS = ("sklearn", "matplotlib", "pandas", "scipy", "pydot")


def start_tensorflow(threads: int, at_once: int = 1, keras: bool = True) -> None:
    """Import TensorFlow with `threads` threads for each operation, of which it runs two at a time, or `at_once`.

    It must not have been imported before; later calls do nothing. Whoever only runs a SavedModel needs no Keras:
    without it (`keras` False) the import takes little more than half of its time. A later ``import keras`` works.

    Its C++ side greets on standard error before any logging level is in force, so that is where it is held back.
    """
    if "tensorflow" in sys.modules:
        return
    # Level 3 hides warnings about kernels that were chosen instead of others; what matters comes as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # TensorFlow asks for keras.src at the end of its import and does without it if it must.
    with _without_stderr(), _missing(*EXTRAS, *(() if keras else ("keras.src",))):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, at_once))
        tf.constant(0)


@contextmanager
def _without_stderr() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _Missing:
    """A finder (``sys.meta_path``) that lets this thread find none of `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.thread = names, threading.get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in self.names and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)
        return None


@contextmanager
def _missing(*names: str) -> Iterator[None]:
    finder = _Missing(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
