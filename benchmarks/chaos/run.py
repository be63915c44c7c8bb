"""One seed: a market, the faults one after another, and what must hold after each and at the end."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from benchmarks.chaos import clock_steps
from benchmarks.chaos.comparison import Comparison, compare
from benchmarks.chaos.declaration import FAILED, PASSED, SKIPPED, Fault, Outcome
from benchmarks.chaos.starts import Start
from benchmarks.chaos.tmpfs import mounted
from benchmarks.chaos.world import Up, World, environment, lasting, wait_for
from ema_assets.config import watchlist
from ema_assets.model import clock
from ema_assets.model.errors import EmaAssetsError
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.runtime.services import free_port
from ema_assets.sandbox.server import running_sandbox
from ema_assets_tests.timeframes import M5

LOAD_SECONDS, HEAL_SECONDS, SETTLE_SECONDS = 600.0, 300.0, 600.0
# What an untouched series may lag behind, of the machine: a sweep, a run, and a busy processor.
_LAG_SECONDS = 25.0
# No fault begins so shortly before the market slows down, when bars close every five minutes.
_ROOM = timedelta(seconds=30)
# The fast time ends this long after the close of a bar.
_AFTER_CLOSE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one seed is asked to do. For `minutes` the market is fast, from the start of `up`; then faults end."""

    seed: int
    start: Start
    minutes: float
    symbols: int
    speed: float
    sweep_seconds: int
    faults: tuple[Fault, ...]
    folder: Path


def chosen(faults: Sequence[Fault], seed: int, step: int = 5) -> tuple[Fault, ...]:
    """All of `faults`, each seed beginning `step` later in a fixed mixture, so that ten seeds have had them all."""
    mixed = sorted(faults, key=lambda fault: fault.name)
    Random(9).shuffle(mixed)  # noqa: S311 - an order, not a secret
    begin = seed * step % len(mixed)
    return tuple(mixed[begin:] + mixed[:begin])


