"""The serving image: `captioner deploy image`."""

from __future__ import annotations

import argparse
from typing import Any

from captioner.commands.adding import Add, as_json
from captioner.commands.showing import show


def add_image(verb: Add, actions: Any) -> None:
    """Name the action; `actions` are the subparsers of `deploy`."""
    image = as_json(verb("image", _image, "build the serving image, and push it to ECR unless AWS is local", actions))
    image.add_argument("--tag", default=None, help="its tag (default: the version and the commit)")


def _image(options: argparse.Namespace) -> None:
    from captioner.bootstrap import publish_image

    show(publish_image(options.tag), options.json)
