"""A local AWS whose clock is faster than AWS's, for what takes minutes there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local_aws import LocalAws

SCALE = 0.005  # ten minutes are three seconds, an alarm's minute is 0.3 s


@pytest.fixture(scope="session")
def quick_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """One emulator for the session; tests use names of their own."""
    options = ("--time-scale", str(SCALE), "--stop-timeout", "5")
    aws = LocalAws(tmp_path_factory.mktemp("quick"), startup_s=12, options=options).start()
    yield aws
    assert aws.stop() == 0
