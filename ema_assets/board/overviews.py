"""What the board keeps between requests: the configuration, and the state of all series. No HTTP."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from ema_assets.board.readers import Readers
from ema_assets.config import watchlist
from ema_assets.config.configuration_files import configuration_files
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.file_stamps import stamps
from ema_assets.refresh.graph import Graph, build
from ema_assets.reports.heat_map import HeatMap, heat_map, of_trend
from ema_assets.reports.trust import Trust, trust
from ema_assets.store import series_overview

# While somebody watches, a thread checks this often whether the database has changed: for thousands of series a check
# takes longer than a request may wait. The thread stops when there was no request for a while.
_ASKED_AGAIN_SECONDS = 1.0
_WATCHED_SECONDS = 20.0
# An overview that is older than this was not maintained by that thread, and is not used any more.
_OLDEST_SECONDS = 4.0
# A series becomes late by the clock alone, without a change in the database.
_LOOKED_AT_AGAIN_SECONDS = 15.0
# How often the files are checked for changes.
_FILES_SECONDS = 3.0
# What a map of any trend takes from the overview, and what makes an overview another one.
_CONDITIONS = ("symbol", "timeframe", "condition", "since", "has_fresh_averages")


@dataclass(frozen=True, slots=True)
class Configured:
    """What the files say: the settings, the watchlist, and the assets that follow from it; `error` when they are wrong.

    With an `error`, the rest is the previous state. `read` differs after each change of the files.
    """

    settings: Settings
    watched: Watchlist
    graph: Graph
    read: str
    error: str | None = None

    @property
    def tag(self) -> str:
        """A text that differs as soon as anything here does."""
        return f"{self.read} {self.error or ''}"

    @property
    def strategies(self) -> Sequence[str]:
        """The strategies that are switched on."""
        return self.graph.strategies

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Symbols by the name of their group."""
        return self.watched.groups


@dataclass(frozen=True, slots=True)
class Times:
    """The sources of time: the market's, by which bars close, and the machine's, by which work is done. UTC."""

    market: Callable[[], datetime]
    machine: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Overview:
    """All series at `now`, and `tag`, which differs as soon as anything differs that pages show about them.

    `timeframes` are the timeframes of each symbol, by their keys, shortest first; symbols are sorted.
    """

    now: datetime
    heat_map: HeatMap
    trust: Trust
    timeframes: Mapping[str, tuple[str, ...]]
    tag: str


