"""A scrape: one reading as families of prometheus_client. Readings and names of gauges are defined in other modules."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ema_assets.config.settings import Settings
from ema_assets.metrics.gauges import GAUGES, PREFIX
from ema_assets.metrics.latency_counts import LatencyCounts
from ema_assets.metrics.readings import Readings, read
from ema_assets.model import clock
from ema_assets.model.errors import StoreError
from ema_assets.model.urls import with_settings
from ema_assets.runtime import locate
from ema_assets.store import measurements
from ema_assets.store.database import Database

if TYPE_CHECKING:
    from ema_assets.defs.run_queue import Runs

# Parallel or frequent scrapes cost one reading per this many seconds.
LEAST_SECONDS = 5.0
_CONNECT_SECONDS = 5

_log = logging.getLogger(__name__)


class Exporter(Collector):
    """A collector that reads the database at each scrape, at its current address. The metrics say if it is down.

    `ask_dagster` returns what Dagster knows of the runs of timeframes, and may raise anything.
    """

    def __init__(
        self,
        settings: Settings,
        ask_dagster: "Callable[[list[str]], Runs]",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._ask_dagster = ask_dagster
        self._now = now
        self._latency = LatencyCounts(now())
        self._turn = threading.Lock()
        self._last: tuple[float, list[Metric]] | None = None
        self._database: Database | None = None
        self.statements = 0

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families of one reading, which is reused for LEAST_SECONDS."""
        with self._turn:
            if self._last is None or time.monotonic() - self._last[0] >= LEAST_SECONDS:
                self._last = (time.monotonic(), list(self._families()))
            yield from self._last[1]

    def close(self) -> None:
        """Close the connection to the database."""
        if self._database is not None:
            self._database.close()

    def _families(self) -> Iterator[Metric]:
        seen = self._readings()
        build = GaugeMetricFamily(f"{PREFIX}build_info", "The version of ema-assets", labels=["version"])
        build.add_metric([metadata.version("ema-assets")], 1)
        yield build
        yield GaugeMetricFamily(f"{PREFIX}database_up", "1 while the database can be read", value=seen is not None)
        if seen is None:
            return
        is_up = seen.runs is not None
        yield GaugeMetricFamily(f"{PREFIX}dagster_up", "1 while Dagster's records can be read", value=is_up)
        for gauge in GAUGES:
            family = GaugeMetricFamily(f"{PREFIX}{gauge.name}", gauge.meaning, labels=gauge.labels)
            for labels, value in gauge.values(seen):
                family.add_metric(labels, value)
            yield family
        revisions = int(seen.counts.filter(what="revisions")["n"].item())
        yield CounterMetricFamily(
            f"{PREFIX}revisions", "Changes of the past since the database was made", value=revisions
        )
        yield self._histogram()

    def _histogram(self) -> Metric:
        family = HistogramMetricFamily(
            f"{PREFIX}close_latency_seconds",
            "From the close of a bar to its last row, per series, since this process started",
            labels=["timeframe"],
        )
        for timeframe, (buckets, total) in self._latency.cumulative().items():
            family.add_metric([timeframe], buckets, total)
        return family

    def _readings(self) -> Readings | None:
        try:
            database = self._connected()
            with database.transaction() as transaction:
                now = self._now()
                before = database.statements
                seen = read(transaction, self._settings, now, clock.now())
                after, through = self._latency.window(now)
                rows = measurements.latencies(transaction, after, through)
                self.statements = database.statements - before
            self._latency.add(rows, through)
            self._latency.expect({each.timeframe for each in seen.assets})
        except Exception as error:  # noqa: BLE001 - whatever it is, the scrape says that the database is down
            _log.warning("the database cannot be read: %s", error, exc_info=not isinstance(error, StoreError))
            self.close()
            return None
        return replace(seen, runs=self._runs(seen))

    def _connected(self) -> Database:
        """Return the connection to the current database. An embedded server gets no lease, so it may stop."""
        url = with_settings(locate.database_url(self._settings), connect_timeout=str(_CONNECT_SECONDS))
        if self._database is None or self._database.url != url:
            self.close()
            self._database = Database(url, "ema-assets metrics")
        return self._database

    def _runs(self, seen: Readings) -> "Runs | None":
        try:
            return self._ask_dagster(seen.computed["timeframe"].to_list())
        except Exception as error:  # noqa: BLE001 - another's storage, which may be down or lack its tables
            _log.warning("Dagster's records cannot be read: %s", error)
            return None
