"""Which calendar and provider a symbol gets that a person adds, with the reason. Changes no watchlist."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ema_assets.cli import environment
from ema_assets.market.exchanges import holidays_known_through
from ema_assets.market.listings import Listing, listing_of, symbol_of
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError, UnclearSymbol, not_one_of
from ema_assets.model.symbols import ALWAYS_OPEN, FROM_FILES, FX_CALENDAR, AssetClass, Instrument
from ema_assets.providers import registry
from ema_assets.providers.declaration import Provider

_CLASS_BY_CALENDAR: dict[str, AssetClass] = {ALWAYS_OPEN: "crypto", FX_CALENDAR: "fx", "CMES": "futures"}
# Holidays that are known for longer than this need no note.
_SOON = timedelta(days=370)
_IN_WORDS: dict[AssetClass, str] = {"fx": "foreign exchange"}


@dataclass(frozen=True, slots=True)
class Choice:
    """An instrument, and the reason for its calendar."""

    instrument: Instrument
    reason: str

    def __str__(self) -> str:
        provider = "" if self.instrument.provider is None else f", from {self.instrument.provider}"
        return f"{self.instrument.symbol} ({self.instrument.calendar}: {self.reason}{provider})"


@dataclass(slots=True)
class Chooser:
    """Chooses calendar and provider for one symbol after another.

    `refused` says for each symbol without a choice why there is none, and `spellings` how it is written here if only
    one is possible. `default` is the provider of symbols that name none; `calendar` and `provider` are given by
    the person.
    """

    default: str
    calendar: str | None
    provider: str | None
    refused: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)
    _calendars: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.provider is not None and self.provider != FROM_FILES and not registry.is_asked(self.provider):
            raise not_one_of("provider", self.provider, (*registry.ALLOWED, FROM_FILES))
        if self.calendar is not None:
            environment.check_calendar(self.calendar)

    def choose(self, symbol: str) -> Choice | None:
        """Return the choice for `symbol`; None when it is refused."""
        try:
            symbol_of(symbol)
            listing = self._listing(symbol)
            self._check_provider(symbol, listing)
        except ConfigurationError as error:
            self.refused[symbol] = str(error)
            if isinstance(error, UnclearSymbol) and len(error.spellings) == 1:
                self.spellings[symbol] = error.spellings[0]
            return None
        if (problem := self._problem_of(listing.calendar)) is not None:
            self.refused[symbol] = f"{symbol}: {problem}"
            return None
        negative = listing.asset_class == "futures"
        return Choice(Instrument(symbol, listing.calendar, self.provider, negative), listing.reason)

    def notes(self) -> Iterator[str]:
        """Yield what must be known about the calendars that were chosen."""
        soon = clock.now().date() + _SOON
        for calendar in sorted(calendar for calendar, problem in self._calendars.items() if problem is None):
            if (known := holidays_known_through(calendar)) is not None and known < soon:
                yield (
                    f"The holidays of {calendar} are known through {known}. Later weekdays count as sessions, until "
                    f"a newer exchange_calendars is installed or `[calendar.{calendar}]` names the days `closed`."
                )

    def _listing(self, symbol: str) -> Listing:
        if self.calendar is not None:
            return Listing(_CLASS_BY_CALENDAR.get(self.calendar, "stocks"), self.calendar, "as you say")
        listing = listing_of(symbol)
        provider = self._asked()
        if provider is not None and provider.asset_classes == {"crypto"} and listing.asset_class == "fx":
            # EUR-USD is a pair of a crypto exchange like any other, and trades around the clock there.
            return Listing("crypto", ALWAYS_OPEN, f"a pair of {provider.title}")
        return listing

    def _asked(self) -> Provider[Any] | None:
        name = self.provider or self.default
        return None if name == FROM_FILES else registry.declared(name)

    def _check_provider(self, symbol: str, listing: Listing) -> None:
        provider = self._asked()
        if provider is None or provider.has(listing.asset_class, listing.calendar):
            return
        others = [
            name
            for name, other in registry.PROVIDERS.items()
            if other.is_asked and not other.is_synthetic and other.has(listing.asset_class, listing.calendar)
        ]
        what = _IN_WORDS.get(listing.asset_class, listing.asset_class)
        where = f" of {listing.calendar}" if listing.asset_class in provider.asset_classes else ""
        raise UnclearSymbol(
            symbol,
            f"{provider.title} has no {what}{where}",
            f"choose a provider that has, such as `--provider {others[0]}`" if others else "no provider has them",
        )

    def _problem_of(self, calendar: str) -> str | None:
        if calendar not in self._calendars:
            try:
                environment.check_calendar(calendar)
                self._calendars[calendar] = None
            except ConfigurationError as error:
                self._calendars[calendar] = str(error)
        return self._calendars[calendar]
