"""Tests of when Dagster's daemon looks at backfills: soon after something has happened to one."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._daemon import daemon

from ema_assets.defs import backfill_looks
from ema_assets.defs.backfill_looks import News, Pause
from ema_assets.defs.backfills import BACKFILL_TAG


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(autouse=True)
def dagsters_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore Dagster's own loop, which a storage of another test may have replaced."""
    name = backfill_looks._LOOP
    monkeypatch.setattr(daemon, name, backfill_looks._dagsters.get(name, vars(daemon)[name]))


def asked_for(instance: DagsterInstance, name: str) -> PartitionBackfill:
    backfill = PartitionBackfill(
        backfill_id=name,
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=0.0,
        asset_selection=[AssetKey("ohlc")],
    )
    instance.add_backfill(backfill)
    return backfill


def test_a_requested_or_canceled_backfill_and_the_end_of_each_of_its_runs_are_news_once(
    instance: DagsterInstance,
) -> None:
    now = datetime.now(UTC)
    news = News(instance, now)

    def looks() -> list[bool]:
        return [news.is_there(now + timedelta(seconds=more)) for more in (0, 1)]

    assert looks() == [False, False]
    asked = asked_for(instance, "one")
    assert looks() == [True, False]
    instance.add_run(DagsterRun("job", status=DagsterRunStatus.SUCCESS))
    instance.add_run(DagsterRun("job", status=DagsterRunStatus.STARTED, tags={BACKFILL_TAG: "one"}))
    assert looks() == [False, False]
    for status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED):
        instance.add_run(DagsterRun("job", status=status, tags={BACKFILL_TAG: "one"}))
        assert looks() == [True, False]
    instance.update_backfill(asked.with_status(BulkActionStatus.CANCELING))
    assert looks() == [True, False], "its runs are canceled at the next look"
    instance.update_backfill(asked.with_status(BulkActionStatus.CANCELED))
    assert looks() == [True, False]


def test_a_pause_ends_with_news_or_with_the_daemon() -> None:
    over = threading.Event()
    asked: list[None] = []

    def is_news() -> bool:
        asked.append(None)
        return len(asked) > 1

    # Without news, this pause would take a million seconds.
    assert Pause(over, is_news).wait(1e6) is False
    assert len(asked) == 2
    over.set()
    pause = Pause(over, is_news)
    assert (pause.wait(1e6), pause.is_set(), len(asked)) == (True, True, 2)
    over.clear()
    assert Pause(over, lambda: False).wait(0.05) is False


def test_the_daemon_of_dagster_uses_our_pause_between_two_looks(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This test fails when a Dagster upgrade looks at backfills in another way. They would begin 30 s late again."""
    asked: list[float] = []
    news: list[bool] = []

    def wait(pause: Pause, seconds: float) -> bool:
        asked.append(seconds)
        news.append(pause._is_news())
        return False

    monkeypatch.setattr(Pause, "wait", wait)
    assert backfill_looks.install()
    assert backfill_looks.install()
    context: Any = SimpleNamespace(instance=instance)
    over = threading.Event()
    with daemon.BackfillDaemon({}) as backfills:
        steps = backfills.core_loop(context, over)
        while not asked:
            next(steps)
        # An error of the query for news does not end the daemon.
        monkeypatch.setattr(DagsterInstance, "get_backfills_count", None)
        while len(asked) < 2:
            next(steps)
    assert [round(seconds) for seconds in asked] == [30, 30]
    assert news == [False, False]


def test_an_unknown_loop_of_dagster_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(context: Any, event: Any) -> None: ...

    monkeypatch.setattr(daemon, "execute_backfill_iteration_loop", loop)
    assert not backfill_looks.install()
    assert vars(daemon)["execute_backfill_iteration_loop"] is loop
    monkeypatch.setattr(backfill_looks, "_DAEMON", "no.such.module")
    assert not backfill_looks.install()
