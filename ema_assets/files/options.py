"""The options that tell how to read a file where the file does not tell itself. Reads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from zoneinfo import ZoneInfo

from ema_assets.model.errors import ConfigurationError, not_one_of

LABELS = ("open", "close")
DATE_ORDERS = ("dmy", "mdy", "ymd")
DECIMAL_SIGNS = (".", ",")
ROLES = ("ts", "date", "time", "open", "high", "low", "close", "volume", "symbol", "timeframe")
# The word in `--tz` for the clock of each symbol's exchange.
EXCHANGE = "exchange"
# The word in `--columns` for a column that is not read.
IGNORED = "-"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The options of `ingest` that say how to read a file. None means that the file decides.

    Attributes:
        symbol: The symbol of a file with one symbol.
        timeframe: Key of the timeframe of a file with one timeframe.
        tz: IANA zone of times that name none, such as `America/New_York`, or EXCHANGE.
        label: `open` or `close`: which end of a bar its time stands for.
        dates: `dmy`, `mdy` or `ymd`: the order of numbers in a date.
        decimal: `.` or `,`: the decimal sign.
        columns: The role of each column from the left, one of ROLES, or `-` for a column that is not read.
        calendar: Trading calendar of symbols that are not on the watchlist yet.
        partial: Store what can be stored, even when that is the smaller part.
    """

    symbol: str | None = None
    timeframe: str | None = None
    tz: str | None = None
    label: str | None = None
    dates: str | None = None
    decimal: str | None = None
    columns: tuple[str, ...] | None = None
    calendar: str | None = None
    partial: bool = False

    def check(self) -> None:
        """Check every value except symbol, timeframe and calendar, which are checked elsewhere.

        Raises:
            ConfigurationError: when a value is invalid. The message names the option, what was received and what is
                allowed.
        """
        if self.tz not in (None, EXCHANGE):
            zone(self.tz)
        for name, allowed in (("label", LABELS), ("dates", DATE_ORDERS), ("decimal", DECIMAL_SIGNS)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise not_one_of(f"--{name}", value, allowed)
        if self.columns is not None:
            _check_columns(self.columns)

    def arguments(self) -> list[str]:
        """Return the options that are set as arguments of a command line."""
        words: list[str] = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value is True:
                words.append(f"--{each.name}")
            elif value:
                words += [f"--{each.name}", ",".join(value) if each.name == "columns" else value]
        return words

    def with_answers(self, answers: Sequence[tuple[str, str]]) -> "ReadOptions":
        """Return a copy with some options set, given as pairs of name and text."""
        values = {
            name: tuple(text.split(",")) if name == "columns" else name == "partial" or text for name, text in answers
        }
        return replace(self, **values)  # type: ignore[arg-type]  # names and values of this very record


def zone(name: str) -> ZoneInfo:
    """Return the zone with an IANA name.

    Raises:
        ConfigurationError: when there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ConfigurationError(
            f"`--tz` must be a zone such as UTC, America/New_York or Etc/GMT+5 (five hours behind UTC, all year), "
            f"received {name!r}"
        ) from None


def _check_columns(columns: tuple[str, ...]) -> None:
    for name in columns:
        if name not in (*ROLES, IGNORED):
            raise not_one_of("--columns", name, (*ROLES, IGNORED))
    for name in ROLES:
        if columns.count(name) > 1:
            raise ConfigurationError(f"`--columns` names {name} twice, received {','.join(columns)!r}")
    if not {"ts", "date"} & set(columns) or "close" not in columns:
        raise ConfigurationError(
            f"`--columns` must name ts (or date and time) and close at least, received {','.join(columns)!r}"
        )
