"""Requests Alpaca's list of assets and its corporate actions. `alpaca_actions` reads the latter.

The list comes from the trading API, whose host differs for paper and live accounts. It has no halts. Alpaca does not
trade all symbols for which it has bars, so an asset that is not tradable is active nevertheless. Corporate actions come
from the data API, many symbols per call, in pages of at most 1,000.

Sources: "Assets" and "Corporate actions" of docs.alpaca.markets/reference, and the clients of alpaca-py.
"""

import itertools
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
import polars as pl

from ema_assets.model.errors import MalformedAnswer, ProviderError, Unauthorized
from ema_assets.model.schemas import STATE_SCHEMA
from ema_assets.model.symbols import Instrument
from ema_assets.providers.alpaca import AlpacaConfig
from ema_assets.providers.declaration import Provider
from ema_assets.providers.fetching.describing import Described, Question, states_of
from ema_assets.providers.fetching.lists import cause_of, listed_by
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.circuit_breaker import CircuitBreaker
from ema_assets.providers.http.source import HttpCall, HttpOptions, HttpSource
from ema_assets.providers.vendors.alpaca import manners, vendor_symbol
from ema_assets.providers.vendors.alpaca_actions import ActionPages

_ASSETS_PATH, _ACTIONS_PATH = "/v2/assets", "/v1/corporate-actions"
_PAGE_LIMIT = 1_000
# How far ahead and back actions are requested: a dividend is processed when it is paid, weeks after its ex-date.
AHEAD, BACK = timedelta(days=90), timedelta(days=90)
_MOST_PAGES = 1_000


class _Asset(msgspec.Struct):
    symbol: str
    status: str
    tradable: bool = True


_read_assets = msgspec.json.Decoder(list[_Asset]).decode


async def describe(
    provider: Provider[Any],
    config: AlpacaConfig,
    question: Question,
    options: HttpOptions | None = None,
    page_limit: int = _PAGE_LIMIT,
) -> Described:
    """Return the states and corporate actions of the instruments in `question`. Never raises a ProviderError."""
    limits = HttpLimits(requests_per_minute=config.requests_per_minute)
    problems: list[ProviderError] = []
    states = actions = None
    async with (
        HttpSource(provider.name, config.assets_url, manners(config), limits, options) as trading,
        HttpSource(provider.name, config.base_url, manners(config), limits, options) as data,
    ):
        try:
            states = await _states(trading, question.instruments)
        except ProviderError as error:
            problems.append(cause_of(error))
        try:
            actions = await _actions(data, question, provider.symbols_per_call, page_limit, problems)
        except ProviderError as error:
            problems.append(cause_of(error))
        return Described(states, actions, tuple(problems), trading.calls + data.calls)


async def _states(http: HttpSource, instruments: Sequence[Instrument]) -> pl.DataFrame:
    """Return the states (STATE_SCHEMA) of `instruments`, with one call for all stocks and one for all pairs."""
    breaker = CircuitBreaker()
    parts = [STATE_SCHEMA.to_frame()]
    for name, is_crypto in (("us_equity", False), ("crypto", True)):
        # The list has pairs with and without the slash.
        asked = {
            each.symbol: vendor_symbol(each).replace("/", "") for each in instruments if each.is_crypto is is_crypto
        }
        if asked:
            call = HttpCall(_ASSETS_PATH, {"asset_class": name}, "assets", lambda s, said: _explain(http, s, said))
            parts.append(states_of(asked, await listed_by(http, call, _read_list, breaker)))
    return pl.concat(parts)


def _read_list(body: bytes) -> Mapping[str, tuple[str, str]]:
    listed: dict[str, tuple[str, str]] = {}
    for asset in _read_assets(body):
        symbol = asset.symbol.replace("/", "")
        if asset.status == "active":
            listed[symbol] = ("active", "active" if asset.tradable else "active, not tradable there")
        # A symbol that is in use again is listed twice, and is active.
        elif listed.get(symbol, ("",))[0] != "active":
            listed[symbol] = ("delisted" if asset.status == "inactive" else "unknown", asset.status)
    return listed


def _explain(http: HttpSource, status: int, said: str) -> ProviderError | None:
    if status not in (401, 403):
        return None
    return Unauthorized(
        f"{http.name} refused its list of assets at {http.host} ({status}): {said}; is the key of a live account? Then "
        "set EMA_ALPACA_TRADING_URL=https://api.alpaca.markets",
        provider=http.name,
    )


async def _actions(
    http: HttpSource, question: Question, symbols_per_call: int, page_limit: int, problems: list[ProviderError]
) -> pl.DataFrame:
    """Return the actions (ACTION_SCHEMA) of the stocks in `question`. Unreadable actions are added to `problems`."""
    breaker = CircuitBreaker()
    spelt = {vendor_symbol(each): each.symbol for each in question.instruments if not each.is_crypto}
    pages = ActionPages(http.name, spelt)
    by_start = sorted(spelt, key=lambda vendor: (question.since[spelt[vendor]], vendor))
    for since, group in itertools.groupby(by_start, key=lambda vendor: question.since[spelt[vendor]]):
        symbols = list(group)
        for at in range(0, len(symbols), symbols_per_call):
            params = _params(symbols[at : at + symbols_per_call], since, question.today, page_limit)
            await _walk(http, breaker, pages, params)
    problems.extend(pages.problems)
    return pages.facts({vendor: question.last_sessions.get(each, question.today) for vendor, each in spelt.items()})


def _params(symbols: Sequence[str], since: date, today: date, page_limit: int) -> dict[str, str]:
    return {
        "symbols": ",".join(symbols),
        "start": (since - BACK).isoformat(),
        "end": (today + AHEAD).isoformat(),
        "limit": str(page_limit),
        "sort": "asc",
    }


async def _walk(http: HttpSource, breaker: CircuitBreaker, pages: ActionPages, params: dict[str, str]) -> None:
    """Read all pages of one call."""
    tokens: set[str] = set()
    while True:
        call = HttpCall(_ACTIONS_PATH, params, "actions", lambda _status, _said: None)
        token = pages.read(await http.get(call, breaker))
        if token is None:
            return
        if token in tokens or len(tokens) >= _MOST_PAGES:
            raise MalformedAnswer(f"{http.name} sent pages of corporate actions without end", provider=http.name)
        tokens.add(token)
        params = {**params, "page_token": token}
