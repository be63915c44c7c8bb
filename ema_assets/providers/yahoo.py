"""Bars from Yahoo Finance's chart endpoint, and from anything that speaks it. HTTP lives in http.py.

Best effort, for up to about a hundred symbols: the endpoint is not documented, promises nothing, and shuts an address
out for minutes that asks too much. One call answers one symbol. Prices are adjusted for splits, not for dividends.

What it sends beside closed bars goes: rows of nulls, the live tick behind the last bar, and the bar still forming.
"""

import math
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import quote

import msgspec
import polars as pl

from ema_assets.model.errors import ProviderError, RequestRefused
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.providers.frames import NO_BARS, only_asked
from ema_assets.providers.http import Budget, Fuse, HttpLimits, HttpSource
from ema_assets.providers.single import Ask, Clock, SingleSymbolProvider, utc_now

YAHOO_URL = "https://query1.finance.yahoo.com"

_PATH = "/v8/finance/chart/"
_INTERVALS = {"5m": "5m", "1d": "1d"}
# Sixty days to the second are refused already, and the clocks may differ.
_REACH = {"5m": timedelta(days=60) - timedelta(hours=1)}
# Other callers than browsers are shut out.
_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
_US_CALENDARS = ("XNYS", "NYSE", "XNAS", "NASDAQ", "BATS")
_CLASS_SHARE = re.compile(r"([A-Z]+)\.([A-Z])")
_VALUES = ("open", "high", "low", "close", "volume")
_DAY_SECONDS = 86_400
# Exchanges without real-time prices are fifteen minutes behind. A last trade longer ago than that, or only just, is
# what happened; one in between may be where a delayed exchange has come to.
_DELAY_SECONDS = (10 * 60, 17 * 60)

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
    chart: _RefusedChart


_read_answer = msgspec.json.Decoder(_Answer).decode
_read_refused = msgspec.json.Decoder(_Refused).decode


class _NothingThere(RequestRefused):
    """The vendor's way to say that a range holds no bars; never leaves this module."""


