"""The watchlist: a TOML file that says which symbols are kept up to date. Reads and checks it; does not edit it."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_assets.config import calendar_tables, shared_files, timeframe_lists
from ema_assets.config.settings import Settings, is_synthetic, named_watchlist
from ema_assets.model.errors import EmptyWatchlist, InvalidKeyError, WatchlistError, did_you_mean
from ema_assets.model.special_days import SpecialDays
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
from ema_assets.model.timeframes import DEFAULT, Timeframe, with_bases
from ema_assets.providers import registry

if TYPE_CHECKING:
    from ema_assets.alerts.subscriptions import Alerts

_GROUP_KEYS = ("name", "calendar", "hours", "provider", "timeframes", "allow_negative", "symbols")
_TOP_KEYS = ("timeframes", "history", "ema", "signals", "strategy", "calendar", "group", "channels", "alert")
REGULAR_HOURS, _EXTENDED_HOURS = "regular", "extended"


@dataclass(frozen=True, slots=True)
class Watchlist:
    """Instruments in the file's order, how far back their bars are fetched the first time, and how EMAs start.

    `history_days` has one entry per fetched timeframe, in calendar days. `ema_seed` is one of `symbols.SEEDS`.
    `signals_off`, `signal_params` and `strategies` are what the file says about signals and strategies. The builder of
    the graph of assets checks them and names the file as `where` in errors. `special_days` are keyed by calendar.
    `default_timeframes` are the timeframes of groups that name none. `groups` are symbols by the name of their group; a
    group without a name is called by its number, groups with the same name are one. `alerts` is None when there are
    none.
    """

    instruments: tuple[Instrument, ...]
    history_days: Mapping[Timeframe, int]
    ema_seed: str = SEEDS[0]
    signals_off: tuple[str, ...] = ()
    signal_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strategies: tuple[Mapping[str, Any], ...] = ()
    special_days: Mapping[str, SpecialDays] = field(default_factory=dict)
    where: str = "watchlist"
    default_timeframes: tuple[Timeframe, ...] = DEFAULT
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alerts: "Alerts | None" = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols in the file's order."""
        return tuple(each.symbol for each in self.instruments)

    def providers(self, default: str) -> set[str]:
        """Return all providers that are queried for bars; `default` is the provider of symbols that name none."""
        return set(self.by_provider(default))

    def by_provider(self, default: str) -> dict[str, tuple[str, ...]]:
        """Return symbols by the provider of their bars, providers sorted; symbols with bars from files are left out.

        `default` is the provider of symbols that name none.
        """
        found: dict[str, list[str]] = {}
        for each in self.instruments:
            if each.is_fetched:
                found.setdefault(each.provider or default, []).append(each.symbol)
        return {provider: tuple(found[provider]) for provider in sorted(found)}

    def synthetic_symbols(self, default: str) -> frozenset[str]:
        """Return symbols whose provider makes synthetic bars; it is `default` for symbols that name none."""
        return frozenset(
            symbol
            for provider, symbols in self.by_provider(default).items()
            if is_synthetic(provider)
            for symbol in symbols
        )

    @property
    def calendars(self) -> tuple[str, ...]:
        """All calendars in use, sorted."""
        return tuple(sorted({each.calendar for each in self.instruments}))

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        """All timeframes on which a symbol is computed, shortest first; the default ones if there are no symbols."""
        used = {each.timeframes for each in self.instruments} or {DEFAULT}
        return tuple(sorted({timeframe for timeframes in used for timeframe in timeframes}))

    @property
    def with_bars(self) -> tuple[Timeframe, ...]:
        """`timeframes`, and the timeframes that their bars are rolled up from, shortest first."""
        return with_bases(self.timeframes)


def default_text() -> str:
    """Return the watchlist with which a new installation starts."""
    return resources.files(__package__).joinpath("default_watchlist.toml").read_text(encoding="utf-8")


