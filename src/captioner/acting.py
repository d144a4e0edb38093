"""Who is doing this: a person at a machine, or the job of a CI service that runs us.

Reads the environment that CI services set, and nothing of ours. Knows nothing of Prefect: its flows say who they are.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping


def acting(environ: Mapping[str, str] | None = None) -> str:
    """``user@host``, or the CI job with whoever started it."""
    env = os.environ if environ is None else environ
    if env.get("GITHUB_ACTIONS") == "true":
        run = f"{env.get('GITHUB_REPOSITORY', '?')} run {env.get('GITHUB_RUN_ID', '?')}"
        return f"GitHub Actions, {run} ({env.get('GITHUB_ACTOR', 'nobody named')})"
    if env.get("GITLAB_CI") == "true":
        return f"GitLab CI, {env.get('CI_JOB_URL', '?')} ({env.get('GITLAB_USER_LOGIN', 'nobody named')})"
    if env.get("JENKINS_URL"):
        return f"Jenkins, {env.get('BUILD_URL') or env.get('BUILD_TAG', '?')}"
    where = f"{_user()}@{machine()}"
    return f"CI on {where}" if env.get("CI", "").lower() in ("true", "1") else where


def machine() -> str:
    return socket.gethostname()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        return f"user {os.getuid()}"
