"""What `up` tells while it runs: each thing once."""

from collections.abc import Callable

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.errors import EmaAssetsError
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers import registry
from ema_assets.reports import status
from ema_assets.store.database import Database

Say = Callable[[str], None]


def greet(settings: Settings, ui: str, database: str, watched: Watchlist, say: Say) -> None:
    """Say where everything is."""
    say("")
    say(f"  Dagster UI   {ui}")
    say(f"  Database     {database}")
    for name in sorted(watched.providers(settings.provider)):
        provider = registry.declared(name)
        prices = f"{provider.title}: SYNTHETIC prices, not market data" if provider.is_synthetic else name
        say(f"  Provider     {prices}")
    if settings.clock is not None:
        say(f"  Clock        {settings.clock}: virtual, now {clock.now():%Y-%m-%d %H:%M} UTC")
    say(f"  Watchlist    {settings.watchlist_path} ({len(watched.symbols)} symbols)")
    say(f"  Logs         {settings.logs_folder}")
    say("")
    say("Ctrl-C stops everything; the data stays.")
    say("")


class News:
    """How loading goes until all is up to date, then only what changes for the worse."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: set[str] = set()
        self.is_complete = False

    def once(self, line: str, topic: str | None = None) -> None:
        """Say `line`, unless it or another line on the same `topic` has been said."""
        if (topic or line) not in self._told:
            self._told.add(topic or line)
            self._say(f"  {line}")

    def look(self, database: Database) -> None:
        """Say what has changed in the database since the last look."""
        try:
            with database.transaction() as transaction:
                self._problems(status.failure_reasons(transaction), status.without_bars(transaction))
                if not self.is_complete:
                    self._progress(status.progress(transaction))
        except EmaAssetsError as error:
            self.once(f"the database does not answer: {error}")

    def _problems(self, failing: list[status.FailureReason], without_bars: list[str]) -> None:
        for failure in failing:
            self.once(f"failing: {failure}", topic=failure.reason)
        if without_bars:
            self.once(f"the provider has no bars of {', '.join(without_bars)}; are the symbols right?")

    def _progress(self, progress: dict[Timeframe, tuple[int, int]]) -> None:
        counts = "  ".join(f"{timeframe.key} {done}/{total}" for timeframe, (done, total) in progress.items())
        self.once(f"series up to date: {counts}")
        if progress and all(done == total for done, total in progress.values()):
            self.is_complete = True
            self.once(f"every series on {len(progress)} timeframes is up to date; new bars follow at their closes")
