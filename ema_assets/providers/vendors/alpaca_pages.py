"""Parses the pages of Alpaca's answers to bars, and checks whether they can be true. No calls here.

Pages are sorted by symbol, then time, so a symbol is complete as soon as a later one appears.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import polars as pl

from ema_assets.model.errors import MalformedAnswer
from ema_assets.model.schemas import UTC_TIME
from ema_assets.providers.fetching.base import NO_BARS, BarRequest
from ema_assets.providers.fetching.frames import only_asked, ranges
from ema_assets.providers.fetching.packing import Call

_PAGES_WITHOUT_PROGRESS = 10
_LONGEST_TOKEN = 2_048
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class _Bar(msgspec.Struct, rename={"ts": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}):
    ts: _Time
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float | None


class _Page(msgspec.Struct):
    bars: dict[str, list[_Bar] | None] | None
    next_page_token: str | None = None


class _Stamp(msgspec.Struct, rename={"ts": "t"}):
    """The part that every bar must have, whatever its values."""

    ts: _Time


class _Pieces(msgspec.Struct):
    """A page whose bars are not parsed yet."""

    bars: dict[str, list[msgspec.Raw] | None] | None
    next_page_token: str | None = None


_read_page = msgspec.json.Decoder(_Page).decode
_read_pieces = msgspec.json.Decoder(_Pieces).decode
_read_bar = msgspec.json.Decoder(_Bar).decode
_read_stamp = msgspec.json.Decoder(_Stamp).decode


class Walk:
    """A reader of the pages of one call, in order. It refuses pages that cannot be part of a walk through its range.

    `unreadable` has the symbols that could not be read, each with the reason. Other symbols on the page are not
    affected.
    """

    def __init__(self, pending: Mapping[str, list[BarRequest]], call: Call, provider: str) -> None:
        self.unreadable: dict[str, MalformedAnswer] = {}
        self._left = dict(pending)
        self._provider = provider
        self._timeframe = call.timeframe
        self._wanted = ranges((vendor, request) for vendor, requests in pending.items() for request in requests)
        self._room = len(pending) * ((call.end - call.start) // call.timeframe.duration + 2)
        self._furthest: tuple[str, datetime] | None = None
        self._tokens: set[str] = set()
        self._idle_pages = 0

    @property
    def has_bars(self) -> bool:
        """Whether bars have been read. Some may be of a symbol that is not complete."""
        return self._furthest is not None

    @property
    def begun(self) -> str | None:
        """The symbol of which bars have been read and more may follow, in the vendor's spelling."""
        return self._furthest[0] if self._furthest is not None and self._furthest[0] in self._left else None

    def read(self, body: bytes) -> tuple[pl.DataFrame, list[str], str | None]:
        """Return the bars of one page in BAR_SCHEMA, the symbols that it completes, and the token of the next page.

        Null values stay null. If only the time of a bar can be read, all its values are null.

        Raises:
            MalformedAnswer: naming what is wrong.
        """
        try:
            page = _read_page(body)
        except msgspec.DecodeError as error:
            page = self._in_pieces(body, error)
        except RecursionError:
            raise self._malformed("JSON nested too deep") from None
        bars = {symbol: rows for symbol, rows in (page.bars or {}).items() if rows}
        token = page.next_page_token or None
        self._check_walk(bars, token)
        if token is None:
            finished = list(self._left)
        else:
            finished = [s for s in self._left if self._furthest is not None and s < self._furthest[0]]
        for symbol in finished:
            del self._left[symbol]
        return self._frame(bars), finished, token

    def _in_pieces(self, body: bytes, whole: msgspec.DecodeError) -> _Page:
        """Read a page bar by bar that could not be read as a whole.

        Raises:
            MalformedAnswer: when this fails, too, or if the page has several symbols and no bar can be read.
        """
        try:
            pieces = _read_pieces(body)
        except (msgspec.DecodeError, RecursionError):
            raise self._malformed(str(whole)) from None
        bars: dict[str, list[_Bar] | None] = {}
        is_any_read = False
        for symbol, rows in (pieces.bars or {}).items():
            if not rows:
                continue
            bars[symbol], problem, is_read = _pieced(rows)
            is_any_read |= is_read
            if problem is not None:
                self.unreadable.setdefault(symbol, self._malformed(f"a bar of {symbol!r:.40}: {problem}", symbol))
        if len(bars) > 1 and not is_any_read:
            raise self._malformed(str(whole))
        return _Page(bars, pieces.next_page_token)

    def _check_walk(self, bars: Mapping[str, list[_Bar]], token: str | None) -> None:
        for symbol in bars:
            if symbol not in self._left:
                why = "again after a later symbol" if symbol in self._wanted["vendor"] else "which was not requested"
                raise self._malformed(f"bars of {symbol!r:.40}, {why}")
        self._room -= sum(map(len, bars.values()))
        if self._room < 0:
            raise self._malformed("more bars than the range can hold")
        furthest = max(((symbol, max(row.ts for row in rows)) for symbol, rows in bars.items()), default=None)
        if furthest is not None and (self._furthest is None or furthest > self._furthest):
            self._furthest = furthest
            self._idle_pages = 0
        else:
            self._idle_pages += 1
        if token is None:
            return
        if len(token) > _LONGEST_TOKEN:
            raise self._malformed(f"a `next_page_token` of {len(token)} characters")
        if token in self._tokens:
            raise self._malformed("a `next_page_token` that was used before")
        if self._idle_pages >= _PAGES_WITHOUT_PROGRESS:
            raise self._malformed(f"{_PAGES_WITHOUT_PROGRESS} pages in a row without new bars and yet another token")
        self._tokens.add(token)

    def _frame(self, bars: Mapping[str, list[_Bar]]) -> pl.DataFrame:
        """Return the requested bars, each once (the last one with its `ts`); sorted by symbol and ts."""
        bars = {symbol: rows for symbol, rows in bars.items() if symbol not in self.unreadable}
        if not bars:
            return NO_BARS
        rows = [row for symbol in bars for row in bars[symbol]]
        # Building the column from datetimes takes six times as long.
        microseconds = pl.Series([(row.ts - _EPOCH) // _MICROSECOND for row in rows], dtype=pl.Int64)
        columns = pl.DataFrame(
            {
                "vendor": pl.Series([symbol for symbol in bars for _ in bars[symbol]], dtype=pl.String),
                "ts": microseconds.cast(UTC_TIME),
                "open": pl.Series([row.open for row in rows], dtype=pl.Float64),
                "high": pl.Series([row.high for row in rows], dtype=pl.Float64),
                "low": pl.Series([row.low for row in rows], dtype=pl.Float64),
                "close": pl.Series([row.close for row in rows], dtype=pl.Float64),
                "volume": pl.Series([row.volume for row in rows], dtype=pl.Float64),
            }
        )
        return only_asked(columns, self._wanted, self._timeframe)

    def _malformed(self, what: str, symbol: str | None = None) -> MalformedAnswer:
        said = f"{self._provider} sent an answer that is not bars: {what}"
        return MalformedAnswer(said, provider=self._provider, symbol=symbol)


def _pieced(rows: Sequence[msgspec.Raw]) -> tuple[list[_Bar], str | None, bool]:
    """Return the bars of one symbol that have a time, why it cannot be read (or None), and whether any bar could be."""
    bars: list[_Bar] = []
    problem: str | None = None
    is_read = has_no_time = False
    for row in rows:
        try:
            bars.append(_read_bar(row))
            is_read = True
        except (msgspec.DecodeError, RecursionError) as error:
            problem = problem or str(error)
            try:
                bars.append(_Bar(_read_stamp(row).ts, None, None, None, None, None))
            except (msgspec.DecodeError, RecursionError):
                has_no_time = True
    return bars, problem if has_no_time or not is_read else None, is_read
