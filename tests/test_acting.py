"""Who is doing this: a person at a machine, or the job of a CI service."""

from __future__ import annotations

import getpass
import socket

import pytest

from captioner.acting import acting

HERE = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("environ", "who"),
    [
        ({}, HERE),
        ({"CI": "true"}, f"CI on {HERE}"),
        ({"CI": "false"}, HERE),
        (
            {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_REPOSITORY": "a/b",
                "GITHUB_RUN_ID": "7",
                "GITHUB_ACTOR": "ada",
            },
            "GitHub Actions, a/b run 7 (ada)",
        ),
        (
            {"GITLAB_CI": "true", "CI_JOB_URL": "https://gitlab.example.org/7", "GITLAB_USER_LOGIN": "ada"},
            "GitLab CI, https://gitlab.example.org/7 (ada)",
        ),
        ({"JENKINS_URL": "https://ci.example.org", "BUILD_TAG": "job-7"}, "Jenkins, job-7"),
    ],
)
def test_who_acts(environ: dict[str, str], who: str) -> None:
    assert acting(environ) == who
