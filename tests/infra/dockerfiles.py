"""Reads a Dockerfile and a .dockerignore as Docker does, as far as ours go."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, and the rest of its line with continuations joined."""

    name: str
    rest: str

    @property
    def exec_form(self) -> list[str]:
        """The words of a JSON array. Fails for the shell form."""
        words: list[str] = json.loads(self.rest)
        assert isinstance(words, list)
        return words

    @property
    def words(self) -> list[str]:
        """Arguments without options such as --from=build."""
        return [word for word in self.rest.split() if not word.startswith("--")]

    def option(self, name: str) -> str | None:
        found = re.search(rf"--{name}=(\S+)", self.rest)
        return found[1] if found else None


def instructions(file: Path) -> list[Instruction]:
    """What the file says, comments left out."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    split = [line.strip().split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name.upper(), rest) for name, rest in split]


def stages(file: Path) -> list[list[Instruction]]:
    """The instructions of each stage, beginning with its FROM."""
    found: list[list[Instruction]] = []
    for one in instructions(file):
        if one.name == "FROM":
            found.append([])
        if found:
            found[-1].append(one)
    return found


def is_sent(path: str, ignore: Path) -> bool:
    """Does the file at `path`, relative to the context, reach the builder? The last pattern that fits decides."""
    sent = True
    parents = [str(one) for one in PurePosixPath(path).parents if str(one) != "."]
    for pattern in _patterns(ignore):
        expression = _expression(pattern.removeprefix("!"))
        if any(expression.fullmatch(one) for one in (path, *parents)):
            sent = pattern.startswith("!")
    return sent


def _patterns(ignore: Path) -> Iterator[str]:
    for line in ignore.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def _expression(pattern: str) -> re.Pattern[str]:
    """`**` is any number of folders, `*` and `?` stay within one name."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts))
