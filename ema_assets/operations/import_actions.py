"""Corporate actions from a user's file: reading, checking, recording and withdrawing them. No bar is changed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl

from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.counts import noun
from ema_assets.model.errors import ActionFileError, ConfigurationError, InvalidKeyError, not_one_of
from ema_assets.model.schemas import ACTION_KINDS, ACTION_SCHEMA
from ema_assets.model.symbols import parse_symbol, speller
from ema_assets.providers.registry import PROVIDERS
from ema_assets.store import action_facts
from ema_assets.store.database import Database

_COLUMNS = ("symbol", "kind", "date")
# The column that a row of each kind needs in addition to these.
_NEEDED = {
    "split": "ratio",
    "spin-off": "ratio",
    "currency change": "ratio",
    "dividend": "amount",
    "rename": "value",
    "delisting": None,
    "stock dividend": "value",
    "unit split": "value",
    "merger": None,
    "redemption": None,
    "rights distribution": None,
}

# How two actions of a kind on one day combine into one.
_TOGETHER = {
    "dividend": "the sum of the amounts",
    "split": "the product of the ratios",
    "spin-off": "the product of the ratios",
}


def read_actions(path: Path, calendars: Mapping[str, str]) -> pl.DataFrame:
    """Return the corporate actions of a CSV file, following ACTION_SCHEMA.

    Columns of the file: symbol, kind, date (the first day on which it trades in the new way), and, if the kind needs
    it, `ratio` (old price over new: `7:1`, `1253:1000` or a number), `amount` (of a dividend, per share of today) or
    `value` (the new symbol or currency, the acquirer, new shares per share). An action takes effect at the open of that
    day's session if `calendars` has the calendar of its symbol, otherwise at midnight UTC. A symbol in small letters is
    the one in capitals, unless `calendars` has it as it is.

    Raises:
        ActionFileError: naming file, line and what is wrong.
    """
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError:
        raise ActionFileError(f"{path}: no such file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ActionFileError(f"{path}: cannot be read as csv: {str(error).splitlines()[0]}") from None
    frame = frame.rename({name: name.strip().lower() for name in frame.columns})
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        raise ActionFileError(
            f"{path}: lacks the {noun(len(missing), 'column')} {', '.join(missing)}; needed are "
            f"{', '.join(_COLUMNS)} and `ratio`, `amount` or `value`"
        )
    rows: dict[Sequence[object], tuple[int, Sequence[object]]] = {}
    meant = speller(calendars)
    for line, row in enumerate(frame.iter_rows(named=True), start=2):
        try:
            cells = {name: (value or "").strip() for name, value in row.items()}
            symbol = parse_symbol(meant(cells["symbol"]) or cells["symbol"].upper())
            action = _action(symbol, cells, calendars.get(symbol))
        except (ValueError, InvalidKeyError) as error:
            raise ActionFileError(f"{path}: line {line}: {error}") from None
        earlier, same = rows.setdefault(action[:3], (line, action))
        if same != action:
            kind = action[1]
            together = _TOGETHER.get(str(kind))
            raise ActionFileError(
                f"{path}: lines {earlier} and {line}: {symbol} has two different actions of the kind {kind} on one "
                f"day; keep the right line{f', or write one with {together}' if together else ''}"
            )
    return pl.DataFrame([action for _, action in rows.values()], schema=ACTION_SCHEMA, orient="row")


def import_actions(database: Database, actions: pl.DataFrame, source: str) -> int:
    """Record `actions` (ACTION_SCHEMA) from the file `source`; return how many are new or changed."""
    with database.transaction() as transaction:
        return action_facts.record(transaction, actions, source)


def take_back(database: Database, symbol: str, kind: str, text: str) -> list[str]:
    """Delete the action of `symbol` on the day `text`, such as 2026-11-25; return the providers that reported it.

    One that came from files is deleted there only, and the list is empty. A provider may report an action again, but
    none says that one was called off whose day has come.

    Raises:
        ConfigurationError: when no such action is known, with what is known of the symbol, or when `kind` or `text` is
            invalid.
    """
    if kind not in ACTION_KINDS:
        raise not_one_of("kind", kind, ACTION_KINDS)
    try:
        day = _day_of(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    with database.transaction() as transaction:
        if action_facts.forget(transaction, symbol, kind, day, list(PROVIDERS)):
            return []
        if told_by := action_facts.forget(transaction, symbol, kind, day, []):
            return told_by
        known = action_facts.known(transaction, [symbol]).select("kind", "effective_at", "source").rows()
    listed = "; ".join(f"{each} of {at:%Y-%m-%d %H:%M} UTC from {source}" for each, at, source in known)
    and_known = f"; known of it is {listed}" if known else ", and no other action of it is known"
    raise ConfigurationError(f"no {kind} of {symbol} on {day} is known{and_known}")


def _action(symbol: str, row: Mapping[str, str], calendar: str | None) -> Sequence[object]:
    kind = row["kind"].lower()
    if kind not in ACTION_KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(ACTION_KINDS)}, received {row['kind']!r}")
    needed = _NEEDED[kind]
    if needed is not None and not row.get(needed):
        raise ValueError(f"a {kind} needs `{needed}`")
    return (
        symbol,
        kind,
        _effective_at(row["date"], calendar),
        _ratio(row["ratio"]) if needed == "ratio" else None,
        _positive("amount", row["amount"]) if needed == "amount" else None,
        row.get("value") or None,
    )


def _day_of(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`date` must be a day such as 2026-11-25, received {text!r}") from None


def _effective_at(text: str, calendar: str | None) -> datetime:
    day = _day_of(text)
    if calendar is not None:
        opened = exchange_sessions(calendar, day, day)["open"]
        if not opened.is_empty():
            moment = opened[0]
            assert isinstance(moment, datetime)
            return moment
    return datetime.combine(day, time(), UTC)


def _ratio(text: str) -> float:
    after, colon, before = text.partition(":")
    ratio = _positive("ratio", after) / (_positive("ratio", before) if colon else 1.0)
    if ratio == 1:
        raise ValueError(f"`ratio` must not be 1, received {text!r}")
    return ratio


def _positive(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        allowed = "such as 7:1 or 1.253" if name == "ratio" else "above zero"
        raise ValueError(f"`{name}` must be a number {allowed}, received {text!r}")
    return number
