"""The pipeline that this project replaces, as one Dagster run per partition: the baseline of `benchmarks.tick`.

Four functions in a row for one symbol on one timeframe: fetch the whole history with an API call of its own, compute
the EMAs, the trend and the trades over all of it, and write every table from scratch, row by row as scripts do.

Run as a process, it executes partitions one after another, each in its own run worker. The job `naive` uses Dagster's
defaults: the multiprocess executor, one process per step. `naive_in_process` has all steps in the worker, which is an
option that one has to know.
"""

import json
import os
import sys
from dataclasses import asdict
from datetime import datetime

import httpx
import polars as pl
import psycopg2
from dagster import (
    DagsterInstance,
    Definitions,
    StaticPartitionsDefinition,
    asset,
    define_asset_job,
    in_process_executor,
)
from psycopg2.extras import execute_batch

# The input of the code location, as JSON: symbols, sandbox, database, start, end.
GIVEN_VARIABLE = "EMA_BENCHMARK_NAIVE"
DEFAULT_JOB, IN_PROCESS_JOB = "naive", "naive_in_process"

_TABLE = "CREATE TABLE IF NOT EXISTS naive.{name} (symbol text, ts timestamptz, {columns}, PRIMARY KEY (symbol, ts))"


def definitions(symbols: list[str], sandbox: str, database: str, start: datetime, end: datetime) -> Definitions:
    partitions = StaticPartitionsDefinition(symbols)

    def rewrite(table: str, columns: str, symbol: str, rows: pl.DataFrame) -> None:
        with psycopg2.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA IF NOT EXISTS naive")
            cursor.execute(_TABLE.format(name=table, columns=columns))
            cursor.execute(f"DELETE FROM naive.{table} WHERE symbol = %s", (symbol,))  # noqa: S608
            marks = ", ".join(["%s"] * (rows.width + 1))
            execute_batch(
                cursor,
                f"INSERT INTO naive.{table} VALUES ({marks})",  # noqa: S608
                [(symbol, *row) for row in rows.iter_rows()],
            )

    def read(table: str, symbol: str) -> pl.DataFrame:
        with psycopg2.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM naive.{table} WHERE symbol = %s ORDER BY ts", (symbol,))  # noqa: S608
            names = [column.name for column in cursor.description or ()]
            return pl.DataFrame(cursor.fetchall(), schema=names, orient="row")

    @asset(partitions_def=partitions)
    def fetch_ohlc(context) -> None:
        symbol, token, bars = context.partition_key, None, []
        while True:
            answer = httpx.get(
                f"{sandbox}/v2/stocks/bars",
                params={
                    "symbols": symbol,
                    "timeframe": "5Min",
                    "start": start.isoformat(),
                    "end": end.isoformat(),
                    "limit": 10_000,
                    **({"page_token": token} if token else {}),
                },
                timeout=60,
            ).json()
            bars += answer["bars"].get(symbol, [])
            token = answer["next_page_token"]
            if token is None:
                break
        rows = pl.DataFrame(
            [(bar["t"], bar["o"], bar["h"], bar["l"], bar["c"], float(bar["v"])) for bar in bars],
            schema=["ts", "o", "h", "l", "c", "v"],
            orient="row",
        )
        rewrite("ohlc", "o float8, h float8, l float8, c float8, v float8", symbol, rows)

    @asset(partitions_def=partitions, deps=[fetch_ohlc])
    def compute_signals(context) -> None:
        bars = read("ohlc", context.partition_key)
        rows = bars.select("ts", "c", *(pl.col("c").ewm_mean(span=n, adjust=False).alias(f"ema_{n}") for n in (9, 30)))
        rewrite("signals", "c float8, ema_9 float8, ema_30 float8", context.partition_key, rows)

    @asset(partitions_def=partitions, deps=[compute_signals])
    def compute_ema_trend(context) -> None:
        signals = read("signals", context.partition_key)
        up = pl.col("ema_9") > pl.col("ema_30")
        rows = signals.select("ts", "c", up.alias("up"), (up != up.shift(1)).fill_null(value=False).alias("crossed"))
        rewrite("trend", "c float8, up boolean, crossed boolean", context.partition_key, rows)

    @asset(partitions_def=partitions, deps=[compute_ema_trend])
    def populate_strategy_9_30_ema(context) -> None:
        trend = read("trend", context.partition_key)
        crossings = trend.filter("crossed").with_columns(exit_price=pl.col("c").shift(-1)).filter("up")
        rewrite(
            "strategy", "c float8, exit_price float8", context.partition_key, crossings.select("ts", "c", "exit_price")
        )

    assets = [fetch_ohlc, compute_signals, compute_ema_trend, populate_strategy_9_30_ema]
    return Definitions(
        assets=assets,
        jobs=[
            define_asset_job(DEFAULT_JOB, assets, partitions_def=partitions),
            define_asset_job(IN_PROCESS_JOB, assets, partitions_def=partitions, executor_def=in_process_executor),
        ],
    )


def location() -> Definitions:
    """The definitions for the input in GIVEN_VARIABLE."""
    given = json.loads(os.environ[GIVEN_VARIABLE])
    start, end = (datetime.fromisoformat(given[name]) for name in ("start", "end"))
    return definitions(given["symbols"], given["sandbox"], given["database"], start, end)


def main() -> None:
    """Run the jobs and symbols of the JSON on the command line; print the cost of each run as JSON."""
    from benchmarks.worker import work

    given = json.loads(sys.argv[1])
    jobs = location()
    with DagsterInstance.get() as instance:
        spent = {
            name: [
                asdict(
                    work(
                        instance, "benchmarks.naive_location", jobs.resolve_job_def(name), {"dagster/partition": symbol}
                    ).spent
                )
                for symbol in symbols
            ]
            for name, symbols in given.items()
        }
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
