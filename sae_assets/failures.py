"""Why a run failed, in the words of the error that was raised first; for the command line and for alerts."""

from collections.abc import Iterable

import dagster as dg


def first_cause(events: Iterable[dg.DagsterEvent]) -> str | None:
    """The innermost error message of the first failed step (or of the run itself), without its traceback."""
    events = list(events)
    steps = [event.step_failure_data for event in events if event.is_step_failure]
    runs = [event.event_specific_data for event in events if event.is_failure and not event.is_step_failure]
    for failure in (*steps, *runs):
        error = getattr(failure, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return str(error.message).strip()
    return None
