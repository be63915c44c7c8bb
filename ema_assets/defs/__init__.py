"""The Dagster side: partitions, resources, assets, checks, jobs, schedules, sensors. The work itself is in refresh/."""
