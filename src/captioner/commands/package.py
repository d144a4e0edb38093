"""A model as the archive that SageMaker, and the local one, take."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.commands.adding import Add, as_json
from captioner.commands.showing import show


def add(verb: Add) -> None:
    """Name the verbs."""
    package = as_json(verb("package", _package, "pack a model as SageMaker's model.tar.gz"))
    package.add_argument(
        "--model",
        default=None,
        help="shipped, champion, challenger, a models:/ URI or a model.tar.gz (default: as caption)",
    )
    package.add_argument("--out", type=Path, default=Path("model.tar.gz"), help="where it goes (default: model.tar.gz)")


def _package(options: argparse.Namespace) -> None:
    from captioner.bootstrap import open_app
    from captioner.packaging import package

    show(package(open_app(), options.model, options.out), options.json)
