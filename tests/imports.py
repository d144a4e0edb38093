"""The first-party import graph of src/captioner, read from the source: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"


def closure(module: str) -> set[Path]:
    """The files of `module` and of all it imports, at the top or in a function, directly or not.

    Imports for type checkers only are left out, and so are packages that are merely on the way to a module.
    """
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imported(name)
    return {file_of(name) for name in seen}


@cache
def imported(module: str) -> tuple[str, ...]:
    """The first-party modules that `module` itself imports."""
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    found = []
    for node in _running(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            inner = [f"{base}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if exists(name)]
            found += modules
            # `from package import module` needs the package's own code only for what is not a module.
            found += [base] if len(modules) < len(inner) else []
    return tuple(name for name in found if exists(name))


def exists(module: str) -> bool:
    return module.split(".")[0] == "captioner" and (_plain(module).is_file() or _package(module).is_file())


def file_of(module: str) -> Path:
    return _plain(module) if _plain(module).is_file() else _package(module)


def _plain(module: str) -> Path:
    return (SRC / Path(*module.split("."))).with_suffix(".py")


def _package(module: str) -> Path:
    return SRC / Path(*module.split(".")) / "__init__.py"


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".") if file_of(module).name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _running(node)
