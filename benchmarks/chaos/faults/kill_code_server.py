"""SIGKILL of Dagster's code server, which nobody but `up` replaces."""

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.killing import killing
from benchmarks.chaos.world import CODE_SERVER

FAULT = Fault(
    name="kill-code-server",
    does="SIGKILL of the code server",
    heals="`up` has Dagster reload the code location",
    cause=killing(CODE_SERVER, "the code server"),
)
