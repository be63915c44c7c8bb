"""Links from the board into the Dagster UI: partitions, runs, backfills. Nothing is fetched from there."""

from urllib.parse import quote


class DagsterLinks:
    """Addresses of pages of the Dagster UI at `base`; each is None when no UI is known."""

    def __init__(self, base: str | None) -> None:
        self.base = base.rstrip("/") if base else None

    def partition(self, asset: str, symbol: str, timeframe: str) -> str | None:
        """Return the page of one partition, which also offers to materialize it."""
        key = quote(f"{symbol}|{timeframe}", safe="")
        return self._at(f"/assets/{quote(asset, safe='')}?view=partitions&partition={key}")

    def checks(self, asset: str) -> str | None:
        """Return the page of the checks of an asset."""
        return self._at(f"/assets/{quote(asset, safe='')}?view=checks")

    def runs(self) -> str | None:
        """Return the page of all runs, newest first."""
        return self._at("/runs")

    def backfills(self) -> str | None:
        """Return the page of all backfills, newest first."""
        return self._at("/runs?view=backfills")

    def automation(self) -> str | None:
        """Return the page of schedules and sensors with their ticks."""
        return self._at("/automation")

    def _at(self, path: str) -> str | None:
        return f"{self.base}{path}" if self.base else None
