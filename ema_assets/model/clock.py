"""The market's time: the machine's time, or a virtual one that all processes share. Nothing here sleeps.

`EMA_CLOCK` gives the market another time than the machine's, for demonstrations out of market hours or fast rehearsals:

    2026-11-20T14:30Z x60                                           from that moment on, 60 times as fast
    2026-11-20T14:30Z x60 until 2026-11-20T21:00Z                   then as fast as the machine's
    2026-11-20T14:30Z x60 until … since 2026-11-24T20:08:04.25Z     the same, started at this instant of the machine

Only the last form means the same to every process; `ema-assets up` adds `since` for the processes that it starts. This
clock decides which bars have closed and when a series is tried again. Records of the work itself use the machine's
time: when a row was committed, when a run ended, how long a wait takes.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from ema_assets.model.errors import ConfigurationError

VARIABLE = "EMA_CLOCK"
LARGEST_SPEED = 3600.0

_FORM = re.compile(
    r"(?P<start>\S+)(?:\s+x(?P<speed>\d+(?:\.\d+)?))?(?:\s+until\s+(?P<until>\S+))?(?:\s+since\s+(?P<since>\S+))?"
)
_ALLOWED = (
    f"a time with its zone and how fast it runs, from 1 to {LARGEST_SPEED:g} times, such as 2026-11-20T14:30Z x60"
)


@dataclass(frozen=True, slots=True)
class Clock:
    """A virtual clock. It shows `start` at the machine's instant `since` and runs `speed` times as fast until `until`.

    `until` is in the market's time; None for no end. `since` is None if no process has started the clock yet.
    """

    start: datetime
    speed: float
    until: datetime | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        parts = [_text(self.start), f"x{self.speed:g}"]
        parts += [f"until {_text(self.until)}"] if self.until else []
        parts += [f"since {_text(self.since)}"] if self.since else []
        return " ".join(parts)

    def at(self, instant: datetime) -> datetime:
        """Return the market's time at an instant of the machine."""
        passed = instant - self._since
        fast = passed if self.until is None else min(passed, (self.until - self.start) / self.speed)
        return self.start + fast * self.speed + (passed - fast)

    def instant_of(self, moment: datetime) -> datetime:
        """Return the machine's instant at which the market's time is `moment`."""
        passed = moment - self.start
        fast = passed if self.until is None else min(passed, self.until - self.start)
        return self._since + fast / self.speed + (passed - fast)

    @property
    def _since(self) -> datetime:
        if self.since is None:
            raise ConfigurationError(
                f"`{VARIABLE}` must say `since` when, or processes disagree about the time; `ema-assets up` adds it: "
                f"{VARIABLE}='{replace(self, since=datetime.now(UTC))}'"
            )
        return self.since


@lru_cache(maxsize=16)
def parse(text: str) -> Clock | None:
    """Parse the value of EMA_CLOCK; return None if it is empty and the market's time is the machine's.

    Raises:
        ConfigurationError: saying what was received and what is allowed.
    """
    if not text.strip():
        return None
    found = _FORM.fullmatch(text.strip())
    clock = _clock(found) if found else None
    if clock is None:
        raise ConfigurationError(f"`{VARIABLE}` must be {_ALLOWED}, received {text!r}")
    return clock


def _clock(found: re.Match[str]) -> Clock | None:
    try:
        start = _moment(found["start"])
        until, since = (_moment(found[name]) if found[name] else None for name in ("until", "since"))
    except ValueError:
        return None
    speed = float(found["speed"] or 1)
    is_one = 1 <= speed <= LARGEST_SPEED and (until is None or start <= until)
    return Clock(start, speed, until, since) if is_one else None


def started(text: str) -> str:
    """Return `text`, a value of EMA_CLOCK, with the machine's present time as `since` if it has none."""
    clock = parse(text)
    return str(clock if clock.since else replace(clock, since=datetime.now(UTC))) if clock else ""


def now(env: Mapping[str, str] = os.environ) -> datetime:
    """Return the market's time, UTC."""
    return at(datetime.now(UTC), env)


def at(instant: datetime, env: Mapping[str, str] = os.environ) -> datetime:
    """Return the market's time at an instant of the machine."""
    clock = parse(env.get(VARIABLE, ""))
    return clock.at(instant) if clock else instant


def instant_of(moment: datetime, env: Mapping[str, str] = os.environ) -> datetime:
    """Return the machine's instant at which the market's time is `moment`."""
    clock = parse(env.get(VARIABLE, ""))
    return clock.instant_of(moment) if clock else moment


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.astimezone(UTC)


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"
