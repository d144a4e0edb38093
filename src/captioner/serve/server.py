"""Loads the model once, warms it, and only then listens: whoever is answered on /ping can be captioned.

Reads the variables of the container that VARIABLES names, and no other setting.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from captioner.errors import BadData, BadParams
from captioner.images import normalise
from captioner.model.runtime import start_tensorflow
from captioner.serve.application import DEADLINE_S, QUEUE, Application
from captioner.serve.batching import LARGEST, Model
from captioner.serve.journal import Journal
from captioner.serve.listening import leave, listen

VARIABLES = {
    "CAPTIONER_MODEL_VERSION": "who the model is: its version in the registry",
    "CAPTIONER_MODEL_DIGEST": "who the model is: the SHA-256 of its model.tar.gz",
    "CAPTIONER_THREADS": "threads for a batch (default 1)",
    "CAPTIONER_WORKERS": "batches captioned at once (default: as many as there are cores for)",
    "CAPTIONER_BATCH": "images in a batch at most; 1 captions every request by itself (default 8)",
    "CAPTIONER_DEADLINE": "seconds that a request may wait before it is sent away (default 25)",
}


def serve(model_dir: Path, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT, then end the process. Raises BadData, BadParams, BadEnvironment before that."""
    # Until it listens there is nothing to finish; and a container's first process ignores what it does not handle.
    signal.signal(signal.SIGTERM, leave)
    started = time.monotonic()
    threads, largest = number(os.environ, "CAPTIONER_THREADS", 1), number(os.environ, "CAPTIONER_BATCH", LARGEST)
    workers = number(os.environ, "CAPTIONER_WORKERS", max(1, (os.cpu_count() or 1) // threads))
    deadline = number(os.environ, "CAPTIONER_DEADLINE", int(DEADLINE_S))
    version, digest = os.environ.get("CAPTIONER_MODEL_VERSION", ""), os.environ.get("CAPTIONER_MODEL_DIGEST", "")
    start_tensorflow(threads, at_once=workers, keras=False)
    model = load(model_dir)
    journal = Journal(version, digest)
    application = Application(model, version, digest, workers, largest, deadline, journal)
    journal.write("ready", seconds=round(time.monotonic() - started, 1))
    code = listen(application, host, port, threads=workers + QUEUE + 2, said=journal.write)
    # TensorFlow takes seconds (measured: 4.5) to be taken apart, and nothing is left to be saved.
    sys.stdout.flush()
    os._exit(code)


def load(model_dir: Path) -> Model:
    """The model, with one caption already made: the first request must not pay for building the graph.

    By the way that requests go, so that what reads pictures is loaded too.
    """
    if not (model_dir / "1" / "saved_model.pb").is_file():
        raise BadData(f"{model_dir} holds no model: there is no 1/saved_model.pb in it.")
    from captioner.model.captioner import Captioner

    model = Captioner.load(model_dir, None)
    model.caption([normalise(warm_up_image(), "warm-up")])
    return model


def number(environ: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of at least 1 from the environment. Raises BadParams."""
    value = environ.get(name) or str(default)
    if not value.isdigit() or int(value) < 1:
        raise BadParams(f"{name} is {value!r}; it must be a whole number from 1.")
    return int(value)


def warm_up_image() -> bytes:
    """A small grey PNG."""
    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()
