"""The machine's clock is ahead for a while, then steps back to the true time."""

from benchmarks.chaos.clock_steps import stepping, why_not
from benchmarks.chaos.declaration import Fault

FAULT = Fault(
    name="clock-forward",
    does="the clock of every process of `up` but PostgreSQL is 15 to 40 s ahead for 20 s",
    heals="Dagster ticks again once its last tick is past, after as long as the step; then bars are requested again",
    cause=stepping(1),
    seconds=20.0,
    why_not=why_not,
)
