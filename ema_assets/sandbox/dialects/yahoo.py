"""Yahoo Finance's charts in the sandbox, with their oddities.

A missing bar is a row of nulls. Hourly bars are counted from the session's open. During a session, the bar that is
still forming follows the closed ones, and the last trade follows as a separate row at an odd second. The time of a
daily bar is its session's open, but for some hours after the close it is the time of the last trade. Intraday bars
reach back less than 60 days, one-minute bars 30 and hourly bars 730. Clients that do not look like a browser get a 429
in plain text.

Splits and dividends of faults are sent as `events` with the bars of their day. London trades in pence, until a fault
reprices a symbol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
from starlette.requests import Request

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.exchange import Dialect, Refusal, Sandbox, json_refusal
from ema_assets.sandbox.faults import Active, CorporateAction, MissingSymbol, Repriced, Split, alteration
from ema_assets.sandbox.market import DAY_MINUTES
from ema_assets.sandbox.synthetic_bars import Bars
from ema_assets.sandbox.trading_days import STOCK_HISTORY_START

CHART_PATH = "/v8/finance/chart/{symbol}"

_INTERVALS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "90m": 90, "1h": 60, "4h": 240, "1d": DAY_MINUTES}
_VALID = "[1m, 2m, 5m, 15m, 30m, 60m, 90m, 1h, 4h, 1d, 5d, 1wk, 1mo, 3mo]"
_RANGES_DAYS = {"1d": 1, "5d": 5, "1mo": 31, "3mo": 92, "6mo": 183, "1y": 366, "2y": 731, "5y": 1_827, "10y": 3_653}
_CODES = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 422: "Unprocessable Entity"}
_NOT_FOUND = "No data found, symbol may be delisted"
_RELABELLED_SECONDS = 12 * 3_600
_HISTORY_START = int(datetime.combine(STOCK_HISTORY_START, datetime.min.time(), UTC).timestamp())
_COLUMNS = ("open", "high", "low", "close", "volume")
_MOST_BARS = 100_000
_MOST_DAYS_OF_MINUTES = 8


def _refused(status: int, description: str) -> Refusal:
    code = _CODES.get(status, "Internal Server Error" if status >= 500 else "Bad Request")
    return json_refusal(status, {"chart": {"result": None, "error": {"code": code, "description": description}}})


@dataclass(frozen=True, slots=True)
class _Query:
    """A parsed request for a chart. Times are whole seconds, `[start, end)`."""

    instrument: Instrument
    symbol: str
    interval: str
    minutes: int
    start: int
    end: int
    events: frozenset[str]

    @property
    def symbols(self) -> Sequence[str]:
        """The one symbol."""
        return (self.symbol,)


@dataclass(slots=True)
class _Row:
    """One row of the parallel arrays; `values` are open, high, low, close, volume."""

    ts: int
    values: tuple[float | None, ...]


class YahooChart(Dialect[_Query]):
    """A chart of one symbol per call."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, CHART_PATH, sandbox.budget("yahoo", sandbox.requests_per_minute))

    def spelling(self, instrument: Instrument) -> str | None:
        """Return our symbol, with a hyphen in class shares: `BRK-B` for `BRK.B`, and `BTC-USD` unchanged."""
        root, dot, letter = instrument.symbol.rpartition(".")
        is_class = dot and len(letter) == 1 and instrument.calendar == "XNYS"
        return f"{root}-{letter}" if is_class else instrument.symbol

    def refusal(self, status: int) -> Refusal:
        """Return a chart without a result, or plain text for 429."""
        if status == 429:
            return Refusal(429, b"Too Many Requests\r\n", "text/plain; charset=utf-8")
        return _refused(status, _NOT_FOUND if status == 404 else "the request was refused")

    def headers(self, *, within: bool) -> dict[str, str]:  # noqa: ARG002 - the vendor sends no budget
        """Return no headers."""
        return {}

    def read(self, request: Request, now: datetime) -> _Query:
        """Parse the path and the parameters."""
        if not request.headers.get("user-agent", "").startswith("Mozilla/"):
            raise self.refusal(429)
        symbol: str = request.path_params["symbol"]
        instrument = self.known().get(symbol)
        if instrument is None:
            raise _refused(404, _NOT_FOUND)
        params = request.query_params
        interval = params.get("interval") or "1d"
        if interval not in _INTERVALS:
            raise _refused(422, f"Invalid input - interval={interval} is not supported. Valid intervals: {_VALID}")
        minutes = _INTERVALS[interval]
        try:
            start, end = _span(params.get("period1"), params.get("period2"), params.get("range"), now)
        except ValueError:
            raise _refused(400, "Invalid input - period1, period2 or range") from None
        if start >= end:
            said = f"Invalid input - start date cannot be after end date. startDate = {start}, endDate = {end}"
            raise _refused(400, said)
        if end <= _HISTORY_START:
            raise _refused(400, f"Data doesn't exist for startDate = {start}, endDate = {end}")
        reach = _reach_days(minutes)
        if reach is not None and start <= (now - timedelta(days=reach)).timestamp():
            said = (
                f"{interval} data not available for startTime={start} and endTime={end}. The requested range must be "
                f"within the last {reach} days."
            )
            raise _refused(422, said)
        if minutes == 1 and end - start > _MOST_DAYS_OF_MINUTES * 86_400:
            said = f"1m data not available: {_MOST_DAYS_OF_MINUTES} days are allowed to be fetched per request."
            raise _refused(422, said)
        events = frozenset((params.get("events") or "").replace(",", "|").split("|"))
        return _Query(instrument, symbol, interval, minutes, start, end, events)

    def page(self, query: _Query, now: datetime, faults: Sequence[Active]) -> tuple[dict[str, Any], set[int]]:
        """Return the chart of the whole range."""
        missing = {a.number for a in faults if isinstance(a.fault, MissingSymbol) and query.symbol in a.fault.symbols}
        if missing:
            raise _refused(404, _NOT_FOUND)
        acted: set[int] = set()
        at = int(now.timestamp())
        alter = alteration(faults, query.symbol, at, raw_prices=False, acted=acted)
        market, instrument = self.sandbox.market, query.instrument
        margin = 86_400 if query.minutes == DAY_MINUTES else 0
        span = (query.start - margin, query.end - 1)
        wanted = (instrument, query.minutes, *span, at, _MOST_BARS)
        grid = market.bars(*wanted, is_anchored=True)
        served = grid if alter is None else market.bars(*wanted, is_anchored=True, alter=alter)
        forming = market.forming(instrument, query.minutes, at, alter, is_anchored=True)
        opened, closes = market.session(instrument, at)
        last_trade = min(at, closes)
        rows = _with_nulls(grid, served) + _rows(forming)
        if query.minutes == DAY_MINUTES:
            labels = np.array([row.ts for row in rows], np.int64)
            for row, ts in zip(rows, market.session_opens(instrument, labels, at).tolist(), strict=True):
                row.ts = ts
            rows = [row for row in rows if query.start <= row.ts < query.end]
            if rows and rows[-1].ts == opened and last_trade == at:
                rows.append(_Row(at, rows[-1].values))
            elif rows and rows[-1].ts == opened and at < closes + _RELABELLED_SECONDS:
                rows[-1].ts = last_trade
        else:
            rows = [row for row in rows if query.start <= row.ts < query.end]
            if rows and query.start <= last_trade < query.end and rows[-1].values[3] is not None:
                price = rows[-1].values[3]
                rows.append(_Row(last_trade, (price, price, price, price, 0.0)))
        chart = _chart(query, rows, (opened, closes), last_trade)
        chart["meta"]["currency"] = _currency(query, faults, at)
        if events := _events(query, faults, at, acted):
            chart["events"] = events
        if query.minutes != DAY_MINUTES:
            sessions = market.sessions(instrument, query.start, query.end - 1, at)
            chart["meta"]["tradingPeriods"] = [[_period(query, session)] for session in sessions]
        return {"chart": {"result": [chart], "error": None}}, acted


