"""Tests of what runs print: Dagster's own text, or JSON when it is configured, at the level of the run request."""

from dagster import json_console_logger, validate_run_config

from ema_assets.config.watchlist import Watchlist
from ema_assets.definitions import assembled
from ema_assets.defs.jobs import JOBS, REFRESH_JOB
from ema_assets.defs.requests import QUIET_CONFIG
from ema_assets.refresh.graph import build
from ema_assets_tests.core import CORE


def test_runs_print_json_when_it_is_configured() -> None:
    graph = build(Watchlist((), {}, **CORE))
    for name in JOBS:
        job = assembled(graph, log_format="json").resolve_job_def(name)
        assert job.loggers == {"console": json_console_logger}, name
        validated = validate_run_config(job, QUIET_CONFIG)
        assert validated["loggers"] == {"console": {"config": {"log_level": "INFO", "name": "dagster"}}}, name
    assert json_console_logger not in assembled(graph).resolve_job_def(REFRESH_JOB).loggers.values()
