"""Runs the calls of one fetch concurrently. What a call requests is not known here."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TypeVar

from ema_assets.providers.fetching.base import FetchBatch

Job = TypeVar("Job")
_Answers = asyncio.Queue[FetchBatch | BaseException | None]


async def side_by_side(
    jobs: Sequence[Job], run: Callable[[Job], AsyncGenerator[FetchBatch, None]], workers: int
) -> AsyncGenerator[FetchBatch, None]:
    """Yield what `run` yields for each of `jobs`, which are started in order, at most `workers` at a time.

    A caller that stops early must call `aclose`, which ends all running jobs.
    """
    needed = min(len(jobs), workers)
    # Bounded, so that a slow reader slows down the calls instead of letting answers pile up in memory.
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


async def _work(jobs: Iterator[Job], run: Callable[[Job], AsyncGenerator[FetchBatch, None]], answers: _Answers) -> None:
    try:
        for job in jobs:
            async with aclosing(run(job)) as batches:
                async for batch in batches:
                    await answers.put(batch)
        await answers.put(None)
    except Exception as error:  # noqa: BLE001 - a bug must reach the reader, which raises it
        await answers.put(error)
