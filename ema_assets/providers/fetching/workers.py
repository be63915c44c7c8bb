"""Runs the calls of one fetch side by side. What a call asks for is its vendor's business."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import TypeVar

from ema_assets.providers.fetching.base import FetchBatch

Job = TypeVar("Job")
_Answers = asyncio.Queue[FetchBatch | BaseException | None]


async def side_by_side(
    jobs: Sequence[Job], run: Callable[[Job], AsyncIterator[FetchBatch]], workers: int
) -> AsyncGenerator[FetchBatch, None]:
    """Yield what `run` yields for each of `jobs`, which are begun in their order, at most `workers` at a time.

    To be closed with `aclose` when it is left early: nothing goes on running then.
    """
    needed = min(len(jobs), workers)
    # Bounded, so that a slow reader holds back the calls instead of collecting their answers in memory.
    answers = _Answers(workers)
    waiting = iter(jobs)
    tasks = [asyncio.create_task(_work(waiting, run, answers)) for _ in range(needed)]
    try:
        running = len(tasks)
        while running:
            item = await answers.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _work(jobs: Iterator[Job], run: Callable[[Job], AsyncIterator[FetchBatch]], answers: _Answers) -> None:
    try:
        for job in jobs:
            async for batch in run(job):
                await answers.put(batch)
        await answers.put(None)
    except Exception as error:  # noqa: BLE001 - a bug must reach the reader, who raises it
        await answers.put(error)
