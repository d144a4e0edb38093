"""Loads the model once, warms it, listens, and on SIGTERM answers what it has begun before it ends.

Reads five variables of the container: CAPTIONER_MODEL_VERSION and CAPTIONER_MODEL_DIGEST (who this model is),
CAPTIONER_THREADS (for TensorFlow), CAPTIONER_WORKERS (batches captioned at once) and CAPTIONER_BATCH (images in a
batch at most; 1: every request by itself).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

from captioner.errors import BadData, BadEnvironment, BadParams
from captioner.model.runtime import start_tensorflow
from captioner.serve.application import QUEUE, Application
from captioner.serve.batching import LARGEST, Model

DRAIN_S = 25.0  # SageMaker kills 30 s after SIGTERM


def serve(model_dir: Path, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT, then end the process. Raises BadData, BadParams, BadEnvironment before that."""
    started = time.monotonic()
    workers, largest = number(os.environ, "CAPTIONER_WORKERS", 1), number(os.environ, "CAPTIONER_BATCH", LARGEST)
    start_tensorflow(number(os.environ, "CAPTIONER_THREADS", os.cpu_count() or 1))
    model = load(model_dir)
    version, digest = os.environ.get("CAPTIONER_MODEL_VERSION", ""), os.environ.get("CAPTIONER_MODEL_DIGEST", "")
    application = Application(model, version, digest, workers, largest)
    took = time.monotonic() - started
    print(f"model {version or '?'} ({digest[:12] or 'no digest'}) ready in {took:.1f} s", flush=True)
    code = listen(application, host, port, threads=workers + QUEUE + 2)
    # TensorFlow takes seconds (measured: 4.5) to be taken apart, and nothing is left to be saved.
    sys.stdout.flush()
    os._exit(code)


def load(model_dir: Path) -> Model:
    """The model, with one caption already made: the first request must not pay for building the graph."""
    if not (model_dir / "1" / "saved_model.pb").is_file():
        raise BadData(f"{model_dir} holds no model: there is no 1/saved_model.pb in it.")
    from captioner.model.captioner import Captioner

    model = Captioner.load(model_dir, None)
    model.caption([warm_up_image()])
    return model


def listen(application: Any, host: str, port: int, threads: int) -> int:
    """Answer HTTP until SIGTERM or SIGINT, then finish what was begun. Returns 0. Raises BadEnvironment."""
    from waitress import create_server

    try:
        server: Any = create_server(application, host=host, port=port, threads=threads, ident="captioner")
    except OSError as error:
        raise BadEnvironment(f"Port {port} cannot be used: {error.strerror or error}; choose another.") from None

    def drain() -> None:
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline and any(
            channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values())
        ):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    def on_term(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=drain, daemon=True).start()

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, _leave)
    print(f"listening on {host}:{server.effective_port}", flush=True)
    server.run()  # returns when a signal handler raises SystemExit
    server.close()
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


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
