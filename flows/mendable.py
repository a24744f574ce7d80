"""Prefect's log of an error that a user can mend: what it says, and not the way that it took through Prefect."""

from __future__ import annotations

import logging

from labloop.errors import LabloopError


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep every record, of a `LabloopError` its message alone, where Prefect would show some fifty lines of its own as well."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, LabloopError):
        told = record.getMessage().replace(repr(error), str(error))
        record.msg, record.args, record.exc_info = told if str(error) in told else f"{told}: {error}", (), None
    return True


def log_plainly() -> None:
    """Have Prefect's runs log so; called again it changes nothing."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
