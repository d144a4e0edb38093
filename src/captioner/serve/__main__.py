"""``python -m captioner.serve``: the container's program without the rest of the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.serve import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m captioner.serve")
    parser.add_argument("--model-dir", type=Path, default=Path("/opt/ml/model"))
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    try:
        raise SystemExit(main(options.model_dir, options.host, options.port))
    except CaptionerError as error:
        print(f"captioner serve: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
