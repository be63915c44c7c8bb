"""Tests of when processes are started and ended, with fake processes and a given time. No process is started."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from ema_assets.defs.standby import pool as pools
from ema_assets.defs.standby.options import Options
from ema_assets.defs.standby.pool import Callbacks, Pool, Unavailable
from ema_assets.defs.standby.process import Location, StandbyProcess
from ema_assets.defs.standby.protocol import Accepted, Canceling, Done, Execute, Failed, Leaving, Load, Ready, ToOwner

HERE = Location("python", "here", "module", None, "origin")


class Fake(StandbyProcess):
    """A fake process, which says only what the test makes it say."""

    made: list["Fake"] = []

    def __init__(self, location: Location, load: Load, heard: Callable[..., None], ended: Callable[..., None]) -> None:
        self.location, self.load, self._heard, self._ended = location, load, heard, ended
        self.run_id = self.leaves = self.failure = self.canceling_since = None
        self.is_tagged = self.is_told = self.is_ready = self.has_worked = self.has_ended = False
        self.since = time.monotonic()
        self.pid = len(Fake.made) + 1
        self.told: list[object] = []
        Fake.made.append(self)

    def tell(self, message: object) -> None:
        self.told.append(message)

    def leave(self, reason: str) -> None:
        self.leaves, self.since = reason, time.monotonic()

    def kill(self) -> None:
        self.end()

    def how_it_ended(self) -> str:
        return self.failure or "it ended by SIGKILL"

    def says(self, *messages: ToOwner) -> None:
        for message in messages:
            self._heard(self, message)

    def end(self) -> None:
        self._ended(self)


class World:
    """A pool of at most three processes, and what it has reported."""

    def __init__(self, **config: Any) -> None:
        self.tagged: list[tuple[str, int]] = []
        self.unstarted: list[tuple[str, str]] = []
        self.over: list[tuple[str, str | None]] = []
        self.while_tagging: Callable[[], object] = nothing
        self.pool = Pool(
            "instance",
            Options.of({"spare_processes": 0, "idle_seconds": 60, **config}),
            3,
            Callbacks(
                self._tag,
                lambda run, why: self.unstarted.append((run, why)),
                lambda run, how: self.over.append((run, how)),
            ),
        )

    def look(self, later: float = 0.0) -> None:
        self.pool.look(time.monotonic() + later)

    def _tag(self, run: str, pid: int) -> None:
        self.while_tagging()
        self.tagged.append((run, pid))


def nothing() -> None: ...


def fail() -> None:
    raise OSError("the database is away")


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "StandbyProcess", Fake)
    # Only the test makes the pool look.
    monkeypatch.setattr(pools, "_LOOK_SECONDS", 600.0)
    monkeypatch.setattr(Fake, "made", [])
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def test_a_run_is_tagged_first_and_then_waits_for_its_process_to_be_ready() -> None:
    world = World()
    world.pool.take("one", HERE)
    (process,) = Fake.made
    assert world.tagged == [("one", 1)]
    assert process.told == []
    process.says(Ready())
    assert process.told == [Execute("one")]
    process.says(Accepted("one"), Done("one"))
    assert world.over == [("one", None)]
    world.pool.take("two", HERE)
    assert process.told == [Execute("one"), Execute("two")]


def test_a_process_that_becomes_ready_while_its_run_is_being_tagged_begins_after_that() -> None:
    world = World()
    early: list[object] = []

    def becomes_ready() -> None:
        Fake.made[0].says(Ready())
        early.extend(Fake.made[0].told)

    world.while_tagging = becomes_ready
    world.pool.take("one", HERE)
    assert (early, Fake.made[0].told) == ([], [Execute("one")])


def test_the_pool_grows_to_its_limit_and_shrinks_when_it_is_idle() -> None:
    world = World(spare_processes=1)
    for run in ("one", "two", "three"):
        world.pool.take(run, HERE)
    with pytest.raises(Unavailable, match="all 3 standby processes are busy"):
        world.pool.take("four", HERE)
    for later in (0, 31):
        world.look(later)
        assert len(Fake.made) == 3  # a spare process counts, too
    for process, run in zip(Fake.made, ("one", "two", "three"), strict=True):
        process.says(Ready(), Accepted(run), Done(run))
    world.look(59)
    assert [process.leaves for process in Fake.made] == [None, None, None]
    world.look(61)
    # The spare process stays.
    assert [process.leaves is None for process in Fake.made] == [False, False, True]
    assert len(world.pool.pids()) == 3
    world.look(29)
    assert len(world.pool.pids()) == 3  # they have half a minute to end
    world.look(61 + 31)
    assert world.pool.pids() == [3]
    assert world.over == [("one", None), ("two", None), ("three", None)]


def test_a_spare_process_is_started_when_a_core_is_free_or_after_a_while() -> None:
    world = World(spare_processes=1)
    for run in ("one", "two"):
        world.pool.take(run, HERE)
        Fake.made[-1].says(Ready())
    world.look()
    assert len(Fake.made) == 2  # both cores have work
    world.look(31)
    assert len(Fake.made) == 3
    world.look(90)
    assert len(Fake.made) == 3  # one spare process is enough
    calm = World(spare_processes=1)
    calm.pool.take("one", HERE)
    calm.look()
    assert len(calm.pool.pids()) == 2
    unused = World(spare_processes=1)
    unused.look()
    assert unused.pool.pids() == []  # no run has come yet, so its code location is not known


def test_a_spare_process_that_is_starting_gets_the_next_run() -> None:
    world = World(spare_processes=1)
    world.pool.take("one", HERE)
    world.look()
    world.pool.take("two", HERE)
    assert world.tagged == [("one", 1), ("two", 2)]
    assert len(Fake.made) == 2


def test_the_process_that_was_busy_last_is_used_first() -> None:
    world = World()
    for run in ("one", "two"):
        world.pool.take(run, HERE)
    for process, run in zip(Fake.made, ("one", "two"), strict=True):
        process.says(Ready(), Accepted(run), Done(run))
    world.pool.take("three", HERE)
    assert world.tagged[-1] == ("three", 2)


def test_the_pause_before_the_next_start_grows_with_each_process_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(spare_processes=1)
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    for number, pause in enumerate((2, 4, 8, 16, 32, 64, 128, 256, 300, 300), start=1):
        world.pool.take(f"run {number}", HERE)
        Fake.made[-1].says(Failed("ImportError: no"))
        Fake.made[-1].end()
        assert world.unstarted[-1] == (f"run {number}", "ImportError: no")
        with pytest.raises(Unavailable, match=rf", {number} in a row, .* in {pause} s: ImportError: no"):
            world.pool.take("another", HERE)
        world.look()
        assert len(Fake.made) == number  # nor is a spare process started
        now += pause
    world.pool.take("last", HERE)
    Fake.made[-1].says(Ready(), Accepted("last"), Done("last"))
    Fake.made[-1].end()
    world.pool.take("after", HERE)
    Fake.made[-1].says(Failed("ImportError: again"))
    Fake.made[-1].end()
    with pytest.raises(Unavailable, match=", 1 in a row, .* in 2 s: ImportError: again"):
        world.pool.take("another", HERE)


@pytest.mark.parametrize(("seconds", "made"), [(10, 2), (11, 3)])
def test_a_spare_process_that_ends_soon_after_it_was_ready_is_not_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch, seconds: int, made: int
) -> None:
    world = World(spare_processes=1)
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    world.pool.take("one", HERE)
    world.look()
    Fake.made[1].says(Ready())
    now += seconds
    Fake.made[1].end()
    world.look()
    assert len(Fake.made) == made
    world.look(2)
    assert len(Fake.made) == 3


def test_a_process_that_the_machine_cannot_start_counts_as_one_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise OSError("too many open files")

    world = World(spare_processes=1)
    monkeypatch.setattr(pools, "StandbyProcess", fails)
    with pytest.raises(Unavailable, match="a standby process could not be started: too many open files"):
        world.pool.take("one", HERE)
    world.look(3)
    with pytest.raises(Unavailable, match="2 in a row, .*: too many open files"):
        world.pool.take("two", HERE)
    assert (world.tagged, world.pool.run_ids()) == ([], [])


def test_a_run_whose_process_refuses_it_goes_to_a_new_process() -> None:
    world = World()
    world.pool.take("one", HERE)
    Fake.made[0].says(Ready(), Accepted("one"), Done("one"))
    world.pool.take("two", HERE)
    Fake.made[0].says(Leaving("watchlist.toml has changed"))
    Fake.made[0].end()
    assert world.tagged[-1] == ("two", 2)
    Fake.made[1].says(Ready())
    assert Fake.made[1].told == [Execute("two")]
    assert world.unstarted == []


def test_a_run_whose_process_loads_outdated_files_goes_to_a_new_process() -> None:
    world = World()
    world.pool.take("one", HERE)
    Fake.made[0].says(Leaving("watchlist.toml has changed while it was loaded"))
    Fake.made[0].end()
    assert world.tagged == [("one", 1), ("one", 2)]
    Fake.made[1].says(Ready())
    assert Fake.made[1].told == [Execute("one")]
    assert world.unstarted == []


def test_a_wrong_configuration_does_not_pause_the_start_of_processes_for_runs() -> None:
    world = World()
    for run, reason in (("one", "WrongConfiguration: no such key"), ("two", "ImportError: no module")):
        world.pool.take(run, HERE)
        Fake.made[-1].says(Failed(reason))
        Fake.made[-1].end()
        assert world.unstarted[-1] == (run, reason)
    with pytest.raises(Unavailable, match="standby processes cannot be started, 2 in a row.*: ImportError: no module"):
        world.pool.take("three", HERE)


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda process: process.says(Leaving("watchlist.toml has changed")), "watchlist.toml has changed"),
        (lambda process: process.end(), "it ended by SIGKILL"),
    ],
)
def test_a_process_that_leaves_or_ends_while_a_run_is_being_tagged_does_not_get_the_run(
    happens: Callable[[Fake], None], why: str
) -> None:
    world = World()
    world.pool.take("one", HERE)
    (process,) = Fake.made
    process.says(Ready(), Accepted("one"), Done("one"))
    world.while_tagging = lambda: happens(process)
    with pytest.raises(Unavailable, match=f"the standby process 1 could not take it: {why}"):
        world.pool.take("two", HERE)
    if not process.has_ended:
        process.end()
    assert process.told == [Execute("one")]
    assert world.over == [("one", None)]
    assert world.unstarted == []


def test_the_process_of_a_run_that_cannot_be_tagged_takes_other_runs() -> None:
    world = World()
    world.while_tagging = fail
    for run in ("one", "two", "three", "four"):
        with pytest.raises(OSError, match="the database is away"):
            world.pool.take(run, HERE)
    (process,) = Fake.made
    process.says(Ready())
    assert process.told == []
    world.while_tagging = nothing
    world.pool.take("five", HERE)
    assert process.told == [Execute("five")]


def test_a_refused_run_that_cannot_be_tagged_again_is_reported() -> None:
    world = World()
    world.pool.take("one", HERE)
    Fake.made[0].says(Ready(), Accepted("one"), Done("one"))
    world.pool.take("two", HERE)
    Fake.made[0].says(Leaving("watchlist.toml has changed"))
    world.while_tagging = fail
    Fake.made[0].end()
    assert world.unstarted == [("two", "the database is away")]


def test_all_processes_leave_when_one_has_noticed_a_change() -> None:
    world = World()
    for run in ("one", "two"):
        world.pool.take(run, HERE)
    for process, run in zip(Fake.made, ("one", "two"), strict=True):
        process.says(Ready(), Accepted(run), Done(run))
    Fake.made[0].says(Leaving("code has changed"))
    assert [process.leaves for process in Fake.made] == ["code has changed"] * 2


def test_processes_of_another_code_location_are_replaced() -> None:
    world = World()
    world.pool.take("one", HERE)
    Fake.made[0].says(Ready(), Accepted("one"), Done("one"))
    world.pool.take("two", Location("python3", "here", "module", None, "origin"))
    assert Fake.made[0].leaves == "it has another code location"
    assert world.tagged == [("one", 1), ("two", 2)]


def test_the_end_of_a_process_that_has_accepted_a_run_is_reported_once() -> None:
    world = World()
    world.pool.take("one", HERE)
    Fake.made[0].says(Ready(), Accepted("one"))
    Fake.made[0].end()
    assert world.over == [("one", "it ended by SIGKILL")]
    assert world.unstarted == []


def test_a_process_is_killed_when_the_cancellation_of_its_run_takes_too_long() -> None:
    world = World()
    world.pool.take("one", HERE)
    Fake.made[0].says(Ready(), Accepted("one"), Canceling("one"))
    world.look(9)
    assert world.over == []
    world.look(11)
    assert world.over == [("one", "it did not end within 10 s when it was canceled, and was killed")]
    assert world.pool._failures == 0


def test_a_process_that_ends_its_canceled_run_in_time_is_not_killed() -> None:
    world = World()
    world.pool.take("one", HERE)
    Fake.made[0].says(Ready(), Accepted("one"), Canceling("one"), Done("one"), Canceling("one"))
    world.pool.take("two", HERE)
    Fake.made[0].says(Accepted("two"))
    world.look(11)
    assert world.over == [("one", None)]


def test_the_pool_continues_after_a_callback_has_failed() -> None:
    world = World()

    def fails(run: str, how: str | None) -> None:
        raise OSError("no database")

    world.pool._tell = Callbacks(lambda *_: None, lambda *_: None, fails)
    world.pool.take("one", HERE)
    Fake.made[0].says(Ready(), Accepted("one"), Done("one"))
    world.pool.take("two", HERE)
    assert Fake.made[0].told == [Execute("one"), Execute("two")]


def test_a_closed_pool_takes_no_runs_and_starts_no_process() -> None:
    world = World(spare_processes=1)
    world.pool.take("one", HERE)
    world.pool.close()
    world.look()
    assert [process.leaves for process in Fake.made] == ["the standby processes are being stopped"]
    with pytest.raises(Unavailable, match="being stopped"):
        world.pool.take("two", HERE)


@pytest.mark.parametrize("name", ["max_processes", "max_runs_per_process"])
def test_an_option_that_is_too_small_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` of the run launcher must be at least 1, received 0"):
        Options.of({name: 0})
