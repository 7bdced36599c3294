"""The assets, by the group they stand in: archive, audit, report, tuning. Bodies are thin and call pure functions.

Dagster reads the annotations of what it decorates: none is deferred in these modules, nor in resources, schedules and
sensors.
"""