class YahooProvider(SingleSymbolProvider):
    """Yahoo's charts as a Provider. One object serves one event loop and is closed with `aclose`.

    Intraday bars reach back just under 60 days; what was asked for before that is completed without bars. A 429 ends
    the fetch for all symbols at once: it is no hint to slow down but a block of several minutes.
    """

    def __init__(
        self,
        base_url: str = YAHOO_URL,
        *,
        name: str = "yahoo",
        is_synthetic: bool = False,
        requests_per_minute: int = 100,
        clock: Clock = utc_now,
        limits: HttpLimits | None = None,
        budget: Budget | None = None,
    ) -> None:
        http = HttpSource(
            name,
            base_url,
            headers={"Accept": "application/json", "User-Agent": _USER_AGENT},
            limits=limits or HttpLimits(max_concurrency=4, requests_per_minute=requests_per_minute),
            says=lambda body: _in_words(_read_refused(body).chart.error),
            bans=(418, 429),
            budget=budget,
        )
        super().__init__(http, is_synthetic=is_synthetic, clock=clock)

    def vendor_symbol(self, instrument: Instrument) -> str:
        """`BRK.B` of a US exchange is the vendor's `BRK-B` and `BTC/USD` is `BTC-USD`; the rest is spelt alike."""
        if instrument.calendar in _US_CALENDARS and (share := _CLASS_SHARE.fullmatch(instrument.symbol)):
            return f"{share[1]}-{share[2]}"
        return instrument.symbol.replace("/", "-", 1) if instrument.is_crypto else instrument.symbol

    async def pages(self, ask: Ask, fuse: Fuse) -> AsyncIterator[pl.DataFrame]:
        """Yield the whole range as one page."""
        now = self._clock()
        start = max(ask.start, now - _REACH[ask.timeframe.key]) if ask.timeframe.key in _REACH else ask.start
        if start >= ask.end:
            return
        params = {
            "period1": str(math.floor(start.timestamp())),
            "period2": str(math.ceil(ask.end.timestamp())),
            "interval": _INTERVALS[ask.timeframe.key],
            "includePrePost": "false",
            "events": "div,splits",
        }
        try:
            body = await self._http.get(
                _PATH + quote(ask.symbol, safe=""),
                params,
                scope=self.name,
                fuse=fuse,
                explain=lambda _status, said: self._explain(ask, said),
            )
            bars = self._read(ask, body, now)
        except _NothingThere:
            bars = NO_BARS
        fuse.answered(self.name)
        yield bars

    def _explain(self, ask: Ask, said: str) -> ProviderError | None:
        if said.startswith("Not Found"):
            return self.unknown(ask, said)
        if "Data doesn't exist for startDate" in said:
            return _NothingThere(said, provider=self.name, symbol=ask.symbol)
        return None

    def _read(self, ask: Ask, body: bytes, now: datetime) -> pl.DataFrame:
        try:
            chart = _read_answer(body).chart
        except msgspec.DecodeError as error:
            raise self.malformed(ask, str(error)) from None
        except RecursionError:
            raise self.malformed(ask, "JSON nested too deep") from None
        if chart.error is not None:
            said = self._http.without_secrets(_in_words(chart.error))[:200]
            raise self._explain(ask, said) or self.malformed(ask, said)
        if not chart.result:
            raise self.malformed(ask, "neither a result nor an error")
        result = chart.result[0]
        if result.meta.symbol.upper() != ask.symbol.upper():
            raise self.malformed(ask, f"a chart of {result.meta.symbol!r:.40}")
        interval = _INTERVALS[ask.timeframe.key]
        if result.meta.data_granularity not in (None, interval):
            raise self.malformed(ask, f"bars of {result.meta.data_granularity!r:.40} instead of {interval!r}")
        rows = self._rows(ask, result)
        if rows.is_empty():
            return NO_BARS
        rows = _days(rows, result.meta, now) if ask.timeframe.is_session else _ticks(rows, result.meta, ask, now)
        rows = rows.with_columns(
            (pl.col("ts") * 1_000_000).cast(UTC_TIME),
            pl.lit(ask.symbol).alias("vendor"),
        )
        return only_asked(rows, ask.ranges(), ask.timeframe)

    def _rows(self, ask: Ask, result: _Result) -> pl.DataFrame:
        """The rows that hold a price, by ts (seconds)."""
        stamps = result.timestamp or []
        if not stamps:
            return pl.DataFrame()
        if len(result.indicators.quote) != 1:
            raise self.malformed(ask, f"{len(result.indicators.quote)} sets of prices")
        columns = {name: getattr(result.indicators.quote[0], name) for name in _VALUES}
        for name, column in columns.items():
            if column is None or len(column) != len(stamps):
                received = "no" if column is None else len(column)
                raise self.malformed(ask, f"{len(stamps)} times and {received} values of `{name}`")
        return (
            pl.DataFrame({"ts": stamps, **columns}, schema={"ts": pl.Int64, **dict.fromkeys(_VALUES, pl.Float64)})
            .filter(pl.any_horizontal(pl.col(*_VALUES[:4]).is_not_null()))
            .sort("ts", maintain_order=True)
        )


def _ticks(rows: pl.DataFrame, meta: _Meta, ask: Ask, now: datetime) -> pl.DataFrame:
    """`rows` of an intraday timeframe without the live tick and the bar still forming."""
    seconds = int(ask.timeframe.duration.total_seconds())
    last = rows["ts"][-1]
    # A tick that falls on the grid is told by the bar of the same ts before it.
    is_repeated = rows.height > 1 and last == rows["ts"][-2] == meta.regular_market_time
    if last % seconds or is_repeated:
        rows = rows[:-1]
    return rows.filter(pl.col("ts") + seconds <= _complete_through(meta, now))


def _days(rows: pl.DataFrame, meta: _Meta, now: datetime) -> pl.DataFrame:
    """`rows` of days without the one still forming.

    The session of the day is labelled with its last trade instead of its open, in place of or behind the row it
    repeats; it is given its open here, and then the later row wins.
    """
    period = meta.current_trading_period.regular if meta.current_trading_period else None
    if period is None or not 0 < period.end - period.start <= _DAY_SECONDS:
        period = _Period(0, _DAY_SECONDS)
    last = rows["ts"][-1]
    if last == meta.regular_market_time or last % 300:
        opened = last - (last - period.start) % _DAY_SECONDS
        rows = rows.with_columns(pl.when(pl.col("ts") == last).then(opened).otherwise(pl.col("ts")).alias("ts"))
    return rows.filter(pl.col("ts") + (period.end - period.start) <= _complete_through(meta, now))


def _complete_through(meta: _Meta, now: datetime) -> float:
    """The unix time up to which the vendor has all trades."""
    at = now.timestamp()
    last_trade = meta.regular_market_time
    is_delayed = last_trade is not None and _DELAY_SECONDS[0] <= at - last_trade <= _DELAY_SECONDS[1]
    return last_trade if is_delayed and last_trade is not None else at


def _in_words(error: _Error) -> str:
    return f"{error.code}: {error.description}" if error.description else error.code
