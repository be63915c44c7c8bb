"""A custom signal is refused if its values depend on other symbols, later bars or the cut; sound ones never are."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.model import own_modules
from ema_assets.model.errors import SignalError, UnsoundSignal
from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.own_compute import checked
from ema_assets_tests.conftest import heavy, mostly_broad
from ema_assets_tests.signals.harness import SIGNALS, advanced, histories, inputs_of, no_rows, variants, walks, whole

CLOSE = pl.col("close")
BARS = walks(300, symbols=3)


def signal(compute: Callable[..., pl.DataFrame], before: int = 0, kind: str = "float8", **more: Any) -> Signal:
    return Signal(
        name="mine",
        description="One of my own",
        version="1",
        reads={"ohlc": ("close",)},
        columns=(Column("mine", kind, "A value"), *more.pop("columns", ())),
        compute=compute,
        bars_before=lambda _: before,
        **more,
    )


def of(expression: pl.Expr, before: int = 0, kind: str = "float8") -> Signal:
    return signal(lambda bars, carried, params: bars.select("symbol", "ts", mine=expression), before, kind)


def computed(declared: Signal, bars: pl.DataFrame = BARS) -> pl.DataFrame:
    mine = checked(declared, "/home/me/mine.py")
    return whole(mine, mine.defaults, inputs_of(mine, bars))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        pytest.param(of(CLOSE.shift(1), 1), "each symbol by itself", id="the bar before of any symbol"),
        pytest.param(of(CLOSE.rolling_mean(20), 19), "each symbol by itself", id="a window over any symbol"),
        pytest.param(of(CLOSE - CLOSE.mean()), "each symbol by itself", id="the mean of all"),
        pytest.param(
            of((CLOSE.max() <= CLOSE).over("ts"), 0, "boolean"), "each symbol by itself", id="the largest of all"
        ),
        pytest.param(of(CLOSE.shift(-1).over("symbol")), "must not look ahead", id="the bar behind"),
        pytest.param(of(CLOSE - CLOSE.mean().over("symbol")), "must not look ahead", id="the mean of all bars"),
        pytest.param(of(CLOSE.shift(1).over("symbol")), "bars_before`, here 0", id="no bar before"),
        pytest.param(of(CLOSE.rolling_mean(20).over("symbol"), 18), "bars_before`, here 18", id="one bar too few"),
        pytest.param(of(CLOSE.cum_sum().over("symbol"), 5), "however a history is cut", id="a sum of all bars"),
        pytest.param(of(CLOSE.ewm_mean(span=50).over("symbol"), 50), "however a history is cut", id="an average"),
        pytest.param(of(CLOSE.shift(1).over("symbol") < CLOSE, 0, "boolean"), "however a history is cut", id="a flag"),
        pytest.param(of(pl.int_range(pl.len()).over("symbol"), 0, "int8"), "however a history is cut", id="a count"),
    ],
)
def test_a_signal_that_depends_on_other_symbols_later_bars_or_the_cut_is_refused(declared: Signal, said: str) -> None:
    with pytest.raises(UnsoundSignal, match=said) as caught:
        computed(declared)
    assert str(caught.value).startswith("signal `mine` in /home/me/mine.py, line ")
    assert "but `mine` of S" in str(caught.value)


@pytest.mark.parametrize(
    "declared",
    [
        pytest.param(of(CLOSE.shift(1).over("symbol"), 1), id="the bar before"),
        pytest.param(of(CLOSE.rolling_mean(20).over("symbol"), 19), id="a window"),
        pytest.param(of(CLOSE.rolling_std(20).over("symbol"), 19), id="running squares"),
        pytest.param(of(CLOSE.rolling_max(50, min_samples=1).over("symbol"), 49), id="of the docs"),
        pytest.param(of(CLOSE.ewm_mean(span=9).over("symbol"), 120), id="an average that has forgotten"),
        pytest.param(of(CLOSE.rolling_mean(5).over("symbol") < CLOSE, 4, "boolean"), id="a flag"),
        pytest.param(of(pl.when(CLOSE > 100).then(float("nan")).otherwise(CLOSE)), id="NaN"),
        pytest.param(of(pl.lit(None)), id="never a value"),
        pytest.param(of(CLOSE.round().cast(pl.Int32), 0, "int8"), id="another width"),
    ],
)
@pytest.mark.parametrize("bars", [1, 2, 7, 60, 300])
@pytest.mark.parametrize("symbols", [1, 3])
def test_a_sound_signal_is_not_refused(declared: Signal, bars: int, symbols: int) -> None:
    assert computed(declared, walks(bars, symbols)).height == bars * symbols


def test_a_rank_among_symbols_is_refused_even_when_the_last_symbol_always_ranks_lowest() -> None:
    apart = BARS.with_columns(CLOSE - 1000 * pl.col("symbol").str.slice(1).cast(pl.Int64))
    with pytest.raises(UnsoundSignal, match="each symbol by itself, but `mine` of S0 at"):
        computed(of(CLOSE.rank().over("ts")), apart)


def turning_points(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    """A zigzag: the highs and lows between moves of a fifth, each marked at its bar once the next move has begun."""
    found: list[float | None] = []
    for _, one in bars.group_by("symbol", maintain_order=True):
        closes, marks, extreme, way = one["close"].to_list(), [None] * one.height, 0, 1
        for row, close in enumerate(closes):
            if way * (close - closes[extreme]) >= 0:
                extreme = row
            elif way * (closes[extreme] / close - 1) > 0.2:
                marks[extreme], extreme, way = closes[extreme], row, -way
        found += marks
    return bars.select("symbol", "ts", mine=pl.Series(found, dtype=pl.Float64()))


@pytest.mark.parametrize("symbols", [1, 3, 20])
def test_a_signal_that_marks_few_bars_afterwards_is_refused(symbols: int) -> None:
    bars = walks(3000, symbols)
    assert turning_points(bars, bars, {})["mine"].is_not_null().mean() < 0.01  # type: ignore[operator]
    with pytest.raises(UnsoundSignal, match="must not look ahead, but `mine` of S"):
        computed(signal(turning_points, before=500), bars)


def test_a_rank_among_symbols_that_begins_late_is_no_look_ahead() -> None:
    late = pl.int_range(pl.len()).over("symbol") >= 1200
    mine = of(pl.when(late).then(CLOSE.rank().over("ts")))
    with pytest.raises(UnsoundSignal, match="each symbol by itself, but `mine` of S"):
        computed(mine, walks(3000, 20))


def divides(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    return bars.select("symbol", "ts", mine=pl.lit(float(len(params) / 0)))


def ends_the_process(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    raise SystemExit(1)


def never_ends(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    while True:
        with suppress(Exception):
            sum(range(1000))


def waits_for_each_bar(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    def slow(close: float) -> float:
        time.sleep(0.05)
        return close

    return bars.select("symbol", "ts", mine=CLOSE.map_elements(slow, return_dtype=pl.Float64))


@pytest.mark.parametrize("compute", mostly_broad([never_ends, waits_for_each_bar]))
def test_a_compute_that_never_ends_is_stopped_and_refused_as_unsound(
    compute: Callable[..., pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_modules, "COMPUTE_SECONDS", 0.2)
    mine = checked(signal(compute), __file__)
    with pytest.raises(UnsoundSignal) as caught:
        whole(mine, mine.defaults, inputs_of(mine, BARS))
    said = str(caught.value)
    assert said.startswith(f"signal `mine` in {__file__}: line ")
    assert said.endswith("is not done with 900 bars after 1 seconds; is there a loop without an end?")


def test_an_exception_in_compute_is_reported_with_signal_file_and_line() -> None:
    for compute, said in ((divides, "ZeroDivisionError: division by zero"), (ends_the_process, "SystemExit: 1")):
        mine = checked(signal(compute), __file__)
        with pytest.raises(SignalError) as caught:
            whole(mine, mine.defaults, inputs_of(mine, BARS))
        assert str(caught.value) == f"signal `mine` in {__file__}: line {compute.__code__.co_firstlineno + 1}: {said}"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        pytest.param(
            signal(lambda bars, carried, params: None),  # type: ignore[arg-type, return-value]
            "a polars frame, received NoneType",
            id="nothing",
        ),
        pytest.param(
            signal(lambda bars, carried, params: bars.lazy()), "a polars frame, received LazyFrame", id="a query"
        ),
        pytest.param(
            signal(lambda bars, carried, params: bars.select("symbol", "ts", mine="close")[1:]),
            "one row per bar, received fewer rows than bars",
            id="a bar left out",
        ),
        pytest.param(
            signal(lambda bars, carried, params: bars.select("symbol", "ts", mine="close").sort("ts")),
            "the bars in the order in which it received them, but their `symbol` is in another order",
            id="another order",
        ),
        pytest.param(
            signal(lambda bars, carried, params: bars.select("symbol", pl.col("ts").shift(1), mine="close")),
            "the bars as it received them, but their `ts` has other values",
            id="another time",
        ),
        pytest.param(
            signal(lambda bars, carried, params: bars.select("symbol", "ts", my="close")),
            "a column `mine`, received symbol, ts, my",
            id="another name",
        ),
        pytest.param(
            signal(lambda bars, carried, params: bars.select("symbol", mine="close")),
            "a column `ts`, received symbol, mine",
            id="no times",
        ),
        pytest.param(
            signal(lambda bars, carried, params: pl.concat([bars, bars]).select("symbol", "ts", mine="close")),
            "one row per bar, received more rows than bars",
            id="every bar twice",
        ),
        pytest.param(
            of(CLOSE / (CLOSE - CLOSE)),
            "a finite number or null in `mine`, received infinity; is something divided by 0?",
            id="infinity",
        ),
        pytest.param(
            signal(
                lambda bars, carried, params: bars.select("symbol", "ts", mine="close", said=pl.lit("a\0b")),
                columns=(Column("said", "text", "What"),),
            ),
            "text without a NUL character in `said`: PostgreSQL cannot store one",
            id="a NUL character",
        ),
        pytest.param(of(pl.lit(1)), "`mine` as Float64 of polars, received Int32", id="another kind"),
        pytest.param(
            signal(lambda bars, carried, params: bars.select("symbol", ts=pl.lit(None), mine="close")),
            "`ts` as Datetime(time_unit='us', time_zone='UTC') of polars, received Null",
            id="times that are null",
        ),
        pytest.param(
            signal(
                lambda bars, carried, params: bars.select("symbol", "ts", mine="close", side=pl.lit("sell")),
                columns=(Column("side", "text", "Which", choices=("long", "short")),),
            ),
            "long, short or null in `side`, received 'sell'",
            id="no choice",
        ),
        pytest.param(
            signal(
                lambda bars, carried, params: bars.select("symbol", "ts", mine="close", sure=pl.lit(float("nan"))),
                columns=(Column("sure", "float8", "Always", is_nullable=False),),
            ),
            "a value of `sure` for each bar, as its column declares; received null",
            id="null where none may be",
        ),
    ],
)
def test_an_invalid_result_of_compute_is_reported_with_signal_and_file(declared: Signal, said: str) -> None:
    with pytest.raises(SignalError) as caught:
        computed(declared)
    message = str(caught.value)
    assert message.startswith("signal `mine` in /home/me/mine.py, line ")
    assert f": `compute` must return {said}" in message


def test_a_column_that_the_signal_does_not_read_is_refused_with_the_columns_that_it_reads() -> None:
    with pytest.raises(SignalError) as caught:
        computed(of(pl.col("high")))
    assert str(caught.value).startswith(
        'signal `mine` in /home/me/mine.py: ColumnNotFoundError: unable to find column "high"'
    )
    assert str(caught.value).endswith("; `bars` has the columns in `reads` of the signal, here close of ohlc")


@pytest.mark.parametrize("symbols", [1, 3])
def test_a_signal_that_returns_other_values_for_the_same_bars_is_told_so(symbols: int) -> None:
    calls = count()
    declared = signal(lambda bars, carried, params: bars.select("symbol", "ts", mine=CLOSE + next(calls)))
    said = "must use neither random numbers nor a clock, but `mine` of S0 at .* changes with each call"
    with pytest.raises(UnsoundSignal, match=said):
        computed(declared, walks(300, symbols=symbols))


def test_a_column_of_nulls_gets_the_declared_kind() -> None:
    assert computed(of(pl.lit(None), kind="int8"))["mine"].dtype == pl.Int64


def test_integers_of_another_width_are_converted_to_the_declared_kind() -> None:
    assert computed(of(CLOSE.rank().over("symbol").cast(pl.UInt32) * 0, kind="int8"))["mine"].dtype == pl.Int64


def test_a_compute_may_change_what_it_gets_in_place() -> None:
    def compute(bars: pl.DataFrame, _: pl.DataFrame, params: dict[str, int]) -> pl.DataFrame:
        factor = params.pop("factor")
        bars.insert_column(0, (bars["close"] * factor).alias("mine"))
        return bars.select("symbol", "ts", "mine")

    declared = signal(compute, params={"factor": Param(2, "What the close is multiplied by")})
    assert computed(declared)["mine"].to_list() == (inputs_of(declared, BARS)["close"] * 2).to_list()


def test_a_computation_without_bars_is_not_refused() -> None:
    assert computed(of(CLOSE.shift(1)), BARS.clear()).is_empty()


def test_a_state_that_differs_from_the_carried_column_is_refused() -> None:
    """The computation continues from the stored column, which is not the sum that it needs."""

    def summed(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
        known = bars.join(carried.select("symbol", _sum="mine"), on="symbol", how="left", maintain_order="left")
        total = CLOSE.cum_sum().over("symbol") + pl.col("_sum").fill_null(0.0)
        return known.select("symbol", "ts", mine=total * params.get("factor", 1.0))

    assert computed(signal(summed, carries=("mine",))).height == BARS.height
    with pytest.raises(UnsoundSignal, match="however a history is cut"):
        computed(signal(lambda bars, carried, params: summed(bars, carried, {"factor": 2.0}), carries=("mine",)))


@pytest.mark.broad
@pytest.mark.parametrize(
    ("mine", "params"),
    [
        pytest.param(checked(each, "mine.py"), params, id=" ".join([name, each.code_version(params)]))
        for name, each in SIGNALS.items()
        for params in variants(each)
    ],
)
@heavy(2)
@given(bars=histories(), data=st.data())
def test_no_signal_of_the_package_is_refused_in_one_computation_or_in_increments(
    mine: Signal, params: Params, bars: pl.DataFrame, data: st.DataObject
) -> None:
    inputs = inputs_of(mine, bars)
    all_rows = whole(mine, params, inputs)
    assert all_rows.height == bars.height
    lengths = dict(inputs.group_by("symbol", maintain_order=True).len().iter_rows())
    starts = {symbol: data.draw(st.integers(0, max(length - 1, 0))) for symbol, length in lengths.items()}
    assert advanced(mine, params, inputs, all_rows if bars.height else no_rows(mine), starts).equals(all_rows)


def test_a_signal_that_ignores_symbols_is_refused_in_increments_too() -> None:
    mine = checked(of(CLOSE.rolling_mean(20), 5), "mine.py")
    rows = replace(mine, compute=mine.compute.__wrapped__)  # type: ignore[attr-defined]
    inputs = inputs_of(mine, BARS)
    stored = whole(rows, {}, inputs)
    with pytest.raises(UnsoundSignal, match="each symbol by itself"):
        advanced(mine, {}, inputs, stored, dict.fromkeys(("S0", "S1", "S2"), 290))
