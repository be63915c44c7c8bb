"""Converts pages of Alpaca's corporate actions to facts. No calls here.

Rates refer to the shares of the day: a dividend before a split is per share before the split. Facts are per share as of
the day on which they become known, as with other vendors. A spin-off has its number of shares, but not their value.

Sources: "Corporate actions" of docs.alpaca.markets/reference, and `alpaca.data.models.corporate_actions` of alpaca-py.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time

import msgspec
import polars as pl

from ema_assets.model.errors import MalformedAnswer
from ema_assets.model.schemas import ACTION_SCHEMA
from ema_assets.providers.fetching.frames import is_amount, is_ratio


class _Action(msgspec.Struct):
    """One action of any kind. Each kind has some of these fields."""

    id: str | None = None
    symbol: str | None = None
    old_symbol: str | None = None
    new_symbol: str | None = None
    alternate_symbol: str | None = None
    source_symbol: str | None = None
    acquirer_symbol: str | None = None
    acquiree_symbol: str | None = None
    rate: float | None = None
    new_rate: float | None = None
    old_rate: float | None = None
    ex_date: date | None = None
    effective_date: date | None = None
    process_date: date | None = None


class _Page(msgspec.Struct):
    corporate_actions: dict[str, msgspec.Raw] | None
    next_page_token: str | None = None


_read_page = msgspec.json.Decoder(_Page).decode
# Rates may be sent as text.
_read_list = msgspec.json.Decoder(list[_Action], strict=False).decode

# By the vendor's name of a list: our kind, and the fields with the symbol concerned, with its first day in the new way
# (if missing, the day of processing is taken), and with the other symbol of the action, if any.
_FORMS: Mapping[str, tuple[str, str, str, str | None]] = {
    "forward_splits": ("split", "symbol", "ex_date", None),
    "reverse_splits": ("split", "symbol", "ex_date", None),
    "cash_dividends": ("dividend", "symbol", "ex_date", None),
    "stock_dividends": ("stock dividend", "symbol", "ex_date", None),
    "spin_offs": ("spin-off", "source_symbol", "ex_date", "new_symbol"),
    "rights_distributions": ("rights distribution", "source_symbol", "ex_date", "new_symbol"),
    "unit_splits": ("unit split", "old_symbol", "effective_date", "new_symbol"),
    "cash_mergers": ("merger", "acquiree_symbol", "effective_date", "acquirer_symbol"),
    "stock_mergers": ("merger", "acquiree_symbol", "effective_date", "acquirer_symbol"),
    "stock_and_cash_mergers": ("merger", "acquiree_symbol", "effective_date", "acquirer_symbol"),
    "redemptions": ("redemption", "symbol", "process_date", None),
    "name_changes": ("rename", "old_symbol", "process_date", "new_symbol"),
    "worthless_removals": ("delisting", "symbol", "process_date", None),
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One action as a row of ACTION_SCHEMA, with its day instead of a time."""

    symbol: str
    kind: str
    day: date
    ratio: float | None = None
    amount: float | None = None
    value: str | None = None