class Overviews:
    """The newest Overview and what is Configured, for all threads of the board."""

    def __init__(self, readers: Readers, settings: Callable[[], Settings], times: Times) -> None:
        self.readers = readers
        self.times = times
        self._settings = settings
        self._turn = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._stopping = threading.Event()
        self._watched_at = float("-inf")
        # Per series: the tag of the overview at which its revision was read, and the revision.
        self._revisions: dict[tuple[str, str], tuple[str, str]] = {}
        self._kept: Overview | None = None
        # For averages other than EMA 9 and 30, by trend: the tag of the overview that the map belongs to, and the map.
        self._maps: dict[str, tuple[str, HeatMap]] = {}
        self._mark = ""
        self._asked_at = self._looked_at = float("-inf")
        self._configured: Configured | None = None
        self._files: object = None
        self._files_at = float("-inf")

    def current(self) -> Overview:
        """Return the state of all series, a second or two old, or unchanged since.

        Raises:
            StoreError: as in `Readers.transaction`.
        """
        self._watched_at = at = time.monotonic()
        kept = self._kept
        if kept is None or at - self._asked_at > _OLDEST_SECONDS:
            kept = self._look()
        if self._keeper is None or not self._keeper.is_alive():
            self._keeper = threading.Thread(target=self._keep, name="ema-assets board overview", daemon=True)
            self._keeper.start()
        return kept

    def map_of(self, trend: str) -> HeatMap:
        """Return the map of `trend`, as of the current overview. The database is queried once per change of any series.

        Raises:
            StoreError: as in `Readers.transaction`.
        """
        overview = self.current()
        if trend == EMA_TREND:
            return overview.heat_map
        known = self._maps.get(trend)
        if known is not None and known[0] == overview.tag:
            return known[1]
        conditions = overview.heat_map.series.select(*_CONDITIONS)
        with self.readers.transaction() as transaction:
            found = of_trend(transaction, conditions, trend)
        self._maps[trend] = (overview.tag, found)
        return found

    def revision_of(self, symbol: str, timeframe: str) -> str:
        """Return a text that differs with the ledger of one series. It is queried once per change of any series.

        Raises:
            StoreError: as in `Readers.transaction`.
        """
        tag, key = self.current().tag, (symbol, timeframe)
        known = self._revisions.get(key)
        if known is not None and known[0] == tag:
            return known[1]
        with self.readers.transaction() as transaction:
            revision = series_overview.revisions(transaction, symbol, timeframe)
        self._revisions[key] = (tag, revision)
        return revision

    def close(self) -> None:
        """Stop the thread and close the connections."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
        self.readers.close()

    def _keep(self) -> None:
        while time.monotonic() - self._watched_at < _WATCHED_SECONDS:
            if self._stopping.wait(_ASKED_AGAIN_SECONDS):
                return
            try:
                self._look()
            except Exception:  # noqa: BLE001 - the next request looks by itself and gets the error
                return

    def _look(self) -> Overview:
        """Query the database, unless another thread has just done so; an unchanged overview is kept."""
        with self._turn:
            at = time.monotonic()
            if self._kept is not None and at - self._asked_at < _ASKED_AGAIN_SECONDS / 2:
                return self._kept
            settings = self.configured().settings
            with self.readers.transaction() as transaction:
                mark = series_overview.mark(transaction)
                is_old = at - self._looked_at >= _LOOKED_AT_AGAIN_SECONDS
                if self._kept is None or mark != self._mark or is_old:
                    now = self.times.market()
                    found = heat_map(transaction, now, settings.publications)
                    said = trust(transaction, found.series, self.times.machine(), settings.provider)
                    self._kept = Overview(now, found, said, _timeframes(found), _tag(mark, found.series, said))
                    self._mark, self._looked_at = mark, at
            self._asked_at = time.monotonic()
            return self._kept

    def configured(self) -> Configured:
        """Return what the files say. They are checked again every few seconds.

        Raises:
            ConfigurationError: when they are wrong and were never right.
        """
        at = time.monotonic()
        if self._configured is None or at - self._files_at >= _FILES_SECONDS:
            self._files_at = at
            try:
                settings = self._settings()
                files = stamps(configuration_files(settings))
                if self._configured is None or self._configured.error or files != self._files:
                    self._configured, self._files = _read(settings, files), files
            except ConfigurationError as error:
                if self._configured is None:
                    raise
                before = self._configured
                self._configured = replace(before, error=str(error))
        return self._configured


def _timeframes(found: HeatMap) -> dict[str, tuple[str, ...]]:
    keys: dict[str, list[str]] = {}
    order = {each.key: number for number, each in enumerate(found.timeframes)}
    for symbol, timeframe in found.series.select("symbol", "timeframe").sort("symbol").iter_rows():
        keys.setdefault(symbol, []).append(timeframe)
    return {symbol: tuple(sorted(own, key=order.__getitem__)) for symbol, own in keys.items()}


def _read(settings: Settings, files: object) -> Configured:
    path = settings.watchlist_path
    watched = watchlist.of(settings) if path.exists() else watchlist.parse(watchlist.default_text())
    graph = build(watched, settings.signals_folder, settings.strategies_folder)
    return Configured(settings, watched, graph, f"{graph.fingerprint} {files}")


def _tag(mark: str, series: pl.DataFrame, said: Trust) -> str:
    """Return a text that differs with the ledger, by `mark`, and with what the clock alone changes.

    That is: the conditions of series, and corrections that become older than a day.
    """
    rows = series.sort("symbol", "timeframe").select(*_CONDITIONS)
    digest = hashlib.sha256(rows.hash_rows(seed=930).to_numpy().tobytes())
    digest.update(
        repr((mark, said.corrections.height, said.gaps, said.not_answering, said.symbols, said.not_synced)).encode()
    )
    return digest.hexdigest()[:20]
