"""The client of all exchanges that the library ccxt can read: their candles, on our budget. Retries are in `http`.

Only `fetch_ohlcv` of ccxt's asynchronous exchanges is used, and the list of markets that it needs. ccxt's limiter is
off: each of its requests takes a call from the budget that processes share, and keeps ccxt's pause for the exchange.
The candle that is still forming is recognised by its time.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import Annotated, Any

import msgspec
import polars as pl

from ema_assets.model.errors import (
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    Unauthorized,
    UnknownSymbol,
    did_you_mean,
)
from ema_assets.model.symbols import Instrument
from ema_assets.providers.ccxt import CcxtConfig
from ema_assets.providers.declaration import Provider
from ema_assets.providers.fetching.frames import first_opening, only_asked, rows_of_candles
from ema_assets.providers.fetching.single_symbol import Clock, Page, SeriesQuery, SingleSymbolClient, utc_now
from ema_assets.providers.http.budget import HttpLimits, RequestBudget
from ema_assets.providers.http.calls import CallSource
from ema_assets.providers.http.circuit_breaker import CircuitBreaker
from ema_assets.providers.http.refusals import TimedOut, reason, web_page
from ema_assets.providers.http.source import HttpOptions

_LIBRARY = "ccxt.async_support"
_TIMEFRAMES = ("5m", "1d")
_UNIT = timedelta(milliseconds=1)
# Exchanges that always answer with their newest candles. ccxt does not say so; these are known from their documentation
# and from freqtrade's notes on exchanges.
_WITHOUT_HISTORY = {
    "gemini": "candles before its newest ones cannot be requested",
    "hyperliquid": "it has only its newest 5,000 candles, 17 days of 5m",
    "kraken": "it has only its newest 720 candles, 60 hours of 5m",
}
# The candles per call if ccxt does not say how many. No exchange sends fewer.
_SMALLEST_PAGE = 100
_MARKETS_LAST = timedelta(days=1)

# The largest time is in the year 9999.
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]


class _Candle(msgspec.Struct, array_like=True):
    """One row from ccxt. A value that the exchange did not send is None."""

    opened: _Milliseconds
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float | None


@dataclass(frozen=True, slots=True)
class _Markets:
    """The markets of an exchange as ccxt has loaded them, and when."""

    loaded_at: datetime
    markets: Any


# By exchange and address. Loading them takes seconds and some megabytes, and each run has its own client.
_markets: dict[tuple[str, str], _Markets] = {}


def make_exchange(provider: str, exchange: str) -> Any:
    """Return ccxt's object for an exchange, which connects later.

    Raises:
        ConfigurationError: when ccxt is missing, there is no such exchange, or it has no history of our timeframes.
    """
    try:
        library = import_module(_LIBRARY)
    except ImportError as error:
        raise ConfigurationError(
            f"the provider {provider} needs the package ccxt ({reason(error)}): pip install 'ema-assets[ccxt]'"
        ) from None
    if exchange not in library.exchanges:
        hint = did_you_mean(exchange, library.exchanges)
        raise ConfigurationError(f"the provider {provider} cannot be used: ccxt has no exchange {exchange!r}{hint}")
    made = getattr(library, exchange)({"enableRateLimit": False, "aiohttp_trust_env": True})
    if (problem := _problem(made)) is not None:
        raise ConfigurationError(f"the provider {provider} cannot be used: {problem}")
    return made


def _problem(exchange: Any) -> str | None:
    """Return why the bars of an exchange are not available, or None."""
    if exchange.has.get("fetchOHLCV") is not True:
        return "ccxt cannot read candles of this exchange"
    missing = [each for each in _TIMEFRAMES if each not in (exchange.timeframes or {})]
    if missing:
        return f"this exchange has no candles of {' and '.join(missing)}"
    return _WITHOUT_HISTORY.get(exchange.id)


@dataclass(frozen=True, slots=True)
class CandlesCall:
    """One call of `fetch_ohlcv`: at most `limit` candles from `since` on (milliseconds since 1970)."""

    symbol: str
    timeframe: str
    since: int
    limit: int
    scope: str


class ExchangeSource(CallSource[CandlesCall, list[Any]]):
    """A source of calls through a ccxt exchange, which it owns."""

    def __init__(self, name: str, exchange: Any, limits: HttpLimits, options: HttpOptions, clock: Clock) -> None:
        super().__init__(name, exchange.id, options.limits or limits, options.budget)
        self._exchange = exchange
        self._clock = clock
        self._errors = import_module(_LIBRARY)
        self._loading = asyncio.Lock()
        exchange.timeout = int(self.limits.answer_timeout_seconds * 1_000)
        self._pace = RequestBudget(1, max(0.001, exchange.rateLimit / 1_000))
        self._carry = exchange.fetch
        exchange.fetch = self._fetch

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def _leave(self) -> None:
        """Do not wait: a call may make several requests, and each of them waits."""

    async def _fetch(self, *request: Any, **options: Any) -> Any:
        """Send one request of ccxt once it may be sent."""
        await super()._leave()
        self.calls += 1
        answer = await self._carry(*request, **options)
        # An answer that is not JSON is a text, in which ccxt would look for candles.
        if isinstance(answer, str) and (page := web_page(self.name, {}, answer.encode())) is not None:
            raise page
        return answer

    async def _send(self, call: CandlesCall) -> list[Any]:
        try:
            await self._load_markets()
            answer: list[Any] = await self._exchange.fetch_ohlcv(call.symbol, call.timeframe, call.since, call.limit)
        except self._errors.BaseError as error:
            raise self._typed(error, call) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # ccxt raises these for unexpected answers, because it does not check them.
            raise MalformedAnswer(
                f"{self.name} sent an answer for {call.symbol} that ccxt cannot read: {reason(error)}",
                provider=self.name,
                symbol=call.symbol,
            ) from None
        return answer

    async def _load_markets(self) -> None:
        """Load the markets, or take those that any client of this process has loaded within a day."""
        key = (self._exchange.id, str(self._exchange.urls["api"]))
        async with self._loading:
            if self._exchange.markets:
                return
            known = _markets.get(key)
            if known is None or self._clock() - known.loaded_at >= _MARKETS_LAST:
                # The list of currencies would take another request, and bars do not need it.
                self._exchange.has["fetchCurrencies"] = False
                known = _markets[key] = _Markets(self._clock(), await self._exchange.load_markets())
            else:
                self._exchange.set_markets(known.markets)

    def _typed(self, error: Exception, call: CandlesCall) -> ProviderError:
        """Return ccxt's error as one of ours. The narrower classes of its tree are tested first."""
        ccxt, said = self._errors, reason(error)
        if isinstance(error, ccxt.BadSymbol):
            text = f"{self.name} has no symbol {call.symbol!r}: {said}"
            return UnknownSymbol(text, provider=self.name, symbol=call.symbol)
        if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
            return RateLimited(f"{self.name} is rate limiting us: {said}", provider=self.name)
        if isinstance(error, ccxt.AuthenticationError | ccxt.RestrictedLocation):
            return Unauthorized(f"{self.name} refused access: {said}", provider=self.name)
        if isinstance(error, ccxt.BadResponse):
            text = f"{self.name} sent an answer for {call.symbol} that is not bars: {said}"
            return MalformedAnswer(text, provider=self.name, symbol=call.symbol)
        if isinstance(error, ccxt.OperationFailed):
            kind = TimedOut if isinstance(error, ccxt.RequestTimeout) else ProviderUnavailable
            return kind(f"{self.name} did not answer: {said}", provider=self.name)
        return RequestRefused(f"{self.name} refused the request: {said}", provider=self.name)


