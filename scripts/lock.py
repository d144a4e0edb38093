"""Write requirements/*.txt: what `make lock` runs. One universal, hash-pinned file for each extra.

With `--keep` (make lock ARGS=--keep) every version that the files name already stays, as far as it fits: for a new
dependency, without an upgrade of everything else.

Everything is resolved together once, the newest versions that agree; each file is then compiled under those versions,
so that all files agree with each other and a superset may stand in for a subset. No index host goes into a file.
Knows nothing of installing: that is install.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
HEADER = "# Written by `make lock`, do not edit. Versions and hashes for every platform; any index will do.\n"
# What set-up itself needs before anything else: the installer, and the build backend of pyproject.toml.
SETUP = ("uv", "setuptools>=77")


def main(keep: bool) -> None:
    """Compile all files, and write them only when all went well. `keep`: prefer the versions that they name now."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = tuple(project["optional-dependencies"])
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder) / "together.txt"
        together.write_text(pinned() if keep else "", encoding="utf-8")
        together.write_text(resolved(source(*extras), *SETUP, prefer=together), encoding="utf-8")
        locks = {"uv": resolved(*SETUP, under=together), "runtime": resolved(source(), under=together)}
        locks |= {name: resolved(source(name), under=together) for name in extras}
    for name, text in locks.items():
        (ROOT / "requirements" / f"{name}.txt").write_text(HEADER + text, encoding="utf-8")
        print(f"requirements/{name}.txt: {len(re.findall('^[a-z0-9]', text, re.MULTILINE))} entries")


def source(*extras: str) -> str:
    """The requirement that stands for this project with `extras`."""
    return f"captioner[{','.join(extras)}] @ {ROOT.as_uri()}"


def pinned() -> str:
    """All entries of all files as they are now."""
    files = sorted((ROOT / "requirements").glob("*.txt"))
    entries = (entry for file in files for entry in re.split(r"\n(?=[a-z0-9])", file.read_text(encoding="utf-8")))
    return "".join(sorted({entry.rstrip("\n") + "\n" for entry in entries if not entry.startswith("#")}))


def resolved(*requirements: str, under: Path | None = None, prefer: Path | None = None) -> str:
    """The lock of `requirements`, without this project itself.

    `under` is a lock whose versions must be kept, `prefer` one whose versions are kept where they fit.
    """
    command = [str(UV), "pip", "compile", "-", "--universal", "--python-version=3.11", "--generate-hashes"]
    # No header and no annotations: they would name a temporary file and this checkout's place on the disk.
    command += ["--quiet", "--no-header", "--no-annotate", "--no-emit-package=captioner"]
    command += [f"--constraint={under}"] if under else []
    command += [f"--output-file={prefer}"] if prefer else []  # what uv finds there, it prefers
    done = subprocess.run(command, input="\n".join(requirements), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"make lock: no file was changed.\n{done.stderr}")
    text = prefer.read_text(encoding="utf-8") if prefer else done.stdout
    return text.partition("\n# The following packages were excluded")[0].rstrip("\n") + "\n"


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--keep"]):
        sys.exit("usage: lock.py [--keep]")
    main(keep="--keep" in sys.argv[1:])
