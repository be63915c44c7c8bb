"""The client of Yahoo Finance's chart endpoint. Budget and retries are in `http`.

Best effort, for up to about a hundred symbols: the endpoint is undocumented and guarantees nothing, and an address that
sends too many requests is blocked for minutes. One call answers one symbol. Prices are adjusted for splits, not for
dividends.

Everything that is not a closed bar is dropped: rows of nulls, the live tick after the last bar, and the bar that is
still forming.
"""

import math
import re
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import polars as pl

from ema_assets.model.errors import ProviderError, RequestRefused
from ema_assets.model.schemas import ACTION_SCHEMA, UTC_TIME
from ema_assets.model.symbols import EXTENDED_SUFFIX, FX_CALENDAR, Instrument, without_hours
from ema_assets.providers.declaration import Provider
from ema_assets.providers.fetching.base import NO_ACTIONS, NO_BARS
from ema_assets.providers.fetching.frames import is_amount, is_ratio, only_asked
from ema_assets.providers.fetching.single_symbol import Clock, Page, SeriesQuery, SingleSymbolClient, utc_now
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.circuit_breaker import CircuitBreaker
from ema_assets.providers.http.refusals import Manners
from ema_assets.providers.http.source import HttpCall, HttpOptions, HttpSource
from ema_assets.providers.yahoo import YahooConfig

MAX_CONCURRENCY = 4
_PATH = "/v8/finance/chart/"
# Callers other than browsers are blocked.
_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
_US_CALENDARS = ("XNYS", "NYSE", "XNAS", "NASDAQ", "BATS")
_CLASS_SHARE = re.compile(r"([A-Z]+)\.([A-Z])")
_VALUES = ("open", "high", "low", "close", "volume")
_DAY_SECONDS = 86_400
_QUARTER_SECONDS = 900
# Companies split by small numbers, such as 3:2 or 21:20.
_MOST_SHARES = 50
# Exchanges without real-time prices are ten to thirty minutes behind. A last trade that is older says nothing. One in
# this range is where a delayed exchange is now, and a younger one shows that the exchange is not delayed.
_DELAY_SECONDS = (8 * 60, 32 * 60)

# Years 1 to 9999; indices reach back beyond 1970.
_Seconds = Annotated[int, msgspec.Meta(ge=-62_135_596_800, le=253_402_300_799)]


class _Period(msgspec.Struct):
    start: _Seconds
    end: _Seconds


class _Periods(msgspec.Struct):
    regular: _Period | None = None


class _Meta(msgspec.Struct, rename="camel"):
    symbol: str
    data_granularity: str | None = None
    regular_market_time: _Seconds | None = None
    current_trading_period: _Periods | None = None


_Column = list[float | None] | None


class _Quote(msgspec.Struct):
    open: _Column = None
    high: _Column = None
    low: _Column = None
    close: _Column = None
    volume: _Column = None


class _Indicators(msgspec.Struct):
    quote: list[_Quote]


class _Result(msgspec.Struct):
    meta: _Meta
    indicators: _Indicators
    timestamp: list[_Seconds] | None = None
    events: msgspec.Raw = msgspec.Raw()


class _Split(msgspec.Struct):
    date: _Seconds
    numerator: float
    denominator: float


class _Dividend(msgspec.Struct):
    date: _Seconds
    amount: float


class _Events(msgspec.Struct):
    splits: dict[str, _Split] = {}
    dividends: dict[str, _Dividend] = {}


class _Error(msgspec.Struct):
    code: str
    description: str | None = None


class _Chart(msgspec.Struct):
    result: list[_Result] | None
    error: _Error | None = None


class _Answer(msgspec.Struct):
    chart: _Chart


class _RefusedChart(msgspec.Struct):
    error: _Error


class _Refused(msgspec.Struct):
    """An error body of the charts, or of the server in front of the vendor's endpoints, which checks the callers."""

    chart: _RefusedChart | None = None
    finance: _RefusedChart | None = None


_read_answer = msgspec.json.Decoder(_Answer).decode
_read_refused = msgspec.json.Decoder(_Refused).decode
_read_events = msgspec.json.Decoder(_Events).decode


class _NothingThere(RequestRefused):
    """The vendor's answer for a range without bars. This error never leaves this module."""