class CcxtClient(SingleSymbolClient[ExchangeSource]):
    """A client of one exchange. One object serves one event loop, is closed with `aclose`, and owns `exchange`."""

    def __init__(
        self,
        provider: Provider[Any],
        exchange: Any,
        config: CcxtConfig,
        options: HttpOptions | None = None,
        clock: Clock = utc_now,
    ) -> None:
        limits = HttpLimits(max_concurrency=4, requests_per_minute=config.requests_per_minute)
        source = ExchangeSource(provider.name, exchange, limits, options or HttpOptions(), clock)
        super().__init__(provider, source, clock)
        told = ((exchange.features or {}).get("spot") or {}).get("fetchOHLCV") or {}
        self._page_limit = int(told.get("limit") or _SMALLEST_PAGE)

    def vendor_symbol(self, instrument: Instrument) -> str:
        """Return ccxt's spelling: `BTC/USDT` for `BTC-USDT`; others are spelt alike, in capitals."""
        symbol = instrument.symbol.upper()
        return symbol if "/" in symbol else symbol.replace("-", "/", 1)

    async def pages(self, query: SeriesQuery, breaker: CircuitBreaker) -> AsyncGenerator[Page, None]:
        """Yield a page of candles at a time, oldest first. Candles that have not closed are left out."""
        step = int(query.timeframe.duration.total_seconds() * 1_000)
        cursor, end = first_opening(query.start, step, _UNIT), first_opening(query.end, step, _UNIT)
        calls_left = (end - cursor) // step // min(_SMALLEST_PAGE, self._page_limit) + 10
        wanted = query.ranges()
        while cursor < end:
            if not calls_left:
                raise self.malformed(query, "pages of a few candles each, without end")
            calls_left -= 1
            limit = min(self._page_limit, (end - cursor) // step + 1)
            call = CandlesCall(query.symbol, self._provider.words[query.timeframe.key], cursor, limit, self.name)
            candles = self._read(query, await self._http.get(call, breaker))
            breaker.answered(self.name)
            inside = [candle for candle in candles if cursor <= candle.opened < end]
            if inside:
                yield Page(self._frame(query, inside, step, wanted))
                # A candle that opens off the grid, as some did after halts of exchanges, must not hide the next one.
                cursor = (max(candle.opened for candle in inside) // step + 1) * step
            elif candles and min(candle.opened for candle in candles) >= end:
                return
            else:
                # Some exchanges answer with a window, empty if nothing was traded, others with the next candle.
                cursor += limit * step

    def _read(self, query: SeriesQuery, answer: list[Any]) -> list[_Candle]:
        try:
            return msgspec.convert(answer, list[_Candle])
        except msgspec.ValidationError as error:
            raise self.malformed(query, str(error)) from None

    def _frame(self, query: SeriesQuery, candles: Sequence[_Candle], step: int, wanted: pl.DataFrame) -> pl.DataFrame:
        if query.timeframe.is_session and any(candle.opened % step for candle in candles):
            raise self.malformed(query, "days that do not begin at midnight UTC")
        now = self._clock().timestamp() * 1_000
        past = [candle for candle in candles if candle.opened + step <= now]
        return only_asked(rows_of_candles(query.symbol, past, _UNIT), wanted, query.timeframe)
