"""The same bars, valid or not, in the format of each vendor, for tests of all providers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets_tests.providers.conftest import alpaca, binance, coinbase, yahoo

# ts in seconds, open, high, low, close, volume.
Row = Sequence[Any]
FIELDS = ("ts", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Speaker:
    """One vendor and its format.

    Attributes:
        name: the name of the provider.
        opened: opens a client for a base URL.
        spells: returns our instrument for a root such as `AA`.
        symbol: returns the root of the symbol in a request.
        document: returns the answer with the rows of a symbol; `says` returns it as JSON.
    """

    name: str
    opened: Callable[..., ProviderClient]
    spells: Callable[[str], Instrument]
    symbol: Callable[[Request], str]
    document: Callable[[str, Sequence[Row]], Any]

    def says(self, symbol: str, rows: Sequence[Row]) -> str:
        return json.dumps(self.document(symbol, rows))


def _rfc3339(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).isoformat().replace("+00:00", "Z")


def _alpaca(symbol: str, rows: Sequence[Row]) -> Any:
    bars = [dict(zip("tohlcv", (_rfc3339(row[0]), *row[1:]), strict=True)) for row in rows]
    return {"bars": {symbol: bars}, "next_page_token": None}


def _yahoo(symbol: str, rows: Sequence[Row]) -> Any:
    columns = dict(zip(FIELDS, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    stamps = columns.pop("ts", None)
    result = {"meta": {"symbol": symbol}, "timestamp": stamps, "indicators": {"quote": [columns]}}
    return {"chart": {"result": [result], "error": None}}


def _binance(_symbol: str, rows: Sequence[Row]) -> Any:
    def text(value: Any) -> Any:
        return value if value is None or isinstance(value, list) else str(value)

    return [[r[0] * 1_000, *map(text, r[1:]), (r[0] + 300) * 1_000 - 1, "0", 1, "0", "0", "0"] for r in rows]


def _coinbase(_symbol: str, rows: Sequence[Row]) -> Any:
    """Return the candles, newest first, in Coinbase's order of columns: time, low, high, open, close, volume."""
    return [[row[0], row[3], row[2], row[1], *row[4:]] for row in reversed(rows)]


SPEAKERS = (
    Speaker(
        "alpaca",
        # One call per symbol, so that a fault can affect a single symbol.
        lambda base_url, **options: alpaca(base_url, symbols_per_call=1, **options),
        Instrument,
        lambda request: request.query_params["symbols"],
        _alpaca,
    ),
    Speaker("yahoo", yahoo, Instrument, lambda request: request.url.path.rpartition("/")[2], _yahoo),
    Speaker(
        "binance",
        binance,
        lambda root: Instrument(f"{root}-USD", ALWAYS_OPEN),
        lambda request: request.query_params["symbol"].removesuffix("USDT"),
        _binance,
    ),
    Speaker(
        "coinbase",
        coinbase,
        lambda root: Instrument(f"{root}-USD", ALWAYS_OPEN),
        lambda request: request.url.path.split("/")[2].removesuffix("-USD"),
        _coinbase,
    ),
)