class YahooClient(SingleSymbolClient[HttpSource]):
    """A client of Yahoo for charts. One object serves one event loop and is closed with `aclose`.

    A request for times before the reach of a timeframe is completed without bars. A 429, or its older form 999, ends
    the fetch for all symbols at once: it is not a hint to slow down but a block for several minutes.
    """

    def __init__(
        self,
        provider: Provider[Any],
        config: YahooConfig,
        options: HttpOptions | None = None,
        clock: Clock = utc_now,
    ) -> None:
        manners = Manners(
            headers={"Accept": "application/json", "User-Agent": _USER_AGENT},
            needs_key=False,
            says=_says,
            bans=(418, 429, 999),
        )
        limits = HttpLimits(max_concurrency=MAX_CONCURRENCY, requests_per_minute=config.requests_per_minute)
        super().__init__(provider, HttpSource(provider.name, config.base_url, manners, limits, options), clock)

    def vendor_symbol(self, instrument: Instrument) -> str:
        """Return the vendor's spelling: `BRK-B` for a US `BRK.B`, `BTC-USD` for `BTC/USD`, `EURUSD=X` for `EUR_USD`."""
        if _is_us(instrument) and (share := _CLASS_SHARE.fullmatch(instrument.symbol)):
            return f"{share[1]}-{share[2]}"
        if instrument.calendar == FX_CALENDAR and not instrument.symbol.endswith("=X"):
            return f"{''.join(filter(str.isalnum, instrument.symbol))}=X"
        return instrument.symbol.replace("/", "-", 1) if instrument.is_crypto else instrument.symbol

    async def pages(self, query: SeriesQuery, breaker: CircuitBreaker) -> AsyncGenerator[Page, None]:
        """Yield the whole range as one page."""
        now = self._clock()
        reach = self._provider.reach(query.timeframe.key)
        start = query.start if reach is None else max(query.start, now - reach)
        if start >= query.end:
            return
        call = HttpCall(
            _PATH + quote(query.symbol, safe=""),
            {
                "period1": str(math.floor(start.timestamp())),
                "period2": str(math.ceil(query.end.timestamp())),
                "interval": self._interval(query),
                "includePrePost": "true" if _has_extended_hours(query) else "false",
                "events": "div,splits",
            },
            scope=self.name,
            explain=lambda _status, said: self._explain(query, said),
        )
        try:
            page = self._read(query, await self._http.get(call, breaker), now)
        except _NothingThere:
            page = Page(NO_BARS)
        breaker.answered(self.name)
        yield page

    def _interval(self, query: SeriesQuery) -> str:
        return self._provider.words[query.timeframe.key]

    def _explain(self, query: SeriesQuery, said: str) -> ProviderError | None:
        if said.startswith("Not Found"):
            return self.unknown(query, said)
        if "Data doesn't exist for startDate" in said:
            return _NothingThere(said, provider=self.name, symbol=query.symbol)
        return None

    def _read(self, query: SeriesQuery, body: bytes, now: datetime) -> Page:
        chart = self.decoded(query, _read_answer, body).chart
        if chart.error is not None:
            said = self._http.without_secrets(_in_words(chart.error))[:200]
            raise self._explain(query, said) or self.malformed(query, said)
        if not chart.result:
            raise self.malformed(query, "neither a result nor an error")
        result = chart.result[0]
        if result.meta.symbol.upper() != query.symbol.upper():
            raise self.malformed(query, f"a chart of {result.meta.symbol!r:.40}")
        interval = self._interval(query)
        if result.meta.data_granularity not in (None, interval):
            raise self.malformed(query, f"bars of {result.meta.data_granularity!r:.40} instead of {interval!r}")
        complete = _complete_through(query, result.meta, now)
        actions = _actions(query, result.events)
        rows = self._rows(query, result)
        if rows.is_empty():
            return Page(NO_BARS, complete, actions)
        through = (complete or now).timestamp()
        rows = (_days if query.timeframe.is_session else _ticks)(rows, result.meta, query, through)
        rows = rows.with_columns(
            (pl.col("ts") * 1_000_000).cast(UTC_TIME),
            pl.lit(query.symbol).alias("vendor"),
        )
        return Page(only_asked(rows, query.ranges(), query.timeframe), complete, actions)

    def _rows(self, query: SeriesQuery, result: _Result) -> pl.DataFrame:
        """Return the rows with a price, sorted by ts (seconds since 1970)."""
        stamps = result.timestamp or []
        if not stamps:
            return pl.DataFrame()
        if len(result.indicators.quote) != 1:
            raise self.malformed(query, f"{len(result.indicators.quote)} sets of prices")
        columns = {name: getattr(result.indicators.quote[0], name) for name in _VALUES}
        for name, column in columns.items():
            if column is None or len(column) != len(stamps):
                received = "no" if column is None else len(column)
                raise self.malformed(query, f"{len(stamps)} times and {received} values of `{name}`")
        return (
            pl.DataFrame({"ts": stamps, **columns}, schema={"ts": pl.Int64, **dict.fromkeys(_VALUES, pl.Float64)})
            .filter(pl.any_horizontal(pl.col(*_VALUES[:4]).is_not_null()))
            .sort("ts", maintain_order=True)
        )


