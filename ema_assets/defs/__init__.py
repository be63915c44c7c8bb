"""The Dagster side: partitions, resources, assets, checks, jobs, schedules, sensors. Thin; the work is in refresh/."""