def ensure(path: Path) -> None:
    """Write the default watchlist to `path` when no file is there.

    Raises:
        WatchlistError: when `EMA_WATCHLIST` names that file.
    """
    if path.exists():
        return
    check_is_there(path)
    path.resolve().parent.mkdir(parents=True, exist_ok=True)
    with shared_files.locked(path) as target:
        # Another process may have written it meanwhile, and a third one may have edited that.
        if not target.exists():
            shared_files.replace_text(target, default_text())


def check_is_there(path: Path) -> None:
    """Refuse a missing file that `EMA_WATCHLIST` names: it is misspelt, and a default would hide that.

    Raises:
        WatchlistError: naming the file and what to do.
    """
    if not path.exists() and path == named_watchlist():
        raise WatchlistError(
            f"`EMA_WATCHLIST` must be a file, received {path}, which is not there; unset it for a default watchlist"
        )


def of(settings: Settings) -> Watchlist:
    """Return the watchlist of `settings`. If files are the default provider, symbols that name none are from files.

    Raises:
        WatchlistError: as in `load`, and when the provider of a symbol does not serve its timeframes.
    """
    return _with_provider(load(settings.watchlist_path), settings.provider)


def _with_provider(watched: Watchlist, default: str) -> Watchlist:
    timeframe_lists.check_served(watched.instruments, default, watched.where)
    if default != FROM_FILES:
        return watched
    instruments = (replace(each, provider=each.provider or FROM_FILES) for each in watched.instruments)
    return replace(watched, instruments=tuple(instruments))


def read(settings: Settings) -> Watchlist:
    """Return the watchlist of `settings`, or the default one if none was written yet: for callers that do not write.

    Raises:
        WatchlistError: as in `of`, and when `EMA_WATCHLIST` names a file that does not exist.
    """
    check_is_there(settings.watchlist_path)
    if settings.watchlist_path.exists():
        return of(settings)
    return _with_provider(parse(default_text()), settings.provider)


def load(path: Path) -> Watchlist:
    """Read the file at `path`.

    Raises:
        WatchlistError: naming the file, the entry and what is allowed.
    """
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return the text of the file at `path`, not checked yet.

    Raises:
        WatchlistError: naming the file, when it is missing or cannot be read.
    """
    try:
        # Some editors begin a file with a byte order mark.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise WatchlistError(
            f"{path}: no such file; `ema-assets up` writes a default watchlist, or set EMA_WATCHLIST to yours"
        ) from None
    except UnicodeDecodeError as error:
        raise WatchlistError(f"{path}: cannot be read: {error}") from None
    except OSError as error:
        raise WatchlistError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse(text: str, where: str = "watchlist") -> Watchlist:
    """Read the text of a watchlist; `where` names it in errors.

    Raises:
        WatchlistError: as in `load`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WatchlistError(f"{where}: not valid TOML: {error}") from None
    _only(document, _TOP_KEYS, where)
    history = timeframe_lists.history(document.get("history", {}), where)
    timeframes = timeframe_lists.timeframes(document.get("timeframes"), where) or DEFAULT
    seed = _seed(document.get("ema", {}), where)
    off, params = _signals(document.get("signals", {}), where)
    strategies = _tables(document.get("strategy", []), "strategy", "strategies", where)
    groups = _tables(document.get("group", []), "group", "groups", where)
    instruments: dict[str, Instrument] = {}
    by_group: dict[str, list[str]] = {}
    for number, group in enumerate(groups, start=1):
        members = by_group.setdefault(str(group.get("name", number)), [])
        for instrument in _group(group, timeframes, f"{where}: group {group.get('name', number)!r}"):
            members.append(instrument.symbol)
            if instrument.symbol in instruments:
                raise WatchlistError(f"{where}: the symbol {instrument.symbol!r} is listed twice; keep one of them")
            instruments[instrument.symbol] = instrument
    if not instruments:
        raise EmptyWatchlist(f'{where}: lists no symbol; add a `[[group]]` with `symbols = ["AAPL"]`')
    special = calendar_tables.special_days(
        document.get("calendar", {}), {each.calendar for each in instruments.values()}, where
    )
    used = {timeframe for each in instruments.values() for timeframe in each.timeframes}
    watched = Watchlist(
        instruments=tuple(instruments.values()),
        history_days=timeframe_lists.default_history(used) | history,
        ema_seed=seed,
        signals_off=off,
        signal_params=params,
        strategies=tuple(strategies),
        special_days=special,
        where=where,
        default_timeframes=timeframes,
        groups={name: tuple(symbols) for name, symbols in by_group.items()},
    )
    if not {"alert", "channels"} & document.keys():
        return watched
    # Imported only when there are alerts: every run reads the watchlist.
    from ema_assets.config import alert_rows

    rows = _tables(document.get("alert", []), "alert", "alerts", where)
    listed = alert_rows.Listed(watched.symbols, watched.groups, watched.with_bars)
    return replace(watched, alerts=alert_rows.alerts(rows, document.get("channels", {}), listed, where))


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
    """Return the signals that are switched off, and the parameters of others by their name."""
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


