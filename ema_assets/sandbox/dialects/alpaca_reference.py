"""Alpaca's endpoints other than bars in the sandbox: the list of assets, and corporate actions in pages.

The trading API's list and the data API's actions share one host here. The actions come from faults. Their splits also
rescale the bars. Actions are selected by the day on which they are processed.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Any, ClassVar

from starlette.requests import Request

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.dialects.alpaca import check_keys, headers_of, in_words, refused
from ema_assets.sandbox.exchange import Dialect, Query, Refusal, Sandbox
from ema_assets.sandbox.faults import Active, CorporateAction, Split, standing

ACTIONS_PATH = "/v1/corporate-actions"
ASSETS_PATH = "/v2/assets"

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 1_000
_STATUSES = {"trading": "active", "halted": "active", "ended": "inactive"}
# The fields of an action with the symbols by which it is selected.
_SYMBOL_FIELDS = ("symbol", "old_symbol", "new_symbol", "source_symbol", "acquirer_symbol", "acquiree_symbol")


class _Endpoint(Dialect[Query]):
    """The common part of both endpoints: budget, headers and messages."""

    exhausted: ClassVar[Mapping[str, str]] = {"X-RateLimit-Remaining": "0"}
    at: ClassVar[str]

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox, self.at, sandbox.budget("alpaca", sandbox.requests_per_minute))

    def spelling(self, instrument: Instrument) -> str | None:
        """Return our symbol, with a slash in pairs: `BTC/USD` for `BTC-USD`."""
        return instrument.symbol.replace("-", "/", 1) if instrument.is_crypto else instrument.symbol

    def refusal(self, status: int) -> Refusal:
        """Return a message."""
        return in_words(status)

    def headers(self, *, within: bool) -> dict[str, str]:  # noqa: ARG002 - they are the same either way
        """Return the remaining budget and the time at which it grows."""
        return headers_of(self.budget)


@dataclass(frozen=True, slots=True)
class _AssetsQuery:
    is_crypto: bool
    symbols: tuple[str, ...]


class AlpacaAssets(_Endpoint[_AssetsQuery]):
    """All assets of a class in one answer."""

    at = ASSETS_PATH

    def read(self, request: Request, now: datetime) -> _AssetsQuery:  # noqa: ARG002 - the list is that of now
        """Check the keys and parse the asset class."""
        check_keys(self.sandbox, request)
        wanted = request.query_params.get("asset_class") or "us_equity"
        if wanted not in ("us_equity", "crypto"):
            raise refused(422, f"invalid asset_class: {wanted}")
        is_crypto = wanted == "crypto"
        symbols = tuple(symbol for symbol, each in self.known().items() if each.is_crypto is is_crypto)
        return _AssetsQuery(is_crypto, symbols)

    def page(
        self, query: _AssetsQuery, now: datetime, faults: Sequence[Active]
    ) -> tuple[list[dict[str, Any]], set[int]]:
        """Return every asset, whether it trades or not."""
        found = {symbol: standing(faults, symbol, now) for symbol in query.symbols}
        return [
            {
                "id": _id(number),
                "class": "crypto" if query.is_crypto else "us_equity",
                "exchange": "CRYPTO" if query.is_crypto else "NYSE",
                "symbol": symbol,
                "name": f"{symbol}, synthetic",
                "status": _STATUSES[said],
                "tradable": said == "trading",
                "marginable": False,
                "shortable": False,
                "easy_to_borrow": False,
                "fractionable": False,
            }
            for number, (symbol, said) in enumerate(found.items())
            if said is not None
        ], set()


@dataclass(frozen=True, slots=True)
class _ActionsQuery:
    symbols: tuple[str, ...]
    start: date
    end: date
    limit: int
    offset: int


class AlpacaActions(_Endpoint[_ActionsQuery]):
    """Corporate actions of many symbols per call, in pages, by the day on which they are processed."""

    at = ACTIONS_PATH

    def read(self, request: Request, now: datetime) -> _ActionsQuery:
        """Check the keys and parse the parameters."""
        check_keys(self.sandbox, request)
        params = request.query_params
        symbols = tuple(part for part in params.get("symbols", "").split(",") if part)
        limit = params.get("limit") or str(_DEFAULT_LIMIT)
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= _MAX_LIMIT:
            raise refused(400, f"invalid limit: must be from 1 to {_MAX_LIMIT}")
        start, end = (_day(name, params.get(name), now.date()) for name in ("start", "end"))
        if end < start:
            raise refused(400, "end should not be before start")
        return _ActionsQuery(symbols, start, end, int(limit), _offset(params.get("page_token")))

    def page(self, query: _ActionsQuery, now: datetime, faults: Sequence[Active]) -> tuple[dict[str, Any], set[int]]:  # noqa: ARG002 - announced actions are reported in advance
        """Return one page, with one list per kind of action and the token of the next page."""
        found = [(*row, active.number) for active in faults for row in _actions(active)]
        found = [
            each
            for each in found
            if query.start.isoformat() <= each[1]["process_date"] <= query.end.isoformat()
            and not set(query.symbols).isdisjoint(each[1].get(name) for name in _SYMBOL_FIELDS)
        ]
        found.sort(key=lambda each: each[1]["process_date"])
        end = query.offset + query.limit
        lists: dict[str, list[dict[str, Any]]] = {}
        for kind, fields, _ in found[query.offset : end]:
            lists.setdefault(kind, []).append(fields)
        token = base64.urlsafe_b64encode(f"actions|{end}".encode()).decode() if end < len(found) else None
        acted = {number for _, _, number in found[query.offset : end]}
        return {"corporate_actions": lists, "next_page_token": token}, acted


def dialects(sandbox: Sandbox) -> tuple[AlpacaAssets, AlpacaActions]:
    """Return both endpoints, which share the budget of the bars endpoints."""
    return AlpacaAssets(sandbox), AlpacaActions(sandbox)


def _actions(active: Active) -> list[tuple[str, dict[str, Any]]]:
    """Return the list name and the fields of each action that a fault represents."""
    fault = active.fault
    if isinstance(fault, CorporateAction):
        return [(fault.type, {"id": _id(active.number), **fault.fields})]
    if not isinstance(fault, Split):
        return []
    new, old = Fraction(fault.ratio).limit_denominator(1_000).as_integer_ratio()
    day = fault.at.date().isoformat()
    return [
        (
            "forward_splits" if fault.ratio > 1 else "reverse_splits",
            {
                "id": _id(active.number, number),
                "symbol": symbol,
                **({"cusip": "0"} if fault.ratio > 1 else {"old_cusip": "0", "new_cusip": "1"}),
                "new_rate": new,
                "old_rate": old,
                "ex_date": day,
                "process_date": day,
            },
        )
        for number, symbol in enumerate(fault.symbols)
    ]


def _id(number: int, part: int = 0) -> str:
    return f"00000000-0000-0000-{part:04}-{number:012}"


def _day(name: str, text: str | None, default: date) -> date:
    try:
        return date.fromisoformat(text) if text else default
    except ValueError:
        raise refused(400, f"invalid {name}: {text} is not a date") from None


def _offset(token: str | None) -> int:
    if not token:
        return 0
    try:
        _, offset = base64.urlsafe_b64decode(token.encode()).decode().split("|")
        return int(offset)
    except (binascii.Error, ValueError):
        raise refused(400, "invalid page_token") from None
