"""The watchlist: a TOML file that says which symbols are kept up to date. Reads and edits that one file."""

import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import tomlkit

from ema_assets.config.settings import PROVIDERS
from ema_assets.model.errors import InvalidKeyError, WatchlistError, did_you_mean
from ema_assets.model.symbols import (
    ALWAYS_OPEN,
    DEFAULT_CALENDAR,
    EXTENDED_CALENDARS,
    EXTENDED_SUFFIX,
    FROM_FILES,
    SEEDS,
    Instrument,
    parse_symbol,
)
from ema_assets.model.timeframes import FETCHED, Timeframe, by_key

# Pairs as BTC-USD, BTCUSDT, ETHUSD.COINBASE; exchanges by the suffix Yahoo gives a symbol.
_PAIR = re.compile(r"[A-Z0-9]{2,10}-(USD|USDT|USDC|EUR|BTC|ETH)|[A-Z0-9]{3,6}(USD|USDT|BUSD|USDC)(\.[A-Z]+)?")
_CALENDAR_BY_SUFFIX = {
    "L": "XLON",
    "PA": "XPAR",
    "AS": "XAMS",
    "BR": "XBRU",
    "DE": "XFRA",
    "SW": "XSWX",
    "MI": "XMIL",
    "MC": "XMAD",
    "TO": "XTSE",
    "HK": "XHKG",
    "T": "XTKS",
    "AX": "XASX",
    "NS": "XBOM",
    "BO": "XBOM",
    "JO": "XJSE",
    "SA": "BVMF",
}

_GROUP_KEYS = ("name", "calendar", "hours", "provider", "symbols")
_TOP_KEYS = ("history", "ema", "signals", "strategy", "group")
_REGULAR, _EXTENDED = "regular", "extended"


@dataclass(frozen=True, slots=True)
class Watchlist:
    """Instruments in the file's order, how far back their bars are fetched the first time, and how EMAs start.

    `history_days` has one entry a fetched timeframe, in calendar days. `ema_seed` is one of keys.SEEDS. `signals_off`,
    `signal_params` and `strategies` are what the file says of signals and strategies: pipeline/graph makes sense of it
    and names the file as `where` when it cannot.
    """

    instruments: tuple[Instrument, ...]
    history_days: Mapping[Timeframe, int]
    ema_seed: str = SEEDS[0]
    signals_off: tuple[str, ...] = ()
    signal_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strategies: tuple[Mapping[str, Any], ...] = ()
    where: str = "watchlist"

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols in the file's order."""
        return tuple(each.symbol for each in self.instruments)

    def providers(self, default: str) -> set[str]:
        """All providers that are asked for bars, where `default` is the one of symbols that name none."""
        return {each.provider or default for each in self.instruments if each.is_fetched}

    @property
    def calendars(self) -> tuple[str, ...]:
        """All calendars in use, sorted."""
        return tuple(sorted({each.calendar for each in self.instruments}))


def default_text() -> str:
    """The watchlist a new installation starts with."""
    return resources.files(__package__).joinpath("default_watchlist.toml").read_text(encoding="utf-8")


