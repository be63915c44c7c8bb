"""The machine's clock is behind for a while, then steps forward to the true time."""

from benchmarks.chaos.clock_steps import stepping, why_not
from benchmarks.chaos.declaration import Fault

FAULT = Fault(
    name="clock-back",
    does="the clock of every process of `up` but PostgreSQL is 20 to 60 s behind for 30 s",
    heals="bars wait; with the true time they are asked for",
    cause=stepping(-1),
    seconds=30.0,
    why_not=why_not,
)