class ActionPages:
    """A collector of the facts about `symbols` on all pages, each once. `problems` are actions that cannot be read."""

    def __init__(self, provider: str, symbols: Iterable[str]) -> None:
        self._provider = provider
        self._symbols = frozenset(symbols)
        self._seen: set[str] = set()
        self._facts: list[Fact] = []
        self.problems: list[MalformedAnswer] = []

    def read(self, body: bytes) -> str | None:
        """Read one page; return the token of the next one, or None.

        Raises:
            MalformedAnswer: when the page cannot be read at all.
        """
        try:
            page = _read_page(body)
            # As far as is known, other kinds neither change prices nor end symbols.
            known = {name: raw for name, raw in (page.corporate_actions or {}).items() if name in _FORMS}
            lists = {name: _read_list(raw) for name, raw in known.items()}
        except msgspec.DecodeError as error:
            raise self._malformed(str(error)) from None
        except RecursionError:
            raise self._malformed("JSON nested too deep") from None
        for name, actions in lists.items():
            for action in actions:
                self._take(name, action)
        return page.next_page_token or None

    def facts(self, last_sessions: Mapping[str, date]) -> pl.DataFrame:
        """Return all facts (ACTION_SCHEMA); `effective_at` is midnight UTC of their day.

        `last_sessions` has the day of the newest session that has begun, per symbol, whose shares are counted.

        Sorted by symbol, effective_at and kind.
        """
        rows = [
            (fact.symbol, fact.kind, _midnight(fact.day), fact.ratio, fact.amount, fact.value)
            for fact in _counting_shares_of(last_sessions, _in_one_per_day(self._facts))
        ]
        return pl.DataFrame(rows, schema=ACTION_SCHEMA, orient="row").sort("symbol", "effective_at", "kind")

    def _take(self, name: str, action: _Action) -> None:
        kind, symbol_field, day_field, value_field = _FORMS[name]
        symbol = getattr(action, symbol_field)
        # An action about two symbols is sent for either of them, also for an acquirer or a company that was spun off.
        if (symbol is not None and symbol not in self._symbols) or action.id in self._seen:
            return
        if action.id is not None:
            self._seen.add(action.id)
        day = getattr(action, day_field) or action.process_date
        if symbol is None or day is None:
            missing = symbol_field if symbol is None else day_field
            self.problems.append(self._malformed(f"one of `{name}` without `{missing}`", symbol))
            return
        # Values that the vendor does not know are missing or empty.
        told = None if value_field is None else getattr(action, value_field) or None
        if kind == "split" and not is_ratio(_ratio(action)):
            said = f"one of `{name}` of {symbol} at {action.new_rate} for {action.old_rate}"
            self.problems.append(self._malformed(said, symbol))
        elif (fact := _fact(Fact(symbol, kind, day, value=told), action)) is not None:
            self._facts.append(fact)

    def _malformed(self, what: str, symbol: str | None = None) -> MalformedAnswer:
        return MalformedAnswer(
            f"{self._provider} sent an answer that is not corporate actions: {what}",
            provider=self._provider,
            symbol=symbol,
        )


def _fact(bare: Fact, action: _Action) -> Fact | None:
    """Return `bare` with the values of `action` for its kind, or None if the action changes nothing."""
    match bare.kind:
        case "split":
            ratio = _ratio(action)
            return None if ratio == 1 else replace(bare, ratio=ratio)
        case "dividend":
            # The rate is zero until the dividend is declared.
            return replace(bare, amount=action.rate) if is_amount(action.rate) else None
        case "stock dividend":
            return bare if action.rate is None else replace(bare, value=f"{action.rate:g}")
        case "unit split":
            return replace(bare, value=" and ".join(filter(None, (bare.value, action.alternate_symbol))))
        case "rename":
            # The name of a company may change without its symbol.
            return None if bare.value in (None, bare.symbol) else bare
    return bare


def _ratio(action: _Action) -> float:
    """Return the number of new shares per old one; NaN if the vendor does not say."""
    new, old = action.new_rate or 0.0, action.old_rate or 0.0
    return new / old if new > 0 and old > 0 else math.nan


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _in_one_per_day(facts: Iterable[Fact]) -> list[Fact]:
    """Return one fact per symbol, kind and day, or none where the facts of a day have no effect together.

    Dividends of a day are added up. A reverse and a forward split of a day are multiplied: together they pay out who
    has few shares, and usually leave the number of shares as it was. Of all others the last one counts.
    """
    found: dict[tuple[str, str, date], Fact] = {}
    for fact in facts:
        key = (fact.symbol, fact.kind, fact.day)
        known = found.get(key)
        if known is not None and known.amount is not None and fact.amount is not None:
            found[key] = replace(fact, amount=known.amount + fact.amount)
        elif known is not None and known.ratio and fact.ratio and (known.ratio < 1) is not (fact.ratio < 1):
            found[key] = replace(fact, ratio=known.ratio * fact.ratio)
        else:
            found[key] = fact
    return [fact for fact in found.values() if fact.ratio is None or not math.isclose(fact.ratio, 1.0)]


def _counting_shares_of(days: Mapping[str, date], facts: Sequence[Fact]) -> list[Fact]:
    """Return `facts` with amounts of dividends per share of the symbol's day in `days`, not of the dividend's day.

    A split of a later day is not counted yet: who reads a dividend counts all splits that take effect after it became
    known.
    """
    splits = [fact for fact in facts if fact.kind == "split"]

    def restated(fact: Fact) -> Fact:
        if fact.amount is None:
            return fact
        mine = [(each.day, each.ratio or 1.0) for each in splits if each.symbol == fact.symbol]
        today = days[fact.symbol]
        since = math.prod(ratio for day, ratio in mine if fact.day < day <= today)
        until = math.prod(ratio for day, ratio in mine if today < day <= fact.day)
        return replace(fact, amount=fact.amount * until / since)

    return [restated(fact) for fact in facts]
