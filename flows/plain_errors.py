"""Errors that we raise on purpose are one sentence in Prefect's logs as well; only bugs show a traceback."""

from __future__ import annotations

import logging

from captioner.errors import CaptionerError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")
END = "Finished in state "


class Plain(logging.Filter):
    """Replaces the traceback of a CaptionerError by its sentence.

    Prefect may tell it of the task, of the task's state, of the flow and of the flow's state. Here an exception that
    was told of the task is not told of the flow again, and the states after it go by their names.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: CaptionerError | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CaptionerError):
            if error is self._told:
                return False
            self._told = error
            record.msg, record.args = "%s", (str(error),)
            record.exc_info, record.exc_text = None, None
        elif self._told is not None and str(self._told) in (said := record.getMessage()) and said.startswith(END):
            record.msg, record.args = said.split("(")[0], ()
        return True


PLAIN = Plain()


def speak_plainly() -> None:
    """Put the filter where Prefect logs exceptions; once is enough, twice does no harm."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(PLAIN)
