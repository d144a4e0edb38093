"""Schedules that are refused before any server is asked."""

from __future__ import annotations

import pytest

from captioner.errors import BadParams
from flows.schedule import set_cron


@pytest.mark.parametrize(("cron", "timezone"), [("every day", "UTC"), ("0 3 * *", "UTC"), ("0 3 * * 1", "Mars/Base")])
def test_a_bad_schedule_is_refused_in_a_sentence(cron: str, timezone: str) -> None:
    with pytest.raises(BadParams, match=r"is not a schedule .*five cron fields"):
        set_cron("training", cron, timezone)
