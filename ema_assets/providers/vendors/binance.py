"""The client of Binance's spot klines. Budget and retries are in `http`.

One call answers one symbol with at most 1,000 klines; further ones are requested from the last one on. Neither a key
nor an account is needed. A pair against the dollar stands for the pair against USDT: `BTC-USD` means `BTCUSDT`, because
Binance has hardly any dollar pairs. The two differ as USDT and dollar do, by a few hundredths of a percent.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import polars as pl

from ema_assets.model.errors import ProviderError
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.providers.binance import BinanceConfig
from ema_assets.providers.declaration import Provider
from ema_assets.providers.fetching.describing import Described, Question
from ema_assets.providers.fetching.frames import only_asked
from ema_assets.providers.fetching.lists import describe_by_list
from ema_assets.providers.fetching.single_symbol import Clock, Page, SeriesQuery, SingleSymbolClient, utc_now
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.circuit_breaker import CircuitBreaker
from ema_assets.providers.http.refusals import Manners
from ema_assets.providers.http.source import HttpCall, HttpOptions, HttpSource

_PATH = "/api/v3/klines"
_LIST_PATH = "/api/v3/exchangeInfo"
_PAGE_LIMIT = 1_000
# A mirror may send shorter pages than requested. If they are much shorter, it is not worth the calls.
_SHORTEST_PAGE = 100
_WEIGHT_PER_MINUTE = 6_000
# When this much of the address's weight is used, by us or others, calls wait for the next minute.
_WEIGHT_TO_PAUSE_AT = 0.9 * _WEIGHT_PER_MINUTE
_STATES = {"TRADING": "active", "BREAK": "delisted"}
_STANDS_FOR = {"USD": "USDT"}
# The errors for a symbol that does not exist, and for a symbol with invalid characters.
_UNKNOWN_SYMBOL = re.compile(r"-1121\b|-1100\b.*'symbol'")

# The largest time is in the year 9999.
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]


class _Kline(msgspec.Struct, array_like=True):
    """One row. The vendor's five further columns are not read."""

    opened: _Milliseconds
    open: str
    high: str
    low: str
    close: str
    volume: str
    closed: _Milliseconds


class _ErrorBody(msgspec.Struct):
    code: int
    msg: str


class _Symbol(msgspec.Struct):
    symbol: str
    status: str


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


_read_info = msgspec.json.Decoder(_ExchangeInfo).decode
_read_klines = msgspec.json.Decoder(list[_Kline]).decode
_read_error = msgspec.json.Decoder(_ErrorBody).decode


