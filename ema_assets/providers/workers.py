"""The calls of one fetch, side by side. What a call asks for is its vendor's business."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import TypeVar

from ema_assets.providers.base import FetchBatch

Job = TypeVar("Job")
_Found = asyncio.Queue[FetchBatch | BaseException | None]


async def side_by_side(
    jobs: Sequence[Job], run: Callable[[Job], AsyncIterator[FetchBatch]], workers: int
) -> AsyncGenerator[FetchBatch, None]:
    """Yield what `run` yields for each of `jobs`, which are begun in their order, at most `workers` at a time.

    To be closed with `aclose` when it is left early: nothing goes on running then.
    """
    needed = min(len(jobs), workers)
    # Bounded, so that a slow reader holds back the calls instead of collecting their answers in memory.
    found = _Found(workers)
    waiting = iter(jobs)
    tasks = [asyncio.create_task(_work(waiting, run, found)) for _ in range(needed)]
    try:
        running = len(tasks)
        while running:
            item = await found.get()
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


async def _work(jobs: Iterator[Job], run: Callable[[Job], AsyncIterator[FetchBatch]], found: _Found) -> None:
    try:
        for job in jobs:
            async for batch in run(job):
                await found.put(batch)
        await found.put(None)
    except Exception as error:  # noqa: BLE001 - a bug must reach the reader, who raises it
        await found.put(error)
