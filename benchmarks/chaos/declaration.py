"""What a fault declares, and what came of one. How faults are caused is in `faults`, one module each."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random

from benchmarks.chaos.world import World

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `cause` is entered when it begins and left when it has been taken back.

    It yields the symbols that it does not concern: they must stay fresh while it lasts. Empty for a fault that
    concerns everything. `why_not` says why it cannot be had on this machine; None when it can.
    """

    name: str
    does: str
    heals: str
    cause: Callable[[World, Random], AbstractContextManager[Sequence[str]]]
    seconds: float = 0.0  # how long it lasts, of the machine
    why_not: Callable[[World], str | None] = lambda world: None  # noqa: ARG005 - most can be had everywhere


@dataclass(slots=True)
class Outcome:
    """What came of a fault. `healed_s` is from its end until nothing of the time before is stale."""

    fault: str
    outcome: str
    healed_s: float | None = None
    rows: int = 0
    wrong: list[str] = field(default_factory=list)
