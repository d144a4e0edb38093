"""Errors that we raise on purpose are one sentence in Prefect's logs as well; only bugs show a traceback."""

from __future__ import annotations

import logging

from captioner.errors import CaptionerError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class Plain(logging.Filter):
    """Replaces the traceback of a CaptionerError by its sentence."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CaptionerError):
            record.msg, record.args = "%s", (str(error),)
            record.exc_info, record.exc_text = None, None
        return True


def speak_plainly() -> None:
    """Put the filter where Prefect logs exceptions; once is enough, twice does no harm."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, Plain) for one in logger.filters):
            logger.addFilter(Plain())
