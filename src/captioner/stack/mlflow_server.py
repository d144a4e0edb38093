"""``python -m captioner.stack.mlflow_server PORT DATABASE``: MLflow's server over a database that is whole.

MLflow's own first start creates the file and migrates it in place, while a stage that tracks without a server may do
the same; here both make it by the same function, which takes turns. Then this process becomes the server.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.stack.processes import HOST


def main(port: str, database: Path) -> int:
    """Serve until a signal. Returns only when the database cannot be made."""
    from captioner.adapters.mlflow_store import prepare

    try:
        prepare(database)
    except CaptionerError as error:
        print(f"captioner: {error}", file=sys.stderr)
        return error.exit_code
    artifacts = (database.parent / "artifacts").as_uri()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", port, "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{database}"),
        # Runs written without the server must be readable through it: plain file artifacts.
        *("--default-artifact-root", artifacts, "--artifacts-destination", artifacts),
    ]
    os.execv(command[0], command)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
