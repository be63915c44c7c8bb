"""The process that delivers alerts as a child of `up`: it runs while alerts have recipients, and delays nothing."""

import sys
from collections.abc import Callable

from ema_assets.config.settings import Settings, without_provider_keys
from ema_assets.model.errors import EmaAssetsError
from ema_assets.runtime.restarts import Restarts
from ema_assets.runtime.supervisor import Child, Program, Supervisor


class AlertProcess:
    """A part of the stack whose end does not end the stack: when it does not stay up, it says so and is restarted."""

    name = "the delivery of alerts"

    def __init__(
        self, supervisor: Supervisor, program: Program, is_wanted: Callable[[], bool], say: Callable[[str], None]
    ) -> None:
        self._supervisor = supervisor
        self._program = program
        self._is_wanted = is_wanted
        self._say = say
        self._child: Child | None = None
        self._restarts = Restarts([self], self._say_of_restart)

    def start(self) -> None:
        """Start the process, or another one in its place."""
        self._child = self._supervisor.spawn(self._program, instead_of=self._child)

    def failure(self) -> str | None:
        """Return how it has ended, or None. An end because there are no recipients any more is not a failure."""
        ended = self._child.exit() if self._child is not None else None
        return str(ended) if ended is not None else None

    def look(self, now: float) -> None:
        """Make sure that it runs when it is wanted. `now` is in seconds of any clock.

        Raises:
            ConfigurationError: when the watchlist cannot be read.
        """
        if not self._is_wanted():
            # It ends by itself.
            return
        has_ended = self._child is None or self._child.exit_code() == 0
        try:
            if has_ended:
                self.start()
            else:
                self._restarts.look(now)
        except EmaAssetsError as error:
            self._say(f"  {error}; alerts wait until it does")
            self._restarts = Restarts([self], self._say_of_restart)

    def _say_of_restart(self, line: str) -> None:
        # The first line is enough: it restarts within seconds, and its log has the rest.
        self._say(line.partition("\n")[0] if "runs again" not in line else line)


def program(settings: Settings, env: dict[str, str]) -> Program:
    """Return its command. Messages may contain what services say, so it gets no keys except those of channels."""
    argv = [sys.executable, "-m", "ema_assets", "alerts", "deliver"]
    return Program(AlertProcess.name, argv, without_provider_keys(env), settings.logs_folder / "alerts.log")
