"""Properties of every signal in `discover()`: a new signal gets these tests without a change here."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.model.schemas import KINDS, UTC_TIME
from ema_assets.signals.declaration import Params, Signal
from ema_assets_tests.conftest import heavy
from ema_assets_tests.signals.harness import (
    PRICES,
    SIGNALS,
    advanced,
    histories,
    inputs_of,
    no_rows,
    variants,
    walks,
    whole,
)

each_signal = pytest.mark.parametrize("signal", [pytest.param(each, id=name) for name, each in SIGNALS.items()])
# These tests use `heavy(2)`, because each signal is drawn again for each of its parameters.
each_variant = pytest.mark.parametrize(
    ("signal", "params"),
    [
        pytest.param(each, params, id=" ".join([name, each.code_version(params)]))
        for name, each in SIGNALS.items()
        for params in variants(each)
    ],
)


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Equal to the bit, including nulls."""
    assert_frame_equal(found, expected, check_exact=True)


def parts_of(inputs: pl.DataFrame, data: st.DataObject) -> list[dict[str, int]]:
    """For each of five increments, the number of bars that each symbol has when it arrives."""
    lengths = dict(inputs.group_by("symbol", maintain_order=True).len().iter_rows())
    cuts = {
        symbol: sorted(data.draw(st.lists(st.integers(0, length), min_size=4, max_size=4)))
        for symbol, length in lengths.items()
    }
    return [{symbol: cuts[symbol][step] for symbol in lengths} for step in range(4)] + [lengths]


def until(inputs: pl.DataFrame, lengths: dict[str, int]) -> pl.DataFrame:
    """The first bars of each symbol, as many as `lengths` gives for it."""
    return inputs.filter(
        pl.col("_position") < pl.col("symbol").replace_strict(lengths, default=0, return_dtype=pl.Int64)
    )


@each_variant
@heavy(2)
@given(bars=histories(), data=st.data())
def test_any_split_into_increments_gives_the_bits_of_one_computation(
    signal: Signal, params: Params, bars: pl.DataFrame, data: st.DataObject
) -> None:
    inputs = inputs_of(signal, bars)
    stored, before = no_rows(signal), dict.fromkeys(bars["symbol"].unique().to_list(), 0)
    for lengths in parts_of(inputs, data):
        starts = {symbol: before[symbol] for symbol, length in lengths.items() if length > before[symbol]}
        stored = advanced(signal, params, until(inputs, lengths), stored, starts)
        before = lengths
    assert_same(stored, whole(signal, params, inputs))


@each_signal
def test_one_bar_at_a_time_gives_the_bits_of_one_computation(signal: Signal) -> None:
    inputs = inputs_of(signal, walks(60, symbols=2))
    stored = no_rows(signal)
    for length in range(1, 61):
        lengths = {"S0": length, "S1": max(length - 5, 0)}
        starts = {"S0": length - 1, **({"S1": length - 6} if length > 5 else {})}
        stored = advanced(signal, signal.defaults, until(inputs, lengths), stored, starts)
    assert_same(stored, whole(signal, signal.defaults, until(inputs, {"S0": 60, "S1": 55})))


@each_variant
@heavy(2)
@given(bars=histories().filter(lambda bars: bars.height > 0), data=st.data())
def test_a_correction_in_the_middle_gives_the_bits_of_a_computation_from_scratch(
    signal: Signal, params: Params, bars: pl.DataFrame, data: st.DataObject
) -> None:
    before = inputs_of(signal, bars)
    row = data.draw(st.integers(0, bars.height - 1))
    factor = data.draw(st.sampled_from([0.5, 0.99, 1.01, 3.0]))
    is_row = pl.int_range(pl.len()) == row
    corrected = bars.with_columns(pl.when(is_row).then(pl.col(*PRICES) * factor).otherwise(pl.col(*PRICES)))
    after = inputs_of(signal, corrected)
    symbol, position = after.row(row, named=True)["symbol"], int(after["_position"][row])
    # The other symbols are not recomputed. They only have to stay as they are.
    found = advanced(signal, params, after, whole(signal, params, before), {symbol: position})
    assert_same(found, whole(signal, params, after))


