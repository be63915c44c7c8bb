"""`ema-assets maintain` and `migrate`."""

import psycopg2

from ema_assets_tests.cli.conftest import Run
from ema_assets_tests.conftest import Databases


def test_an_empty_database_is_migrated_once(run: Run, databases: Databases) -> None:
    url = databases.make(migrated=False)
    first, second = run("migrate", EMA_DATABASE_URL=url), run("migrate", EMA_DATABASE_URL=url)
    databases.drop(url)
    assert first.stdout.startswith("Applied 0001 ")
    assert second.stdout == "Nothing to do.\n"


def test_maintenance_needs_no_dagster_and_follows_the_days_that_are_set(run: Run, database_url: str) -> None:
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO market.bar_rejected (symbol, timeframe, reason, source, rejected_at)
               SELECT 'AAPL', '5m', 'why', 'who', now() - n * interval '1 day' + interval '1 hour'
               FROM generate_series(1, 100) n"""
        )
    for days, gone in ((None, 10), (50, 40), (50, 0)):
        env = {"EMA_REJECTED_RETENTION_DAYS": str(days)} if days else {}
        shown = run("maintain", EMA_DATABASE_URL=database_url, **env)
        assert shown.exit_code == 0, shown.output
        assert f"Deleted {gone} rejected bars after {days or 90} days;" in shown.stdout
        assert shown.stdout.startswith("Deleted 0 runs with 0 events ")
