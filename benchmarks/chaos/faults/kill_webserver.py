"""SIGKILL of the webserver."""

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.killing import killing
from benchmarks.chaos.world import WEBSERVER

FAULT = Fault(
    name="kill-webserver",
    does="SIGKILL of the webserver",
    heals="`up` starts it again",
    cause=killing(WEBSERVER, "the webserver"),
)