@each_signal
@given(bars=histories(), data=st.data())
def test_later_bars_change_no_earlier_results(signal: Signal, bars: pl.DataFrame, data: st.DataObject) -> None:
    lengths = parts_of(bars.with_columns(pl.int_range(pl.len()).over("symbol").alias("_position")), data)[2]
    position = pl.int_range(pl.len()).over("symbol")
    kept = position < pl.col("symbol").replace_strict(lengths, default=0, return_dtype=pl.Int64)
    known = whole(signal, signal.defaults, inputs_of(signal, bars.filter(kept)))
    later = whole(signal, signal.defaults, inputs_of(signal, bars))
    assert_same(known, later.filter(kept))


@each_signal
def test_no_row_changes_as_the_history_grows_bar_by_bar(signal: Signal) -> None:
    bars = walks(70, symbols=1)
    later = whole(signal, signal.defaults, inputs_of(signal, bars))
    for length in range(70):
        assert_same(whole(signal, signal.defaults, inputs_of(signal, bars.head(length))), later.head(length))


@each_variant
@heavy(2)
@given(bars=histories())
def test_there_is_one_row_per_bar_with_the_declared_columns_and_finite_numbers(
    signal: Signal, params: Params, bars: pl.DataFrame
) -> None:
    found = whole(signal, params, inputs_of(signal, bars))
    assert found.select("symbol", "ts").rows() == bars.select("symbol", "ts").rows()
    assert dict(found.schema) == {
        "symbol": pl.String(),
        "ts": UTC_TIME,
        **{column.name: KINDS[column.kind] for column in signal.columns},
    }
    for column in found.select(pl.selectors.float()):
        assert column.drop_nulls().is_finite().all(), column.name


@each_signal
@heavy(2)
@given(bars=histories(), data=st.data())
def test_prices_below_zero_give_finite_numbers_or_nulls_and_the_same_bits_in_increments(
    signal: Signal, bars: pl.DataFrame, data: st.DataObject
) -> None:
    """The prices of the other tests minus their median, so that half of them are below zero."""
    prices = PRICES[:-1]
    middle = bars["close"].median()
    assert middle is None or isinstance(middle, float)
    inputs = inputs_of(signal, bars.with_columns(pl.col(prices) - (middle or 0.0)))
    found = whole(signal, signal.defaults, inputs)
    for column in found.select(pl.selectors.float()):
        assert column.drop_nulls().is_finite().all(), column.name
    stored, before = no_rows(signal), dict.fromkeys(bars["symbol"].unique().to_list(), 0)
    for lengths in parts_of(inputs, data):
        starts = {symbol: before[symbol] for symbol, length in lengths.items() if length > before[symbol]}
        stored = advanced(signal, signal.defaults, until(inputs, lengths), stored, starts)
        before = lengths
    assert_same(stored, found)


@each_signal
def test_every_column_has_values_when_the_history_is_long_enough(signal: Signal) -> None:
    bars = walks(400, symbols=1)
    found = whole(signal, signal.defaults, inputs_of(signal, bars))
    assert [name for name in signal.column_names if found[name].null_count() == found.height] == []


@each_variant
def test_no_bars_give_an_empty_frame_with_the_declared_columns(signal: Signal, params: Params) -> None:
    assert_same(whole(signal, params, inputs_of(signal, walks(0, symbols=1))), no_rows(signal))


@each_signal
@given(bars=histories())
def test_a_symbol_does_not_depend_on_the_other_symbols_of_its_batch(signal: Signal, bars: pl.DataFrame) -> None:
    together = whole(signal, signal.defaults, inputs_of(signal, bars))
    for alone in bars.partition_by("symbol"):
        mine = together.filter(symbol=alone["symbol"][0])
        assert_same(whole(signal, signal.defaults, inputs_of(signal, alone)), mine)


@each_signal
def test_default_parameters_leave_the_version_unchanged_and_others_give_distinct_versions(signal: Signal) -> None:
    assert signal.code_version(signal.defaults) == signal.version
    versions = [signal.code_version(params) for params in variants(signal)]
    assert len(set(versions)) == len(versions)


def test_the_version_of_the_emas_contains_a_changed_seed() -> None:
    versions = [SIGNALS["ema_signals"].code_version({"seed": seed}) for seed in ("sma", "first")]
    assert versions == ["1", "1 seed=first"]
