"""TensorFlow's first import: how many threads it has, what it leaves aside, and that it greets nobody."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from captioner.imports import without

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
    with _without_stderr(), without(*EXTRAS, *(() if keras else ("keras.src",))):
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