def _group(group: Mapping[str, Any], default: tuple[Timeframe, ...], where: str) -> list[Instrument]:
    _only(group, _GROUP_KEYS, where)
    calendar = _calendar(group, where)
    provider = group.get("provider")
    if provider is not None and provider != FROM_FILES and not registry.is_asked(provider):
        raise WatchlistError(
            f"{where}: `provider` must be one of {', '.join(registry.ALLOWED)}, or {FROM_FILES!r} for symbols whose "
            "bars come only from `ema-assets ingest`, or be left out for the one of EMA_PROVIDER; "
            f"received {provider!r}"
        )
    symbols = group.get("symbols", [])
    if not isinstance(symbols, list):
        raise WatchlistError(f'{where}: `symbols` must be a list such as ["AAPL", "MSFT"], received {symbols!r}')
    allow_negative = group.get("allow_negative", False)
    if not isinstance(allow_negative, bool):
        raise WatchlistError(f"{where}: `allow_negative` must be true or false, received {allow_negative!r}")
    timeframes = timeframe_lists.timeframes(group.get("timeframes"), where) or default
    return [Instrument(_symbol(symbol, where), calendar, provider, allow_negative, timeframes) for symbol in symbols]


def _calendar(group: Mapping[str, Any], where: str) -> str:
    """Return the calendar of a group, with extended hours if the group requests them."""
    calendar = group.get("calendar", DEFAULT_CALENDAR)
    if not isinstance(calendar, str) or not calendar:
        raise WatchlistError(
            f"{where}: `calendar` must be a name such as {DEFAULT_CALENDAR!r} or {ALWAYS_OPEN!r}, received {calendar!r}"
        )
    hours = group.get("hours", REGULAR_HOURS)
    if hours not in (REGULAR_HOURS, _EXTENDED_HOURS):
        raise WatchlistError(f"{where}: `hours` must be {REGULAR_HOURS!r} or {_EXTENDED_HOURS!r}, received {hours!r}")
    if hours == REGULAR_HOURS:
        return calendar
    if calendar not in EXTENDED_CALENDARS:
        raise WatchlistError(
            f"{where}: `hours = {_EXTENDED_HOURS!r}` is known for the calendars {', '.join(EXTENDED_CALENDARS)}, "
            f"not for {calendar!r}"
        )
    return calendar + EXTENDED_SUFFIX


def _symbol(symbol: Any, where: str) -> str:
    if not isinstance(symbol, str):
        raise WatchlistError(f"{where}: every symbol must be text in quotes, received {symbol!r}")
    try:
        return parse_symbol(symbol)
    except InvalidKeyError as error:
        raise WatchlistError(f"{where}: {error}") from None
