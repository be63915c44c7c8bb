"""Calls and time of one 5m tick within the limit of a provider, on a virtual clock: `python -m benchmarks.budget`.

AlpacaClient runs as in production: it packs the symbols, keeps its budget, retries, and reads the answers. The
network and the clock are simulated: the time of the event loop jumps to the next timer when nothing is ready, each
answer takes 0.3 s of it and has one bar per symbol. The server counts arrivals itself, and the benchmark ends with an
error when more than the limit arrive in any 60 seconds.
"""

import argparse
import asyncio
import json
import selectors
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from ema_assets.model.symbols import Instrument
from ema_assets.providers import alpaca
from ema_assets.providers.fetching.base import BarRequest
from ema_assets.providers.http.budget import RequestBudget
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.vendors.alpaca import AlpacaClient
from ema_assets_tests.timeframes import M5

ANSWER_SECONDS = 0.3
REQUESTS_PER_MINUTE = 200
CLOSED = datetime(2026, 11, 25, 16, 0, tzinfo=UTC)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time."""

    def __init__(self) -> None:
        self._virtual = 0.0
        super().__init__(selectors.DefaultSelector())

    def time(self) -> float:
        """Seconds on the clock of the loop, since it was made."""
        return self._virtual

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._virtual = max(self._virtual, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class Server:
    """Answers in Alpaca's format and records when calls arrive. One call in `refuse_every` gets a bare 429."""

    def __init__(self, loop: asyncio.AbstractEventLoop, refuse_every: int | None) -> None:
        self._loop = loop
        self._refuse_every = refuse_every
        self.arrivals: list[float] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.arrivals.append(self._loop.time())
        # More calls arrive while this one waits.
        number = len(self.arrivals)
        await asyncio.sleep(ANSWER_SECONDS)
        if self._refuse_every is not None and number % self._refuse_every == 0:
            return httpx.Response(429, json={"message": "too many requests"})
        bar = {"t": "2026-11-25T15:55:00Z", "o": 10.0, "h": 11.0, "l": 9.0, "c": 10.5, "v": 100}
        bars = {symbol: [bar] for symbol in request.url.params["symbols"].split(",")}
        return httpx.Response(200, json={"bars": bars, "next_page_token": None})

    def most_in_a_minute(self) -> int:
        """The largest number of arrivals in any 60 seconds."""
        return max(sum(start <= each < start + 60 for each in self.arrivals) for start in self.arrivals)


async def tick(symbols: int, refuse_every: int | None, budget: int) -> dict[str, Any]:
    """Fetch one new bar and the overlap for so many symbols."""
    loop = asyncio.get_running_loop()
    server = Server(loop, refuse_every)
    options = HttpOptions(budget=RequestBudget(budget, clock=loop.time), transport=httpx.MockTransport(server.answer))
    provider = AlpacaClient(alpaca.PROVIDER, alpaca.AlpacaConfig(base_url="http://alpaca.test"), options)
    start = CLOSED - timedelta(minutes=20)
    requests = [BarRequest(Instrument(f"S{n:05}"), M5, start, CLOSED) for n in range(symbols)]
    done = failed = bars = 0
    async for part in provider.fetch(requests):
        done += len(part.completed)
        failed += len(part.failures)
        bars += part.bars.height
    await provider.aclose()
    most = server.most_in_a_minute()
    if most > budget:
        raise SystemExit(f"{most} calls arrived within 60 seconds; the limit is {budget}")
    if done != symbols or bars != symbols:
        raise SystemExit(f"{done} of {symbols} series were answered, with {bars} bars; {failed} failed")
    return {
        "symbols": symbols,
        "requests_per_minute": budget,
        "refused_every": refuse_every,
        "calls": len(server.arrivals),
        "seconds": round(loop.time(), 2),
        "most_in_a_minute": most,
    }


def simulate(symbols: int, refuse_every: int | None = None, budget: int = REQUESTS_PER_MINUTE) -> dict[str, Any]:
    """Run one tick on a clock of its own."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(tick(symbols, refuse_every, budget))
    finally:
        loop.close()


def _line(row: Mapping[str, Any]) -> str:
    refused = f", one call in {row['refused_every']} refused" if row["refused_every"] else ""
    return (
        f"{row['symbols']:>7,} symbols at {row['requests_per_minute']} calls per minute{refused}: "
        f"{row['calls']} calls, {row['seconds']:.1f} s, at most {row['most_in_a_minute']} in 60 s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    given = parser.parse_args()
    rows = [simulate(symbols) for symbols in given.symbols]
    rows += [simulate(max(given.symbols), refuse_every=20), simulate(max(given.symbols), budget=20)]
    print(json.dumps(rows) if given.json else "\n".join(map(_line, rows)))


if __name__ == "__main__":
    main()