def ensure(path: Path) -> None:
    """Write the default watchlist to `path` when no file is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(default_text(), encoding="utf-8")


def load(path: Path) -> Watchlist:
    """Read the file at `path`.

    Raises:
        WatchlistError: naming the file, the entry and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WatchlistError(
            f"{path}: no such file; `ema-assets up` writes a default watchlist, or set EMA_WATCHLIST to yours"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WatchlistError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, where: str = "watchlist") -> Watchlist:
    """Read the text of a watchlist; `where` names it in errors.

    Raises:
        WatchlistError: as `load`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WatchlistError(f"{where}: not valid TOML: {error}") from None
    _only(document, _TOP_KEYS, where)
    history = _history(document.get("history", {}), where)
    seed = _seed(document.get("ema", {}), where)
    off, params = _signals(document.get("signals", {}), where)
    strategies = _tables(document.get("strategy", []), "strategy", "strategies", where)
    groups = _tables(document.get("group", []), "group", "groups", where)
    instruments: dict[str, Instrument] = {}
    for number, group in enumerate(groups, start=1):
        for instrument in _group(group, f"{where}: group {group.get('name', number)!r}"):
            if instrument.symbol in instruments:
                raise WatchlistError(f"{where}: the symbol {instrument.symbol!r} is listed twice; keep one of them")
            instruments[instrument.symbol] = instrument
    if not instruments:
        raise WatchlistError(f'{where}: lists no symbol; add a `[[group]]` with `symbols = ["AAPL"]`')
    return Watchlist(tuple(instruments.values()), history, seed, off, params, tuple(strategies), where)


def _only(table: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            raise WatchlistError(f"{where}: unknown key `{key}`, allowed are {', '.join(allowed)}{hint}")


def _seed(table: Any, where: str) -> str:
    if not isinstance(table, dict):
        raise WatchlistError(f'{where}: `ema` must be a table, such as `[ema]` with `seed = "{SEEDS[0]}"`')
    _only(table, ("seed",), f"{where}: ema")
    seed = table.get("seed", SEEDS[0])
    if seed not in SEEDS:
        raise WatchlistError(f"{where}: ema: `seed` must be one of {', '.join(SEEDS)}, received {seed!r}")
    return str(seed)


def _signals(table: Any, where: str) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """The signals that are switched off, and the parameters of others by their name."""
    if not isinstance(table, dict):
        raise WatchlistError(f'{where}: `signals` must be a table, such as `[signals]` with `off = ["macd"]`')
    off = table.get("off", [])
    if not isinstance(off, list) or not all(isinstance(name, str) for name in off):
        raise WatchlistError(f'{where}: signals: `off` must be a list such as ["macd"], received {off!r}')
    params = {name: values for name, values in table.items() if name != "off"}
    for name, values in params.items():
        if not isinstance(values, dict):
            raise WatchlistError(
                f"{where}: signals: parameters stand in a table of their signal, such as `[signals.rsi]` with "
                f"`span = 14`, received `{name} = {values!r}`"
            )
    return tuple(off), params


def _tables(tables: Any, key: str, plural: str, where: str) -> list[dict[str, Any]]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise WatchlistError(f"{where}: {plural} are written `[[{key}]]`, with two brackets on each side")
    return tables


def _history(table: Any, where: str) -> dict[Timeframe, int]:
    if not isinstance(table, dict):
        raise WatchlistError(f'{where}: `history` must be a table of days, such as `"5m" = 60`')
    _only(table, [each.key for each in FETCHED], f"{where}: history")
    history = {each: each.fetched.history_days for each in FETCHED}
    for key, days in table.items():
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 20_000:
            raise WatchlistError(
                f"{where}: history of {key} must be a whole number of days from 1 to 20000, received {days!r}"
            )
        history[by_key(key)] = days
    return history


def _group(group: Mapping[str, Any], where: str) -> list[Instrument]:
    _only(group, _GROUP_KEYS, where)
    calendar = group.get("calendar", DEFAULT_CALENDAR)
    if not isinstance(calendar, str) or not calendar:
        raise WatchlistError(
            f"{where}: `calendar` must be a name such as {DEFAULT_CALENDAR!r} or {ALWAYS_OPEN!r}, received {calendar!r}"
        )
    hours = group.get("hours", _REGULAR)
    if hours not in (_REGULAR, _EXTENDED):
        raise WatchlistError(f"{where}: `hours` must be {_REGULAR!r} or {_EXTENDED!r}, received {hours!r}")
    if hours == _EXTENDED:
        if calendar not in EXTENDED_CALENDARS:
            raise WatchlistError(
                f"{where}: `hours = {_EXTENDED!r}` is known for the calendars {', '.join(EXTENDED_CALENDARS)}, "
                f"not for {calendar!r}"
            )
        calendar += EXTENDED_SUFFIX
    provider = group.get("provider")
    if provider is not None and provider not in (*PROVIDERS, FROM_FILES):
        raise WatchlistError(
            f"{where}: `provider` must be one of {', '.join(PROVIDERS)}, or {FROM_FILES!r} for symbols whose bars come "
            f"only from `ema-assets ingest`, or be left out for the one of EMA_PROVIDER; received {provider!r}"
        )
    symbols = group.get("symbols", [])
    if not isinstance(symbols, list):
        raise WatchlistError(f'{where}: `symbols` must be a list such as ["AAPL", "MSFT"], received {symbols!r}')
    instruments = []
    for symbol in symbols:
        if not isinstance(symbol, str):
            raise WatchlistError(f"{where}: every symbol must be text in quotes, received {symbol!r}")
        try:
            instruments.append(Instrument(parse_symbol(symbol), calendar, provider))
        except InvalidKeyError as error:
            raise WatchlistError(f"{where}: {error}") from None
    return instruments


def likely_calendar(symbol: str) -> str:
    """The calendar a symbol most likely trades on, by the way vendors write symbols."""
    if _PAIR.fullmatch(symbol):
        return ALWAYS_OPEN
    _, dot, suffix = symbol.rpartition(".")
    return _CALENDAR_BY_SUFFIX.get(suffix, DEFAULT_CALENDAR) if dot else DEFAULT_CALENDAR


def add_symbols(
    path: Path, symbols: Iterable[str], calendar: str | None = None, provider: str | None = None
) -> list[str]:
    """Append `symbols` to the file at `path`, keeping its comments; return those that were not there yet.

    They go to the first group with this calendar and provider, or to a new group when there is none. Without
    `calendar`, it is guessed from the symbol by `likely_calendar`.

    Raises:
        WatchlistError: when the file is malformed. InvalidKeyError: when a symbol is.
    """
    known = set(load(path).symbols)
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    added = []
    for symbol in dict.fromkeys(symbols):
        parse_symbol(symbol)
        if symbol in known:
            continue
        wanted = calendar or likely_calendar(symbol)
        groups = document.setdefault("group", tomlkit.aot())
        for group in groups:
            same_calendar = group.get("calendar", DEFAULT_CALENDAR) == wanted
            if (
                group.get("hours", _REGULAR) == _REGULAR
                and same_calendar
                and group.get("provider") == provider
                and "symbols" in group
            ):
                break
        else:
            group = tomlkit.table()
            group["name"] = f"From files, {wanted}" if provider == FROM_FILES else f"Added, {wanted}"
            group["calendar"] = wanted
            if provider is not None:
                group["provider"] = provider
            group["symbols"] = tomlkit.array()
            groups.append(group)
        group["symbols"].append(symbol)
        added.append(symbol)
    _save(path, tomlkit.dumps(document))
    return added


def remove_symbols(path: Path, symbols: Iterable[str]) -> list[str]:
    """Take `symbols` out of the file at `path`, keeping its comments; return those that were there.

    Raises:
        WatchlistError: when the file is malformed or would be left without a symbol.
    """
    load(path)
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    removed = []
    for symbol in dict.fromkeys(symbols):
        for group in document.get("group", []):
            listed = group.get("symbols", [])
            if symbol in listed:
                listed.remove(symbol)
                removed.append(symbol)
    _save(path, tomlkit.dumps(document))
    return removed


def _save(path: Path, text: str) -> None:
    parse(text, str(path))
    # A reader never sees a half-written file: rename replaces it whole.
    path = path.resolve()
    draft = path.with_suffix(".toml.new")
    draft.write_text(text, encoding="utf-8")
    shutil.copymode(path, draft)
    draft.replace(path)