def _is_us(instrument: Instrument) -> bool:
    return without_hours(instrument.calendar) in _US_CALENDARS


def _has_extended_hours(query: SeriesQuery) -> bool:
    """Return whether bars before and after hours belong to the series. A day spans the exchange's own hours."""
    return not query.timeframe.is_session and any(
        request.instrument.calendar.endswith(EXTENDED_SUFFIX) for request in query.requests
    )


def _ticks(rows: pl.DataFrame, meta: _Meta, query: SeriesQuery, through: float) -> pl.DataFrame:
    """Return intraday `rows`, complete `through` a time, without the live tick and the bar that is still forming."""
    seconds = int(query.timeframe.duration.total_seconds())
    last = rows["ts"][-1]
    # A tick on the grid is recognised by the bar with the same ts before it.
    is_repeated = rows.height > 1 and last == rows["ts"][-2] == meta.regular_market_time
    # Longer bars begin with the session, which opens on a quarter hour.
    if last % min(seconds, _QUARTER_SECONDS) or is_repeated:
        rows = rows[:-1]
    return rows.filter(pl.col("ts") + seconds <= through)


def _days(rows: pl.DataFrame, meta: _Meta, _query: SeriesQuery, through: float) -> pl.DataFrame:
    """Return daily `rows`, complete `through` a time, without the one that is still forming.

    The row of the current session has the time of its last trade instead of the open. It replaces or follows the
    regular row. Here it is given the open, and of two rows the later one wins.
    """
    period = meta.current_trading_period.regular if meta.current_trading_period else None
    if period is None or not 0 < period.end - period.start <= _DAY_SECONDS:
        period = _Period(0, _DAY_SECONDS)
    last = rows["ts"][-1]
    if last == meta.regular_market_time or last % 300:
        opened = last - (last - period.start) % _DAY_SECONDS
        rows = rows.with_columns(pl.when(pl.col("ts") == last).then(opened).otherwise(pl.col("ts")).alias("ts"))
    return rows.filter(pl.col("ts") + (period.end - period.start) <= through)


def _complete_through(query: SeriesQuery, meta: _Meta, now: datetime) -> datetime | None:
    """Return up to when the vendor has all trades (UTC), or None if its last trade does not show this."""
    instrument = query.requests[0].instrument
    if instrument.is_crypto or _is_us(instrument):
        return now
    if meta.regular_market_time is None:
        return None
    seconds = now.timestamp() - meta.regular_market_time
    if seconds < _DELAY_SECONDS[0]:
        return now
    return now - timedelta(seconds=seconds) if seconds <= _DELAY_SECONDS[1] else None


def _actions(query: SeriesQuery, events: msgspec.Raw) -> pl.DataFrame:
    """Return the splits and dividends sent with a chart, in ACTION_SCHEMA. Unreadable ones do not affect the bars."""
    if not bytes(events):
        return NO_ACTIONS
    try:
        found = _read_events(events)
    except msgspec.DecodeError:
        return NO_ACTIONS
    rows: list[tuple[str, int, float | None, float | None]] = [
        (_kind(split), split.date, split.numerator / split.denominator, None)
        for split in found.splits.values()
        if split.denominator > 0 and split.numerator != split.denominator
        if is_ratio(split.numerator / split.denominator)
    ]
    rows += [("dividend", each.date, None, each.amount) for each in found.dividends.values() if is_amount(each.amount)]
    if not rows:
        return NO_ACTIONS
    symbol = query.requests[0].instrument.symbol
    columns = [(symbol, kind, date * 1_000_000, ratio, amount, None) for kind, date, ratio, amount in rows]
    schema = {**ACTION_SCHEMA, "effective_at": pl.Int64()}
    return pl.DataFrame(columns, schema=schema, orient="row").cast({"effective_at": UTC_TIME}).sort("effective_at")


def _kind(split: _Split) -> str:
    """Return `spin-off` or `split`. The vendor sends a spin-off as a split by a ratio of prices such as `1253:1000`."""
    terms = Fraction(split.numerator) / Fraction(split.denominator)
    return "spin-off" if min(terms.as_integer_ratio()) > _MOST_SHARES else "split"


def _says(body: bytes) -> str:
    refused = _read_refused(body)
    if (part := refused.chart or refused.finance) is None:
        raise msgspec.ValidationError("neither `chart` nor `finance`")
    return _in_words(part.error)


def _in_words(error: _Error) -> str:
    return f"{error.code}: {error.description}" if error.description else error.code