def watchlist_text(symbols: int, days: int = 3) -> str:
    """Half stocks of New York, half pairs."""
    stocks = [f"S{number:05}" for number in range(symbols // 2)]
    pairs = [f"P{number:05}-USD" for number in range(symbols - len(stocks))]
    return (
        f'[history]\n"5m" = {days}\n"1d" = 30\n'
        f'[[group]]\ncalendar = "XNYS"\nsymbols = {json.dumps(stocks)}\n'
        f'[[group]]\ncalendar = "24/7"\nsymbols = {json.dumps(pairs)}\n'
    )


@contextmanager
def world_of(plan: Plan, text: str) -> Iterator[World]:
    """A market and an `up` in it, at work while the block runs; afterwards its database alone."""
    home = plan.folder / "home"
    home.mkdir(parents=True)
    (home / "watchlist.toml").write_text(text)
    watched = watchlist.load(home / "watchlist.toml")
    fast = timedelta(minutes=plan.minutes * plan.speed)
    until = plan.start.at + fast - fast % M5.duration + _AFTER_CLOSE
    virtual = clock.Clock(plan.start.at, plan.speed, until, datetime.now(UTC))
    os.environ[clock.VARIABLE] = str(virtual)
    names = {fault.name for fault in plan.faults}
    steps = plan.folder / "clock-steps"
    with ExitStack() as stack:
        again = stack.enter_context(EmbeddedServer(plan.folder / "again"))
        tmpfs = stack.enter_context(mounted(home / "postgres")) if "disk-full" in names else None
        sandbox = stack.enter_context(running_sandbox(watched.instruments, plan.seed, clock=clock.now))
        env = environment(home, sandbox, plan.sweep_seconds, virtual)
        preload = clock_steps.variables(steps) if any(name.startswith("clock-") for name in names) else None
        up = Up(home, free_port(), env | (preload or {}))
        world = World(up, sandbox, watched, plan.folder, again, plan.speed)
        world.steps_clock = steps if preload else None
        world.tmpfs = tmpfs
        yield world


def load_history(world: World) -> None:
    """Wait until everything is there, but for what has just closed."""

    def is_loaded() -> bool:
        with suppress(EmaAssetsError):
            return world.stale(clock.now()) <= 4 * len(world.symbols)
        return False

    wait_for(is_loaded, LOAD_SECONDS, "history loaded")
    world.say("history loaded")


def run(plan: Plan) -> dict[str, object]:
    """Everything of one seed; its figures."""
    outcomes: list[Outcome] = []
    with world_of(plan, watchlist_text(plan.symbols)) as world:
        with lasting(world.up):
            world.say(f"up; seed {plan.seed}, {plan.start.name}: {plan.start.about}")
            load_history(world)
            until = fast_until(world)
            for number, fault in enumerate(plan.faults):
                if clock.now() + (_ROOM + timedelta(seconds=fault.seconds)) * plan.speed > until:
                    break
                outcomes.append(after(world, fault, Random(f"{plan.seed} {fault.name}"), f"after_{number}"))  # noqa: S311
            settled_at = settle(world)
        with EmbeddedServer(world.up.home / "postgres"):
            end = at_the_end(world, settled_at)
        return {
            "seed": plan.seed,
            "start": plan.start.name,
            "outcomes": [
                {"fault": o.fault, "outcome": o.outcome, "healed_s": o.healed_s, "rows": o.rows, "wrong": o.wrong}
                for o in outcomes
            ],
            "settled": settled_at is not None,
            "rows": end.rows,
            "different": end.different,
            "failed_again": end.failed_again,
            "seconds": time.monotonic() - world.started,
            "load": sum(world.loads) / len(world.loads),
            "events": world.events,
        }


def after(world: World, fault: Fault, chance: Random, name: str) -> Outcome:
    """Cause a fault, take it back, wait until all is well, and compare."""
    reason = fault.why_not(world)
    if reason is not None:
        world.say(f"{fault.name}: SKIPPED, {reason}")
        return Outcome(fault.name, SKIPPED, wrong=[reason])
    world.say(f"{fault.name}: {fault.does}")
    wrong: list[str] = []
    try:
        with fault.cause(world, chance) as others:
            began, before = clock.now(), world.reached() if others else {}
            time.sleep(fault.seconds)
            if others:
                wrong += _held_back(world, others, before, began)
    except (TimeoutError, SystemExit) as error:
        return _told(world, Outcome(fault.name, FAILED, wrong=[str(error)]))
    moment, ended = clock.now(), time.monotonic()
    while not world.is_well(moment):
        if time.monotonic() - ended > HEAL_SECONDS:
            return _told(world, Outcome(fault.name, FAILED, wrong=[*wrong, f"not well within {HEAL_SECONDS:g} s"]))
        time.sleep(1)
    healed = time.monotonic() - ended
    found = compare(world, moment, name, is_going_on=True)
    wrong += found.different[:20]
    if found.failed_again:
        wrong.append(f"{found.failed_again} series could not be loaded again")
    return _told(world, Outcome(fault.name, FAILED if wrong else PASSED, healed, found.rows, wrong))


def _told(world: World, outcome: Outcome) -> Outcome:
    healed = "" if outcome.healed_s is None else f", well after {outcome.healed_s:.0f} s"
    world.say(f"{outcome.fault}: {outcome.outcome}{healed}, {outcome.rows} rows equal")
    for line in outcome.wrong:
        world.say(f"  {line}")
    return outcome


def _held_back(world: World, others: Sequence[str], before: dict[str, datetime], began: datetime) -> list[str]:
    """Those of `others` of which bars have closed since `began`, and none has been stored."""
    until = int((clock.now() - timedelta(seconds=_LAG_SECONDS * world.speed)).timestamp())
    now, wrong = world.reached(), []
    for instrument in world.watched.instruments:
        if instrument.symbol not in others:
            continue
        closed = world.sandbox.handle.market.bars(instrument, 5, int(began.timestamp()), until, until, 1000)
        if len(closed) and now[instrument.symbol] <= before[instrument.symbol]:
            wrong.append(f"{instrument.symbol} was held back: {len(closed)} bars have closed, none was stored")
    return wrong


def fast_until(world: World) -> datetime:
    """When the market slows down to the pace of the machine."""
    virtual = clock.parse(world.up.env[clock.VARIABLE])
    assert virtual is not None
    assert virtual.until is not None
    return virtual.until


def settle(world: World) -> datetime | None:
    """Wait until the market is slow, nothing is stale and nothing runs: when that was, None if it does not come."""
    until = fast_until(world)
    while clock.now() < until:
        time.sleep(1)
    world.say("the market now runs at the pace of the machine")
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        with suppress(EmaAssetsError, OSError):
            now = clock.now()
            until_close = M5.duration - timedelta(seconds=now.timestamp() % M5.duration.total_seconds())
            # Long enough for everything to be stopped before another bar closes.
            if until_close > timedelta(seconds=60) and not world.unfinished() and world.is_well(now):
                world.say("nothing is stale, nothing runs")
                return now
        time.sleep(2)
    world.say(f"still stale or running: {world.stale(clock.now())} series, {world.unfinished()} runs")
    return None


def at_the_end(world: World, settled_at: datetime | None) -> Comparison:
    """Compare everything that was stored, row by row, with what is computed from nothing."""
    found = compare(world, settled_at or clock.now(), "at_the_end", is_going_on=False)
    world.say(f"at the end {found.rows} rows compared, {len(found.different)} series differ")
    return found
