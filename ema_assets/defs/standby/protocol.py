"""What a pool and its standby processes say to each other: one line of JSON each, over two pipes. Nothing else.

The end of the first pipe tells a process that its owner has ended. Nothing that is sent appears in a process listing.
"""

from typing import TypeAlias

import msgspec


class Load(msgspec.Struct, tag=True, frozen=True):
    """To the process, as the first message: load this code location.

    `instance` and `origin` are in Dagster's serialization. `works_with` is what the location has stated, as in
    `defs.same_data`.
    """

    instance: str
    origin: str
    location: str | None
    module: str
    working_directory: str | None
    max_runs: int
    max_megabytes: int
    works_with: dict[str, str] = {}


class Execute(msgspec.Struct, tag=True, frozen=True):
    """To the process: execute this run."""

    run_id: str


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Everything is loaded."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """Loading has failed, and the process ends."""

    reason: str


class Accepted(msgspec.Struct, tag=True, frozen=True):
    """The run begins: from now on the process is responsible for reporting its end."""

    run_id: str


class Leaving(msgspec.Struct, tag=True, frozen=True):
    """The process ends without a run because its definitions are outdated. A run that it was given has not begun."""

    reason: str


class Canceling(msgspec.Struct, tag=True, frozen=True):
    """The run's cancellation was requested, and it has been interrupted: it ends soon."""

    run_id: str


class Done(msgspec.Struct, tag=True, frozen=True):
    """The run is over; `leaves` says why the process ends now, None when it waits for the next run."""

    run_id: str
    leaves: str | None = None


ToProcess: TypeAlias = Load | Execute
ToOwner: TypeAlias = Ready | Failed | Accepted | Canceling | Leaving | Done

_to_process: "msgspec.json.Decoder[ToProcess]" = msgspec.json.Decoder(ToProcess)
_to_owner: "msgspec.json.Decoder[ToOwner]" = msgspec.json.Decoder(ToOwner)


def line(message: ToProcess | ToOwner) -> bytes:
    """Return `message` as it is sent."""
    return msgspec.json.encode(message) + b"\n"


def for_process(text: bytes) -> ToProcess:
    """Return the message that the owner has sent."""
    return _to_process.decode(text)


def for_owner(text: bytes) -> ToOwner:
    """Return the message that a process has sent."""
    return _to_owner.decode(text)
