"""What `up` reports while it runs: each thing once."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.counts import counted
from ema_assets.model.errors import EmaAssetsError
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers import registry
from ema_assets.reports import automation, progress, status
from ema_assets.store import diagnosis, ledger
from ema_assets.store.database import Database, Transaction
from ema_assets.store.driver_errors import refusal

Say = Callable[[str], None]

# With more symbols than this, progress is counted every `_EVERY_LOOK` looks only. Every `_TOLD_AGAIN` looks it is
# reported even if no series was completed, because the estimate has changed.
_MANY_SYMBOLS = 500
_EVERY_LOOK, _TOLD_AGAIN = 5, 20
# Dagster's tables of runs and ticks are read every so many looks, about once per minute.
_AUTOMATION_EVERY = 20
# How many series without bars are named.
_NAMED = 20
# The topic of messages about the database, whatever their words.
_DATABASE = "database"


def greet(settings: Settings, addresses: Mapping[str, str], database: str, watched: Watchlist, say: Say) -> None:
    """Say where everything is: `addresses` of what there is to look at, by name, and the rest."""
    say("")
    for name, address in addresses.items():
        if address:
            say(f"  {name:<11}  {address}")
    say(f"  Database     {database}")
    for name in sorted(watched.providers(settings.provider)):
        provider = registry.declared(name)
        prices = f"{provider.title}: SYNTHETIC prices, not market data" if provider.is_synthetic else name
        say(f"  Provider     {prices}")
    if settings.clock is not None:
        say(f"  Clock        {settings.clock}: virtual, now {clock.now():%Y-%m-%d %H:%M} UTC")
    say(f"  Watchlist    {settings.watchlist_path} ({counted(len(watched.symbols), 'symbol')})")
    say(f"  Logs         {settings.logs_folder}")
    say("")
    say("Ctrl-C stops everything; the data stays.")
    say("")


class News:
    """How loading goes until all is up to date; then only problems, until symbols are added.

    The end of a problem with the database or the configuration is reported as well.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told: set[str] = set()
        self._problems_now: dict[str, set[str]] = {}
        self._looks = 0
        self._symbols = 0
        self._last: Mapping[Timeframe, tuple[int, int]] = {}
        self._all_looks = 0
        self._daemon: str | None = None
        self._daemons: set[str] = set()
        self.is_complete = False

    def once(self, line: str, topic: str | None = None) -> None:
        """Say `line`, unless it or another line on the same `topic` has been said."""
        if (topic or line) not in self._told:
            self._told.add(topic or line)
            self._say(f"  {line}")

    def while_it_lasts(self, lines: Collection[str], ended: str, topic: str | None = None) -> None:
        """Say each of `lines` that was not among those of the last call, and `ended` once there are none any more.

        A problem that comes back after its end is reported again. Calls with the same `ended` belong together. With a
        `topic`, another line is the same problem in other words, and is not said.
        """
        before = self._problems_now.get(ended, set())
        problems = {topic or line: line for line in lines}
        for problem, line in problems.items():
            if problem not in before:
                self._say(f"  {line}")
        if before and not problems:
            self._say(f"  {ended}")
        self._problems_now[ended] = set(problems)

    def look(self, database: Database) -> None:
        """Say what has changed in the database since the last look."""
        failed = []
        try:
            with database.transaction() as transaction:
                not_synced = status.not_synced(transaction)
                self.while_it_lasts(
                    [] if not_synced is None else [f"the watchlist is {not_synced}"], "the watchlist is taken up again"
                )
                self._problems(status.failure_reasons(transaction), status.without_bars(transaction))
                self._other_daemon(diagnosis.daemon_id(transaction))
                self._automation(transaction)
                self._progress(transaction)
        except EmaAssetsError as error:
            failed.append(f"the database does not answer: {error}")
        except Exception as error:
            # Such as a full disk or a time limit for statements. What is reported here must not end `up`.
            if (reason := refusal(error)) is None:
                raise
            failed.append(reason)
        self.while_it_lasts(failed, "the database answers again", topic=_DATABASE)

    def _problems(self, failing: list[status.FailureReason], without_bars: list[str]) -> None:
        for failure in failing:
            self.once(f"failing: {failure}", topic=failure.topic)
        if without_bars:
            named = ", ".join(without_bars[:_NAMED]) + (
                f" and {len(without_bars) - _NAMED} more" if len(without_bars) > _NAMED else ""
            )
            self.once(f"the provider has no bars of {named}; are the symbols right?")

    def _other_daemon(self, current: str | None) -> None:
        """Say that another stack uses the database: its daemon and the one of this stack report in turns.

        A daemon that was started again has another identifier, but the old one does not come back.
        """
        if current is None or current == self._daemon:
            return
        if current in self._daemons:
            self.once(
                "another Dagster daemon uses this database: stop one of the two, for their watchlists undo each other"
            )
        self._daemon = current
        self._daemons.add(current)

    def _automation(self, transaction: Transaction) -> None:
        """Say why Dagster launches less than it should."""
        is_due = self._all_looks % _AUTOMATION_EVERY == 0
        self._all_looks += 1
        if not is_due:
            return
        now = datetime.now(UTC)
        waiting = automation.set_back(transaction, now)
        self.while_it_lasts(
            [] if waiting is None else [f"{waiting}; stop this and start it again"],
            "Dagster evaluates schedules and sensors again",
            topic="set back",
        )
        self.while_it_lasts(
            [str(loop) for loop in automation.crash_loops(transaction, now) or ()],
            "no runs fail as a whole any more",
        )

    def _progress(self, transaction: Transaction) -> None:
        """Say how loading goes: at each look for few symbols, less often for many, and nothing once all are loaded."""
        symbols = ledger.symbols_active(transaction)
        more, self._symbols = symbols - self._symbols, symbols
        if self.is_complete and more > 0:
            self._say(f"  {counted(more, 'more symbol')} on the watchlist: loading")
        if more > 0:
            self.is_complete, self._looks = False, 0
        self._looks += 1
        # Counting the series of thousands of symbols takes a second.
        if self.is_complete or (symbols > _MANY_SYMBOLS and self._looks % _EVERY_LOOK != 1):
            return
        found = progress.loading(transaction, datetime.now(UTC))
        if not found.series:
            return
        if found.is_complete:
            self.is_complete = True
            frames = counted(len(found.series), "timeframe")
            self._say(f"  every series on {frames} is up to date; new bars follow at their closes")
        elif found.series != self._last or (symbols > _MANY_SYMBOLS and self._looks % _TOLD_AGAIN == 1):
            self._last = found.series
            self._say(f"  series up to date: {found}")
