"""Bring .venv in line with the locks: `install.py local` before `make run`, `install.py dev` before `make test`.

Needs a Python and a package index, nothing else: makes .venv, fetches uv (hash-pinned) with pip, installs the lock with
uv (with pip where uv fails), compiles the bytecode once, installs this project in place. What is in .venv is noted in
.venv/installed.json by the locks' content, so that a second call does nothing and a superset stands in for a
subset. This file must stay readable for the old Pythons that it turns away.
"""

# ruff: noqa: E402

import sys


def fits(version: "tuple[int, int]") -> bool:
    """Does `version` (major, minor) suit pyproject.toml's requires-python?"""
    return (3, 11) <= tuple(version) < (3, 14)


def refusal(version: "tuple[int, int]", where: str) -> str:
    """The sentence for a Python that does not suit."""
    what = "captioner needs Python 3.11, 3.12 or 3.13, and {} is {}.{}: install one of them, or name it, as in "
    return what.format(where, *version) + "make run PYTHON=/path/to/python3.13"


if __name__ == "__main__" and not fits(sys.version_info[:2]):
    import os
    import subprocess

    for name in ("python3.13", "python3.12", "python3.11"):
        try:
            if subprocess.call([name, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL) == 0:
                os.execvp(name, [name, *sys.argv])
        except OSError:
            pass
    sys.exit(refusal(sys.version_info[:2], sys.executable))

import fcntl
import hashlib
import json
import os
import subprocess
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Command = list[str | Path]
ROOT = Path(__file__).resolve().parents[1]
# lock → the locks that hold everything it holds
SUPERSETS = {
    "uv": ("runtime", "serve", "pipeline", "openvino", "local", "api", "web", "bench", "dev"),
    "runtime": ("serve", "pipeline", "openvino", "local", "api", "web", "bench", "dev"),
    "serve": ("pipeline", "openvino", "local", "bench", "dev"),
    "pipeline": ("openvino", "local", "bench", "dev"),
    "openvino": ("bench", "dev"),
    "local": ("bench", "dev"),
    "bench": ("dev",),
    "api": ("local", "bench", "dev"),
    "web": ("local", "bench", "dev"),
    "dev": (),
}


class Environment:
    """A checkout's .venv: what is in it, and how to change that."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.note = self.folder / "installed.json"

    def digest(self, lock: str) -> str:
        """What identifies `lock` together with what installs it."""
        files = [self.root / "requirements" / f"{name}.txt" for name in ("uv", lock)]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def project_digest(self) -> str:
        """What decides the metadata and the commands of this project itself."""
        tables = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        kept = {key: tables[key] for key in ("build-system", "project")}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def installed(self) -> dict[str, str]:
        """What the note says, without the locks that have changed since. Empty when there is none for this place."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if note.pop("root", None) != str(self.root):
            return {}
        known = {lock: digest for lock, digest in note.items() if lock in SUPERSETS and digest == self.digest(lock)}
        return {**known, "project": note.get("project", "")}

    def has(self, lock: str) -> bool:
        """Is everything of `lock` there already?"""
        found = self.installed()
        return any(name in found for name in (lock, *SUPERSETS[lock])) and self.python.exists()

    def has_project(self) -> bool:
        command = self.folder / "bin" / "captioner"
        return self.installed().get("project") == self.project_digest() and command.exists()

    def write(self, **changes: str) -> None:
        note = {**self.installed(), **changes, "root": str(self.root)}
        temporary = self.note.with_suffix(".new")
        temporary.write_text(json.dumps(note, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(self.note)

    def moved(self) -> bool:
        """Was .venv made for another folder? Its commands would start that one's Python."""
        try:
            return bool(json.loads(self.note.read_text(encoding="utf-8")).get("root") != str(self.root))
        except (OSError, ValueError):
            return False

    def make(self) -> None:
        """A .venv with a Python that fits and a pip; one that is fine is left alone."""
        probe = "import pip, sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] < (3, 14))"
        try:
            if not self.moved() and not subprocess.call([self.python, "-c", probe], stderr=subprocess.DEVNULL):
                return
        except OSError:
            pass
        say(f"a new .venv with Python {sys.version.split()[0]} ({sys.executable})")
        if run([sys.executable, "-m", "venv", "--clear", self.folder]):
            fail("python -m venv failed (on Debian and Ubuntu: apt-get install python3-venv).")

    def install(self, lock: str) -> None:
        """Everything of `lock`, by hash. uv first; pip, which is slower, when uv cannot."""
        environ = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        pip: Command = [self.python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r"]
        if not self.has("uv"):
            say("fetching uv")
            if run([*pip, "requirements/uv.txt"], environ):
                fail(INDEX)
            self.write(uv=self.digest("uv"))
        if lock == "uv":
            return
        say(f"installing requirements/{lock}.txt")
        uv: Command = [self.folder / "bin" / "uv", "pip", "install", "--python", self.python, "--require-hashes"]
        uv += ["--compile-bytecode", "--build-constraint", "requirements/uv.txt"]
        uv += ["-r"] if sys.stderr.isatty() else ["--quiet", "-r"]  # a bar for people, no list of 300 lines for logs
        if run([*uv, f"requirements/{lock}.txt"], {**self.index_of_pip(), **environ}):
            say("uv could not; trying pip, which takes minutes")
            if run([*pip, f"requirements/{lock}.txt"], environ):
                fail(INDEX)
        self.write(**{lock: self.digest(lock)})

    def install_project(self) -> None:
        """This checkout itself, in place."""
        pip: Command = [self.python, "-m", "pip", "install", "--quiet"]
        command = [*pip, "--no-deps", "--no-build-isolation", "-e", "."]
        if run(command, {**os.environ, "PIP_USER": "0"}):
            fail("the project itself could not be installed; the lines above say why.")
        self.write(project=self.project_digest())

    def index_of_pip(self) -> dict[str, str]:
        """Settings that let uv use the index and the certificate that pip is configured with: uv reads no pip.conf."""
        command: Command = [self.python, "-m", "pip", "config", "list"]
        listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        pairs = [line.partition("=") for line in listing.splitlines()]
        found = {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in pairs}
        names = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
        return {names[key]: value for key, value in found.items() if key in names}


INDEX = (
    "the packages could not be installed; the lines above say why. Behind a mirror, set PIP_INDEX_URL "
    "(or UV_DEFAULT_INDEX); then run the same command again, it goes on from where it was."
)


def main(lock: str) -> None:
    """Bring .venv in line with `lock`; nothing to do is the usual case."""
    environment = Environment(ROOT)
    if environment.has(lock) and (lock == "uv" or environment.has_project()):
        return
    start = time.monotonic()
    with one_at_a_time(ROOT / "requirements"):
        environment.make()
        if not environment.has(lock):
            environment.install(lock)
        if lock != "uv" and not environment.has_project():
            environment.install_project()
    say(f"done in {time.monotonic() - start:.0f} s")


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Two `make` at once: the second waits and then finds nothing left to do."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def run(command: Sequence[str | Path], environ: dict[str, str] | None = None) -> int:
    """Run in the checkout, its output straight to the terminal. Returns the exit status."""
    return subprocess.call([str(word) for word in command], cwd=ROOT, env=environ)


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


def fail(text: str) -> None:
    sys.exit(f"set-up: {text}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SUPERSETS:
        sys.exit(f"usage: install.py {'|'.join(SUPERSETS)}")
    main(sys.argv[1])
