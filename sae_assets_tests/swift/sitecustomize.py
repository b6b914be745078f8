"""Found by processes that tests start with this folder on ``PYTHONPATH``: Dagster's daemon looks more often.

No setting and no variable says how often it looks at sensors and backfills, nor lets it look at schedules
before a minute is full, nor keeps it from starting its code server anew every minute, which imports for seconds.
Nothing else of it is changed, and no other process: not the code server, not the runs.
"""

import sys

if "dagster._daemon" in sys.orig_argv:
    from dagster._daemon import controller, sensor
    from dagster._scheduler import scheduler

    for module, name, seconds in (
        (controller, "DEFAULT_DAEMON_INTERVAL_SECONDS", 2),
        (controller, "RELOAD_WORKSPACE_INTERVAL", 86_400),
        (sensor, "MIN_INTERVAL_LOOP_TIME", 2),
    ):
        assert hasattr(module, name), f"Dagster has no {module.__name__}.{name} any more"
        setattr(module, name, seconds)
    assert hasattr(scheduler, "_get_next_scheduler_iteration_time"), "Dagster waits for the minute in another way"
    scheduler._get_next_scheduler_iteration_time = lambda start: start + 5
