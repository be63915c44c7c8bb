"""The machine's clock is behind for a while, then steps forward to the true time."""

from benchmarks.chaos.clock_steps import stepping, why_not
from benchmarks.chaos.declaration import Fault

FAULT = Fault(
    name="clock-back",
    does="the clock of every process of `up` but PostgreSQL is 15 to 40 s behind for 20 s",
    heals="bars wait; with the true time they are requested",
    cause=stepping(-1),
    seconds=20.0,
    why_not=why_not,
)
