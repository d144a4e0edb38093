"""PyTorch, the peer of two benchmarks: ``python -m benchmarks.torch_peer`` installs it where that costs little.

It is in no lock: the index's wheel for Linux brings gigabytes of CUDA with it (docs/decisions/0031). pip is asked
what it would fetch; a CPU build is installed, anything with CUDA only on request (``yes``). Without it the two
comparisons are not run.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence

REQUIREMENT = "torch==2.13.0"
MISSING = f"PyTorch is not installed, and pip would fetch CUDA with it (make bench TORCH=yes installs {REQUIREMENT})"


def main(words: Sequence[str]) -> None:
    """Install it unless it is there, or too large. Says what it does; never fails."""
    if importlib.util.find_spec("torch") is not None:
        return
    packages = planned()
    if packages is None:
        print(f"benchmarks: pip finds no {REQUIREMENT} for this machine; the comparisons with PyTorch are not run.")
    elif "yes" not in words and cuda(packages):
        print(f"benchmarks: {MISSING}.")
    else:
        print(f"benchmarks: installing {REQUIREMENT}, a peer", flush=True)
        subprocess.call([*_PIP, "install", "--quiet", REQUIREMENT])


def planned() -> list[str] | None:
    """The packages that pip would install, as ``name==version``; None when it cannot."""
    command = [*_PIP, "install", "--quiet", "--dry-run", "--report", "-", REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    found = json.loads(done.stdout)["install"]
    return [f"{one['metadata']['name']}=={one['metadata']['version']}" for one in found]


def cuda(packages: Sequence[str]) -> bool:
    """Does this list of packages hold NVIDIA's libraries?"""
    return any(name.startswith(("nvidia-", "cuda-", "triton")) for name in packages)


_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

if __name__ == "__main__":
    main(sys.argv[1:])
