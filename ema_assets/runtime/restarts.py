"""What happens when a part of the stack ends: it is restarted after a growing pause, and given up in the end."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ema_assets.model.errors import EmaAssetsError

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
ATTEMPTS = 8
# After a part has run this long, its next pause is the first one again.
SOUND_SECONDS = 300.0


class Part(Protocol):
    """A part of the stack that can end by itself."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    def start(self) -> None:
        """Start the part, the first time or again, and wait until it is usable.

        Raises:
            EmaAssetsError: when that does not work.
        """

    def failure(self) -> str | None:
        """Return why it has to be restarted; None while all is well."""


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    is_due_at: float | None = None
    ran_from: float = -math.inf


class Restarts:
    """Restarts parts that have ended. Each part needs those before it and waits until they run."""

    def __init__(self, parts: Sequence[Part], say: Callable[[str], None]) -> None:
        self._parts = [(part, _Trouble()) for part in parts]
        self._say = say

    def look(self, now: float) -> bool:
        """Restart parts that have ended, once their pause is over; return True when all run.

        `now`: seconds of any clock.

        Raises:
            EmaAssetsError: when a part has failed too often in a row.
        """
        for part, trouble in self._parts:
            if trouble.is_due_at is None:
                reason = part.failure()
                if reason is None:
                    continue
                self._note(part, trouble, reason, now)
                return False
            if now < trouble.is_due_at:
                return False
            try:
                part.start()
            except EmaAssetsError as error:
                self._note(part, trouble, str(error), now)
                return False
            trouble.is_due_at, trouble.ran_from = None, now
            self._say(f"  {part.name} runs again")
        return True

    @property
    def is_at_work(self) -> bool:
        """Whether some part waits for its restart."""
        return any(trouble.is_due_at is not None for _, trouble in self._parts)

    def _note(self, part: Part, trouble: _Trouble, reason: str, now: float) -> None:
        if trouble.is_due_at is None and now - trouble.ran_from > SOUND_SECONDS:
            trouble.failures = 0
        trouble.failures += 1
        if trouble.failures > ATTEMPTS:
            raise EmaAssetsError(f"{part.name} does not stay up, given up after {ATTEMPTS} new starts: {reason}")
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (trouble.failures - 1), LONGEST_PAUSE_SECONDS)
        trouble.is_due_at = now + pause
        self._say(f"  {reason}\n  {part.name} is started again in {pause:g} s")


class Beside(Protocol):
    """A part that no other part depends on."""

    def look(self, now: float) -> None:
        """Make sure that it runs, if it should. `now` is in seconds of any clock."""


def look_at_each(several: Iterable[Beside], now: float) -> Iterator[EmaAssetsError]:
    """Look at each of `several`; yield the error of one, for example in a file that it reads, and continue."""
    for each in several:
        try:
            each.look(now)
        except EmaAssetsError as error:
            yield error


class Aside:
    """Restarts a part that no other depends on. It can be given up alone, and everything else continues."""

    def __init__(self, part: Part, say: Callable[[str], None]) -> None:
        self._restarts = Restarts([part], say)
        self._say = say
        self._is_given_up = False

    def look(self, now: float) -> None:
        """Do the same as `Restarts.look`, but report a part that is given up instead of raising."""
        if self._is_given_up:
            return
        try:
            self._restarts.look(now)
        except EmaAssetsError as error:
            self._is_given_up = True
            self._say(f"  {error}; everything else goes on")
