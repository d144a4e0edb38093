"""The serving container's contract, kept by one process: ``GET /ping``, ``POST /invocations``, SIGTERM.

``server`` loads the model, ``listening`` is the HTTP server and its end, ``application`` answers, ``requests`` reads
bodies, ``batching`` captions together what comes together, ``journal`` and ``meters`` say what happened. Knows nothing
of SageMaker's API, the registry or params.yaml: a container has a model folder and its environment.
"""

from __future__ import annotations

from pathlib import Path


def main(model_dir: Path, host: str = "0.0.0.0", port: int = 8080) -> int:
    """Serve the model in `model_dir` (holding ``1/saved_model.pb``) until SIGTERM. Returns the exit code.

    Raises BadData when there is no model there, BadEnvironment when the port is taken.
    """
    from captioner.serve.server import serve

    return serve(model_dir, host, port)