def dialects(sandbox: Sandbox) -> tuple[YahooChart]:
    """Return the endpoint."""
    return (YahooChart(sandbox),)


def _currency(query: _Query, faults: Sequence[Active], at: int) -> str:
    if query.instrument.calendar != "XLON":
        return "USD"
    has_pounds = any(isinstance(each.fault, Repriced) and each.fault.at.timestamp() <= at for each in faults)
    return "GBP" if has_pounds else "GBp"


def _events(query: _Query, faults: Sequence[Active], at: int, acted: set[int]) -> dict[str, dict[str, Any]]:
    """Return the requested splits and dividends of the range that have taken effect, by kind and by time."""
    found: dict[str, dict[str, Any]] = {}
    for active in faults:
        fault = active.fault
        if isinstance(fault, Split) and "splits" in query.events:
            new, old = Fraction(fault.ratio).limit_denominator(1_000).as_integer_ratio()
            date = int(fault.at.timestamp())
            kind, event = "splits", {"numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
        elif isinstance(fault, CorporateAction) and fault.type == "cash_dividends" and "div" in query.events:
            date = int(datetime.fromisoformat(f"{fault.fields['ex_date']}T14:30:00+00:00").timestamp())
            kind, event = "dividends", {"amount": fault.fields["rate"]}
        else:
            continue
        if query.start <= date < query.end and date <= at:
            acted.add(active.number)
            found.setdefault(kind, {})[str(date)] = {"date": date, **event}
    return found


def _reach_days(minutes: int) -> int | None:
    """Return how many days back bars of this length reach; None when there is no limit."""
    return None if minutes == DAY_MINUTES else 730 if minutes >= 60 else 60 if minutes > 1 else 30


def _span(period1: str | None, period2: str | None, range_: str | None, now: datetime) -> tuple[int, int]:
    at = int(now.timestamp())
    if period1 is not None:
        return int(period1), at if period2 is None else int(period2)
    if range_ == "max":
        return _HISTORY_START, at
    days = _RANGES_DAYS.get(range_ or "1d")
    if days is None:
        raise ValueError(range_)
    return at - days * 86_400, at


def _rows(bars: Bars) -> list[_Row]:
    values = zip(*(getattr(bars, name).tolist() for name in _COLUMNS), strict=True)
    return [_Row(ts, row) for ts, row in zip(bars.ts.tolist(), values, strict=True)]


def _with_nulls(grid: Bars, served: Bars) -> list[_Row]:
    """Return the rows of `served`, with a row of nulls for each bar of `grid` that is not among them."""
    by_time = {row.ts: row for row in _rows(served)}
    return [by_time.get(ts) or _Row(ts, (None,) * len(_COLUMNS)) for ts in grid.ts.tolist()]


def _period(query: _Query, session: tuple[int, int]) -> dict[str, Any]:
    zone = "UTC" if query.instrument.is_crypto else "EST"
    return {"timezone": zone, "start": session[0], "end": session[1], "gmtoffset": 0}


def _chart(query: _Query, rows: Sequence[_Row], session: tuple[int, int], last_trade: int) -> dict[str, Any]:
    crypto = query.instrument.is_crypto
    period = _period(query, session)
    prices = [row.values[3] for row in rows if row.values[3] is not None]
    meta = {
        "symbol": query.symbol,
        "exchangeName": "CCC" if crypto else "NMS",
        "instrumentType": "CRYPTOCURRENCY" if crypto else "EQUITY",
        "firstTradeDate": _HISTORY_START,
        "regularMarketTime": last_trade,
        "hasPrePostMarketData": not crypto,
        "gmtoffset": 0,
        "timezone": period["timezone"],
        "exchangeTimezoneName": "UTC" if crypto else "America/New_York",
        "regularMarketPrice": prices[-1] if prices else None,
        "chartPreviousClose": prices[0] if prices else None,
        "priceHint": 2,
        "currentTradingPeriod": {"pre": period, "regular": period, "post": period},
        "dataGranularity": query.interval,
        "range": "",
        "validRanges": [*_RANGES_DAYS, "ytd", "max"],
    }
    quote = {name: [row.values[at] for row in rows] for at, name in enumerate(_COLUMNS)}
    quote["volume"] = [None if value is None else int(value) for value in quote["volume"]]
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [quote if rows else {}]}}
    if rows:
        result["timestamp"] = [row.ts for row in rows]
    if query.minutes == DAY_MINUTES:
        result["indicators"]["adjclose"] = [{"adjclose": quote["close"]} if rows else {}]
    return result
