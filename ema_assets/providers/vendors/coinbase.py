"""The client of Coinbase Exchange's public candles. Budget and retries are in `http`.

One call answers one product with at most 300 candles, newest first; a range with more is refused. An interval without a
trade has no candle, and some candles may lie before the range. The candle that is still forming is included.

Sources: "Get product candles" and "Exchange REST API Rate Limits" of docs.cdp.coinbase.com, and `fetchOHLCV` of ccxt's
coinbaseexchange, according to which `end` is included.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import polars as pl

from ema_assets.model.errors import ProviderError
from ema_assets.model.symbols import Instrument
from ema_assets.providers.coinbase import CoinbaseConfig
from ema_assets.providers.declaration import Provider
from ema_assets.providers.fetching.describing import Described, Question
from ema_assets.providers.fetching.frames import first_opening, only_asked, rows_of_candles
from ema_assets.providers.fetching.lists import describe_by_list
from ema_assets.providers.fetching.single_symbol import Clock, Page, SeriesQuery, SingleSymbolClient, utc_now
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.circuit_breaker import CircuitBreaker
from ema_assets.providers.http.refusals import Manners
from ema_assets.providers.http.source import HttpCall, HttpOptions, HttpSource

_PATH = "/products/{product}/candles"
_LIST_PATH = "/products"
_PAGE_LIMIT = 300
_UNIT = timedelta(seconds=1)
# At times a fifth of all answers is empty without a reason. A full page that is empty after one with candles is
# requested this many more times before it is accepted that nothing was traded.
_TRIES_OF_EMPTY_PAGES = 2
# An IP address may send 10 per second, and 15 in a burst. Two concurrent processes stay within this limit.
_REQUESTS_PER_SECOND = 5
_UNKNOWN_PRODUCT = ("NotFound", "Product not found")

# The largest time is in the year 9999.
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]


class _Candle(msgspec.Struct, array_like=True):
    """One row, in the order of the vendor's columns."""

    opened: _Seconds
    low: float
    high: float
    open: float
    close: float
    volume: float


class _Product(msgspec.Struct):
    id: str
    status: str
    trading_disabled: bool = False


_read_products = msgspec.json.Decoder(list[_Product]).decode
_read_candles = msgspec.json.Decoder(list[_Candle]).decode


class CoinbaseClient(SingleSymbolClient[HttpSource]):
    """A client of Coinbase Exchange for candles. One object serves one event loop and is closed with `aclose`.

    Neither a key nor an account is needed. All processes share `requests_per_minute`; in addition, each process sends
    at most 5 calls in any second.
    """

    def __init__(
        self,
        provider: Provider[Any],
        config: CoinbaseConfig,
        options: HttpOptions | None = None,
        clock: Clock = utc_now,
    ) -> None:
        manners = Manners(headers={"Accept": "application/json", "User-Agent": "ema-assets"}, needs_key=False)
        limits = HttpLimits(requests_per_minute=config.requests_per_minute, requests_per_second=_REQUESTS_PER_SECOND)
        super().__init__(provider, HttpSource(provider.name, config.base_url, manners, limits, options), clock)

    def vendor_symbol(self, instrument: Instrument) -> str:
        """Return the vendor's spelling: `BTC-USD` for `BTC/USD`; others are spelt alike, in capitals."""
        return instrument.symbol.upper().replace("/", "-", 1)

    async def describe(self, question: Question) -> Described:
        """Return the states of the pairs in `question`, from the list of all products: one call. Closes the client."""
        asked = {each.symbol: self.vendor_symbol(each) for each in question.instruments}
        call = HttpCall(_LIST_PATH, {}, "list", lambda _status, _said: None)
        return await describe_by_list(self._http, call, _states, asked)

    async def pages(self, query: SeriesQuery, breaker: CircuitBreaker) -> AsyncGenerator[Page, None]:
        """Yield up to 300 candles at a time, oldest first. Candles that have not closed are left out."""
        step = int(query.timeframe.duration.total_seconds())
        first, end = first_opening(query.start, step, _UNIT), first_opening(query.end, step, _UNIT)
        wanted = query.ranges()
        is_traded = False
        # Each page has a fixed range: others may follow an empty one, if nothing was traded for a while.
        for start in range(first, end, _PAGE_LIMIT * step):
            last = min(start + _PAGE_LIMIT * step, end) - step
            is_full = last - start == (_PAGE_LIMIT - 1) * step
            for _ in range(1 + _TRIES_OF_EMPTY_PAGES * (is_traded and is_full)):
                body = await self._http.get(self._call(query, start, last), breaker)
                candles = self.decoded(query, _read_candles, body)
                breaker.answered(self.name)
                if candles:
                    is_traded = True
                    break
            yield Page(self._frame(query, [each for each in candles if start <= each.opened <= last], step, wanted))

    def _call(self, query: SeriesQuery, start: int, last: int) -> HttpCall:
        """Return the call for candles that open from `start` to `last`, both included, in seconds since 1970."""
        return HttpCall(
            _PATH.format(product=quote(query.symbol, safe="")),
            {
                "granularity": self._provider.words[query.timeframe.key],
                "start": _iso(start),
                "end": _iso(last),
            },
            scope=self.name,
            explain=lambda status, said: self._explain(query, status, said),
        )

    def _frame(self, query: SeriesQuery, candles: Sequence[_Candle], step: int, wanted: pl.DataFrame) -> pl.DataFrame:
        now = self._clock().timestamp()
        # Oldest first, so that of two candles with the same time the newer one comes last and wins.
        past = [candle for candle in reversed(candles) if candle.opened + step <= now]
        return only_asked(rows_of_candles(query.symbol, past, _UNIT), wanted, query.timeframe)

    def _explain(self, query: SeriesQuery, status: int, said: str) -> ProviderError | None:
        return self.unknown(query, said) if status == 404 and said in _UNKNOWN_PRODUCT else None


def _states(body: bytes) -> Mapping[str, tuple[str, str]]:
    return {each.id: _state(each) for each in _read_products(body)}


def _state(product: _Product) -> tuple[str, str]:
    if product.status == "delisted":
        return "delisted", product.status
    if product.status == "online" and not product.trading_disabled:
        return "active", product.status
    return "halted", f"{product.status}, trading disabled" if product.trading_disabled else product.status


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