class BinanceClient(SingleSymbolClient[HttpSource]):
    """A client of Binance for klines. One object serves one event loop and is closed with `aclose`.

    A call has the weight 2, of 6,000 per minute and IP address; `requests_per_minute` leaves room for others.
    """

    def __init__(
        self,
        provider: Provider[Any],
        config: BinanceConfig,
        options: HttpOptions | None = None,
        clock: Clock = utc_now,
    ) -> None:
        headers = {"Accept": "application/json"}
        manners = Manners(headers=headers, needs_key=False, says=_says, pause_seconds=self._pause_seconds)
        limits = HttpLimits(requests_per_minute=config.requests_per_minute)
        super().__init__(provider, HttpSource(provider.name, config.base_url, manners, limits, options), clock)

    def vendor_symbol(self, instrument: Instrument) -> str:
        """Return the vendor's spelling: `BTCUSDT` for `BTC-USD` and `BTC/USD`, `ETHBTC` for `ETH-BTC`; others alike."""
        base, _, quote = instrument.symbol.upper().replace("/", "-").partition("-")
        return base + _STANDS_FOR.get(quote, quote)

    async def describe(self, question: Question) -> Described:
        """Return the states of the pairs in `question`, from the list of all symbols: one call, of weight 20.

        A pair that has ended stays listed with the status BREAK, as does a single pair that pauses for some hours; if
        all pairs pause, the status is HALT. Closes the client.
        """
        asked = {each.symbol: self.vendor_symbol(each) for each in question.instruments}
        # Sets of permissions would be half of the list.
        call = HttpCall(_LIST_PATH, {"showPermissionSets": "false"}, "list", lambda _status, _said: None)
        return await describe_by_list(self._http, call, _states, asked)

    async def pages(self, query: SeriesQuery, breaker: CircuitBreaker) -> AsyncGenerator[Page, None]:
        """Yield up to 1,000 klines at a time. Klines whose closing time is not past are left out."""
        step = int(query.timeframe.duration.total_seconds() * 1_000)
        cursor, end = -(-_microseconds(query.start) // 1_000), -(-_microseconds(query.end) // 1_000)
        calls_left = (end - cursor) // step // _SHORTEST_PAGE + 10
        wanted = query.ranges()
        while cursor < end:
            if not calls_left:
                raise self.malformed(query, "pages of a few klines each, without end")
            calls_left -= 1
            klines = self.decoded(query, _read_klines, await self._http.get(self._call(query, cursor, end), breaker))
            breaker.answered(self.name)
            inside = [kline for kline in klines if cursor <= kline.opened < end]
            if inside:
                yield Page(self._frame(query, inside, step, wanted))
                # Only an empty page or one that reaches the end shows that there are no more. A kline that opens off
                # the grid, as some did after halts of the exchange, must not hide the next one.
                cursor = (max(kline.opened for kline in inside) // step + 1) * step
            elif klines and max(kline.opened for kline in klines) < cursor:
                raise self.malformed(query, "a page that brings nothing new")
            else:
                return

    def _call(self, query: SeriesQuery, start: int, end: int) -> HttpCall:
        """Return the call for the klines from `start` to before `end`, in milliseconds since 1970."""
        return HttpCall(
            _PATH,
            {
                "symbol": query.symbol,
                "interval": self._provider.words[query.timeframe.key],
                "startTime": str(start),
                # The vendor includes the end.
                "endTime": str(end - 1),
                "limit": str(_PAGE_LIMIT),
            },
            scope=self.name,
            explain=lambda _status, said: self._explain(query, said),
        )

    def _frame(self, query: SeriesQuery, klines: Sequence[_Kline], step: int, wanted: pl.DataFrame) -> pl.DataFrame:
        now = _microseconds(self._clock()) // 1_000
        past = [kline for kline in klines if max(kline.closed, kline.opened + step - 1) < now]
        try:
            values = pl.DataFrame(
                {
                    name: pl.Series([getattr(kline, name) for kline in past], dtype=pl.String)
                    for name in ("open", "high", "low", "close", "volume")
                }
            ).cast(pl.Float64)
        except pl.exceptions.InvalidOperationError:
            raise self.malformed(query, "a price or volume that is not a number") from None
        if not values.select(pl.all_horizontal(pl.all().is_finite().all())).item():
            raise self.malformed(query, "a price or volume that is not finite")
        rows = values.with_columns(
            pl.lit(query.symbol).alias("vendor"),
            (pl.Series([kline.opened for kline in past], dtype=pl.Int64) * 1_000).cast(UTC_TIME).alias("ts"),
        )
        return only_asked(rows, wanted, query.timeframe)

    def _explain(self, query: SeriesQuery, said: str) -> ProviderError | None:
        return self.unknown(query, said) if _UNKNOWN_SYMBOL.match(said) else None

    def _pause_seconds(self, headers: Mapping[str, str]) -> float:
        """Return the seconds to the end of the minute if its weight is nearly used up, else 0."""
        used = headers.get("x-mbx-used-weight-1m", "")
        if not used.isascii() or not used.isdigit() or int(used[:9]) < _WEIGHT_TO_PAUSE_AT:
            return 0.0
        return 60 - self._clock().timestamp() % 60


def _states(body: bytes) -> Mapping[str, tuple[str, str]]:
    return {each.symbol: (_STATES.get(each.status, "halted"), each.status) for each in _read_info(body).symbols}


def _says(body: bytes) -> str:
    error = _read_error(body)
    return f"{error.code} {error.msg}"


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
