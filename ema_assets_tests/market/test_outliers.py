"""Tests of the screening of sound bars: which are rejected, which are flagged, and that portions do not matter."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ema_assets.market.outliers import (
    BAD_TICK,
    CONTEXT_BARS,
    JUMP,
    OFF_SCALE,
    SHIFT_BARS,
    UNCONFIRMED,
    UNIT_ERROR,
    WICK,
    Screened,
    screen_outliers,
)
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets_tests.market.series import START, random_walk

STEP = timedelta(minutes=5)
NOTHING = pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, "close": pl.Float64(), "volume": pl.Float64()})


def at(place: int) -> datetime:
    return START + place * STEP


def bars(closes: Sequence[float], symbol: str = "AAPL", first: int = 0, **values: Any) -> pl.DataFrame:
    """Make bars that open where they close; `values` are factors of the close, applied to all bars."""
    factors = {"open": 1.0, "high": 1.001, "low": 0.999, "close": 1.0, **values}
    return pl.DataFrame(
        [
            {
                "symbol": symbol,
                "timeframe": "5m",
                "ts": at(first + place),
                **{name: close * factor for name, factor in factors.items()},
                "volume": 5.0,
            }
            for place, close in enumerate(closes)
        ],
        schema=BAR_SCHEMA,
    )


def context(closes: Mapping[int, float], symbol: str = "AAPL") -> pl.DataFrame:
    rows = [(symbol, at(place), close, 5.0) for place, close in closes.items()]
    return pl.DataFrame(rows, schema=NOTHING.schema, orient="row")


def places(frame: pl.DataFrame) -> list[int]:
    return [int((ts - START) / STEP) for ts in frame["ts"]]


def screened(frame: pl.DataFrame, stored: pl.DataFrame = NOTHING) -> Screened:
    """Call `screen_outliers` and check that no bar is lost or reported twice and that every frame has its columns."""
    result = screen_outliers(frame, stored)
    assert result.kept.schema == frame.schema
    assert result.kept.equals(result.kept.sort("symbol", "ts"))
    for part in (result.rejected, result.unconfirmed):
        assert part.schema == pl.Schema({**frame.schema, "reason": pl.String()})
    parts = [part.select("symbol", "ts") for part in (result.kept, result.rejected, result.unconfirmed)]
    assert pl.concat(parts).sort("symbol", "ts").equals(frame.select("symbol", "ts").sort("symbol", "ts"))
    assert list(result.flags.columns) == ["symbol", "timeframe", "ts", "reason", "detail"]
    looked_at = pl.concat([result.kept.select("symbol", "ts"), result.after.select("symbol", "ts")])
    assert result.flags.join(looked_at, on=["symbol", "ts"], how="anti").is_empty()
    assert set(result.flags["timeframe"]) <= {"5m"}
    return result


def verdicts(closes: Sequence[float], before: Sequence[float] = (), after: Sequence[float] = ()) -> dict[int, str]:
    """Return the reason per rejected or unconfirmed bar; `before` and `after` are closes of stored bars around them."""
    stored = {place - len(before): close for place, close in enumerate(before)}
    stored |= {len(closes) + place: close for place, close in enumerate(after)}
    found = screened(bars(closes), context(stored))
    wrong = pl.concat([found.rejected, found.unconfirmed])
    return dict(sorted(zip(places(wrong), wrong["reason"], strict=True)))


@pytest.mark.parametrize(
    ("closes", "off"),
    [
        pytest.param([100, 101, 10_050, 101, 100], [2], id="in the middle"),
        pytest.param([100, 101, 1.005, 101, 100], [2], id="pounds among pence"),
        pytest.param([10_000, 10_100, 100, 101, 102, 103], [0, 1], id="at the start, and most are right"),
        pytest.param([100, 101, 102, 103, 10_400, 10_500], [4, 5], id="at the end"),
        pytest.param([100, 101, 102, 103, 1.04], [4], id="the newest one"),
        pytest.param([100, 10_000, 100, 10_000, 100], [1, 3], id="alternating"),
        pytest.param([10_000, 100, 10_000, 100, 100], [0, 2], id="alternating from the first one on"),
        pytest.param([10_000, 100, 10_000, 100], [0, 2], id="as many of each, and the later unit wins"),
        pytest.param([100, 10_000, 100, 10_000], [0, 2], id="the later unit wins also when it is the larger one"),
        pytest.param([100, 10_000], [0], id="one of each"),
        pytest.param([100, 101, 10_200, 10_300, 10_400, 102, 103, 104], [2, 3, 4], id="a stretch"),
        pytest.param([100, 10_000, 70, 71, 72, 73, 70], [1], id="the market falls meanwhile"),
        pytest.param([100, 101, 102, 7_700, 103], [3], id="the market fell before"),
        pytest.param([100, 101, 5_000, 102], [], id="50 times is no unit error but a bad tick"),
        pytest.param([100.0], [], id="a single bar"),
    ],
)
def test_prices_in_the_wrong_unit_are_rejected(closes: list[float], off: list[int]) -> None:
    found = verdicts(closes)
    assert [place for place, reason in found.items() if reason == UNIT_ERROR] == off


@pytest.mark.parametrize(
    ("closes", "before", "after", "off"),
    [
        pytest.param([10_000] * 3, [100, 101], [], [0, 1, 2], id="stored bars win over most bars"),
        pytest.param([10_000] * 4, [100, 101], [], [], id="until enough bars persist on the new level"),
        pytest.param([10_000] * 9, [100, 101], [100], list(range(9)), id="and they do not when a stored one follows"),
        pytest.param([10_000, 10_100, 100], [100], [], [0, 1], id="at the start"),
        pytest.param([101], [100], [], [], id="and the right unit is right"),
        pytest.param([10_000, 10_000], [], [100], [0, 1], id="a stored bar after them tells as well"),
        pytest.param([10_000, 10_000, 100], [], [100], [0, 1], id="that the first ones are off"),
        pytest.param([100, 10_000, 10_000], [], [100], [1, 2], id="that the last ones are off"),
        pytest.param([10_000], [99] * CONTEXT_BARS, [100], [0], id="within a gap"),
    ],
)
def test_stored_bars_decide_which_unit_is_right(
    closes: list[float], before: list[float], after: list[float], off: list[int]
) -> None:
    assert verdicts(closes, before, after) == dict.fromkeys(off, UNIT_ERROR)


@pytest.mark.parametrize(
    "values",
    [{"high": 100.0}, {"low": 0.01}, {"open": 100.0, "high": 100.0}, {"open": 0.01, "low": 0.01}, {"low": 1 / 120}],
)
def test_a_bar_with_prices_in_two_units_is_rejected_without_its_neighbours(values: dict[str, Any]) -> None:
    frame = pl.concat([bars([100, 101]), bars([102], first=2, **values), bars([103, 104], first=3)])
    found = screened(frame)
    assert (places(found.rejected), found.rejected["reason"].to_list()) == ([2], [UNIT_ERROR])
    assert screened(bars([102], first=2, **values)).rejected.height == 1, "also without any neighbour"


def test_a_bar_further_off_than_a_unit_has_its_own_reason() -> None:
    assert verdicts([100, 101, 20_000, 101, 100]) == {2: OFF_SCALE}
    assert verdicts([100, 101, 0.5, 101, 100]) == {2: OFF_SCALE}


def test_a_bar_with_close_and_high_in_another_unit_does_not_affect_the_next_bars() -> None:
    wrong = bars([10_200], first=2, open=0.01, low=0.01)
    found = screened(pl.concat([bars([100, 101]), wrong, bars([103, 104], first=3)]))
    assert places(found.rejected) == [2]


@pytest.mark.parametrize(
    ("closes", "expected"),
    [
        pytest.param([100, 101, 400, 101, 100], {2: BAD_TICK}, id="up"),
        pytest.param([100, 101, 20, 101, 100], {2: BAD_TICK}, id="down"),
        pytest.param([100, 290, 100], {}, id="less than three times is news"),
        pytest.param([100, 400, 401, 402], {}, id="two bars at a new level are a new level"),
        pytest.param([100, 400, 401, 100], {3: UNCONFIRMED}, id="and so are two that come back"),
        pytest.param([100, 400, 200, 201], {}, id="back half the way is no bad tick"),
        pytest.param([100, 4_000, 200, 201], {1: BAD_TICK}, id="far away, neighbours need not agree so well"),
        pytest.param([100, 1_000, 200, 201], {}, id="nearer they do"),
        pytest.param([400, 100, 101, 102], {}, id="the first of all has nothing before it"),
        pytest.param([100, 400, 100, 400, 100], {1: BAD_TICK, 3: BAD_TICK}, id="every other one"),
        pytest.param([100, 101, 400], {2: UNCONFIRMED}, id="the newest one waits"),
        pytest.param([100, 101, 20], {2: UNCONFIRMED}, id="also when it is down"),
        pytest.param([100, 400, 10_000, 101, 102], {1: BAD_TICK, 2: UNIT_ERROR}, id="beside a unit error"),
        pytest.param([100, 101, 400, 10_000], {2: UNCONFIRMED, 3: UNIT_ERROR}, id="a unit error confirms nothing"),
        pytest.param([100, 400, 40_000, 400], {2: UNIT_ERROR}, id="a unit error on a new level"),
    ],
)
def test_a_single_bad_tick_is_rejected_and_a_new_level_is_kept(closes: list[float], expected: dict[int, str]) -> None:
    assert verdicts(closes) == expected


def test_a_new_level_is_kept_and_flagged() -> None:
    found = screened(bars([*random_walk(30, 3, volatility=0.002), 400, 401, 402]))
    assert found.rejected.is_empty()
    assert [(ts, reason) for _, _, ts, reason, _ in found.flags.rows()] == [(at(30), JUMP)]


@pytest.mark.parametrize(
    ("following", "expected"),
    [
        pytest.param([], {0: UNCONFIRMED}, id="nobody knows yet"),
        pytest.param([101], {0: BAD_TICK}, id="refuted"),
        pytest.param([402], {}, id="confirmed"),
        pytest.param([10_000], {0: UNCONFIRMED, 1: UNIT_ERROR}, id="a unit error neither confirms nor refutes"),
    ],
)
def test_the_newest_jump_waits_for_the_next_bar(following: list[float], expected: dict[int, str]) -> None:
    assert verdicts([400, *following], [99, 100]) == expected


def test_a_bar_within_a_gap_is_screened_at_once() -> None:
    assert verdicts([400], [100], [101]) == {0: BAD_TICK}
    assert verdicts([400], [100], [390]) == {}


def shifts_of(closes: Sequence[float], before: Sequence[float] = ()) -> list[tuple[int, float]]:
    """Return the positions at which new levels begin, with the price before over the price after."""
    found = screened(bars(closes), context({place - len(before): close for place, close in enumerate(before)}))
    first = [int((ts - START) / STEP) for ts in found.shifts["first_ts"]]
    return list(zip(first, found.shifts["ratio"].to_list(), strict=True))


@pytest.mark.broad
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.0001, 1 / 78) | st.floats(78, 10_000),
    st.integers(SHIFT_BARS, 40),
    st.integers(SHIFT_BARS, 30),
    st.booleans(),
)
def test_a_level_that_persists_is_a_shift_for_any_factor(
    seed: int, factor: float, old: int, new: int, is_stored: bool
) -> None:
    closes = random_walk(old + new, seed, volatility=0.005)
    after = [close * factor for close in closes[old:]]
    if is_stored:
        assert verdicts(after, closes[:old]) == {}
        found = shifts_of(after, closes[:old])
    else:
        assert verdicts([*closes[:old], *after]) == {}
        found = [(place - old, ratio) for place, ratio in shifts_of([*closes[:old], *after])]
    assert [place for place, _ in found] == [0]
    assert found[0][1] == pytest.approx(1 / factor, rel=0.03)


@given(st.integers(0, 2**32 - 1), st.floats(78, 10_000), st.integers(1, SHIFT_BARS - 1))
def test_fewer_bars_on_another_level_are_rejected_until_they_persist(seed: int, factor: float, new: int) -> None:
    closes = random_walk(20 + new, seed, volatility=0.005)
    found = screened(bars([close * factor for close in closes[20:]]), context(dict(enumerate(closes[:20], start=-20))))
    assert places(found.rejected) == list(range(new))
    assert set(found.rejected["reason"]) <= {UNIT_ERROR, OFF_SCALE}
    assert found.shifts.is_empty()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 100.0]), st.integers(1, 30))
def test_a_spike_that_returns_is_not_a_shift_however_long_it_lasted(seed: int, factor: float, spike: int) -> None:
    closes = random_walk(30 + spike, seed, volatility=0.005)
    bad = [close * factor if 15 <= place < 15 + spike else close for place, close in enumerate(closes)]
    assert list(verdicts(bad, [100.0] * 5)) == list(range(15, 15 + spike))
    assert shifts_of(bad, [100.0] * 5) == []


def test_a_reverse_split_followed_by_a_falling_price_is_a_shift() -> None:
    assert shifts_of([2.51, 1.96, 1.56, 1.43, 1.40], [0.024] * 12) == [(0, 0.024 / 2.51)]


def test_distant_bars_that_do_not_agree_are_not_a_new_level() -> None:
    closes = [40_000.0, 10_000.0, 40_000.0, 10_000.0]
    assert shifts_of(closes, [100.0] * 12) == []
    assert verdicts(closes, [100.0] * 12) == {0: OFF_SCALE, 1: UNIT_ERROR, 2: OFF_SCALE, 3: UNIT_ERROR}


def test_a_bad_tick_within_a_new_level_does_not_hide_it() -> None:
    closes = [100.0] * 10 + [10_000.0] * 8 + [99.0] + [10_000.0] * 8
    assert shifts_of(closes) == [(10, 0.01)]
    assert verdicts(closes) == {18: UNIT_ERROR}


@pytest.mark.parametrize(
    ("volume", "opened", "expected"),
    [
        pytest.param(450.0, 0.72, {}, id="ninety times the volume"),
        pytest.param(50.0, 0.72, {}, id="ten times"),
        pytest.param(45.0, 0.72, {0: UNCONFIRMED}, id="nine times, and a gap at the open"),
        pytest.param(16.0, 9.0, {}, id="three times, and it opened where the bar before ended"),
        pytest.param(14.0, 9.0, {0: UNCONFIRMED}, id="the open alone is how bad closes look"),
    ],
)
def test_a_crash_with_high_volume_is_kept_at_once_and_flagged(
    volume: float, opened: float, expected: dict[int, str]
) -> None:
    stored = context(dict.fromkeys(range(-12, 0), 952.5))
    frame = bars([102.25], open=opened, high=max(opened, 1.2), low=0.53).with_columns(volume=pl.lit(volume))
    found = screened(frame, stored)
    assert dict(zip(places(found.unconfirmed), found.unconfirmed["reason"], strict=True)) == expected
    assert (JUMP in found.flags["reason"]) == (not expected)
    # The next bar, back at the old price, does not turn a confirmed crash into a bad tick.
    both = screened(pl.concat([frame, bars([940.0], first=1)]), stored)
    assert list(both.rejected["reason"]) == ([] if not expected else [BAD_TICK])


def test_volume_confirms_no_jump_when_hardly_any_volumes_are_known() -> None:
    frame = bars([102.25]).with_columns(volume=pl.lit(900.0))
    assert screened(frame, context(dict.fromkeys(range(-4, 0), 952.5))).unconfirmed.height == 1
    silent = context(dict.fromkeys(range(-12, 0), 952.5)).with_columns(volume=pl.lit(0.0))
    assert screened(frame, silent).unconfirmed.height == 1
    unknown = context(dict.fromkeys(range(-12, 0), 952.5)).with_columns(volume=pl.lit(None, pl.Float64))
    assert screened(frame, unknown).unconfirmed.height == 1
    # Volumes of crypto are fractions. An unknown volume does not count as large.
    fractions = context(dict.fromkeys(range(-12, 0), 952.5)).with_columns(volume=pl.lit(0.01))
    assert screened(frame.with_columns(volume=pl.lit(0.2)), fractions).kept.height == 1
    assert screened(frame.with_columns(volume=pl.lit(None, pl.Float64)), fractions).unconfirmed.height == 1


def test_the_usual_volume_is_the_volume_of_the_last_bars() -> None:
    """Older volumes do not count."""
    calm = bars([100.0] * 60).with_columns(volume=pl.when(pl.int_range(60) < 40).then(5.0).otherwise(500.0))
    # Fifty times the old volume, and half of the recent one.
    tick = bars([1_000.0, 100.0], first=60, open=0.5, low=0.4).with_columns(volume=pl.lit(250.0))
    found = screened(pl.concat([calm, tick]))
    assert (places(found.rejected), found.rejected["reason"].to_list()) == ([60], [BAD_TICK])


def test_evidence_of_the_caller_confirms_a_bar() -> None:
    stored = context(dict.fromkeys(range(-12, 0), 952.5))
    frame = bars([102.25])
    assert places(screen_outliers(frame, stored).unconfirmed) == [0]
    assert places(screen_outliers(frame, stored, frame.select("symbol", "ts")).kept) == [0]


def test_evidence_of_the_caller_confirms_no_other_bar() -> None:
    frame = bars([100, 101, 1_000, 101, 102, 1_000, 101])
    found = screen_outliers(frame, NOTHING, frame[2:3].select("symbol", "ts"))
    assert places(found.kept) == [0, 1, 2, 3, 4, 6]
    assert (places(found.rejected), found.rejected["reason"].to_list()) == ([5], [BAD_TICK])


@st.composite
def troubled_history(draw: st.DrawFn) -> list[float]:
    """Draw a walk with lasting jumps, bad ticks and unit errors, together or apart. Its first bars are good."""
    closes = random_walk(draw(st.integers(8, 40)), draw(st.integers(0, 2**32 - 1)), volatility=0.01)
    level = 1.0
    trouble = st.sampled_from(["none"] * 4 + ["tick", "unit", "level"])
    result = closes[:6]
    in_a_row = 0
    for close in closes[6:]:
        kind = draw(trouble)
        # More wrong bars in a row than the overlap has cannot be distinguished from right ones.
        kind = "none" if kind in ("tick", "unit") and in_a_row >= 2 else kind
        # A wrong bar right before a step cannot be recognised, because the bars around it do not agree.
        kind = "none" if kind == "level" and in_a_row else kind
        in_a_row = in_a_row + 1 if kind in ("tick", "unit") else 0
        if kind == "level":
            # A wrong bar right after a step cannot be recognised: nothing has shown yet that the step lasts.
            in_a_row = 2
            level *= draw(st.sampled_from([0.2, 0.5, 1.6, 3.5, 5.0]))
        factors = {"tick": [0.01, 0.1, 0.25, 4.0, 7.0, 30.0, 1000.0], "unit": [0.01, 100.0]}
        result.append(close * level * draw(st.sampled_from(factors.get(kind, [1.0]))))
    return result


@pytest.mark.broad
@given(troubled_history(), st.sets(st.integers(6, 40)), st.integers(4, 6))
@example([100.0] * 6 + [400.0, 100.0, 400.0, 100.0], {7, 8, 9}, 4)
@example([100.0] * 6 + [400.0, 10_000.0, 100.0, 100.0], {7, 8, 9}, 4)
def test_the_same_bars_are_kept_in_whatever_portions_a_history_arrives(
    closes: list[float], cuts: set[int], overlap: int
) -> None:
    """Each portion begins with the last bars of the portion before, like the overlap of a request."""
    whole = screened(bars(closes))
    stored: dict[int, float] = {}
    ends = [*sorted(cut for cut in cuts if cut < len(closes)), len(closes)]
    for start, end in zip([0, *ends], ends, strict=False):
        first = max(start - overlap, 0)
        before = dict(sorted((place, close) for place, close in stored.items() if place < first)[-CONTEXT_BARS:])
        kept = screened(bars(closes[first:end], first=first), context(before)).kept
        stored |= dict(zip(places(kept), kept["close"].to_list(), strict=True))
    assert sorted(stored) == places(whole.kept)


@pytest.mark.broad
@given(st.lists(troubled_history(), min_size=2, max_size=4))
def test_each_symbol_is_screened_independently(histories: list[list[float]]) -> None:
    symbols = [f"S{number}" for number in range(len(histories))]
    frames = [bars(closes, symbol) for symbol, closes in zip(symbols, histories, strict=True)]
    stored = [context({-1: 100.0}, symbol) for symbol in symbols[::2]]
    together = screened(pl.concat(frames), pl.concat(stored))
    for symbol, frame in zip(symbols, frames, strict=True):
        alone = screened(frame, pl.concat(stored).filter(symbol=symbol))
        for part in ("kept", "rejected", "unconfirmed", "flags"):
            mine = getattr(together, part).filter(symbol=symbol)
            assert mine.sort("ts", *mine.columns[3:]).equals(getattr(alone, part).sort("ts", *mine.columns[3:])), part


def test_an_empty_frame_gives_empty_frames() -> None:
    for stored in (NOTHING, context({0: 100.0})):
        found = screened(bars([]), stored)
        assert all(part.is_empty() for part in (found.kept, found.rejected, found.unconfirmed, found.flags))


def test_further_columns_are_kept() -> None:
    frame = bars([100, 400, 101]).with_columns(ts_end=pl.col("ts").dt.offset_by("5m"))
    found = screened(frame)
    assert found.kept.columns == frame.columns
    assert found.rejected["ts_end"].to_list() == [at(2)]


# --- flags ----------------------------------------------------------------------------------------------------------


def flagged(frame: pl.DataFrame, stored: pl.DataFrame = NOTHING) -> dict[int, str]:
    flags = screened(frame, stored).flags
    return dict(zip(places(flags), flags["reason"], strict=True))


@pytest.mark.parametrize(
    ("change", "expected"),
    [(1.0001, {}), (1.09, {}), (1.12, {30: JUMP}), (0.91, {}), (0.88, {30: JUMP})],
)
def test_a_constant_price_is_flagged_for_a_move_of_ten_percent_and_not_for_a_tick(
    change: float, expected: dict[int, str]
) -> None:
    assert flagged(bars([50.0] * 30 + [50.0 * change])) == expected


def test_the_size_of_a_jump_depends_on_the_usual_moves_of_the_series() -> None:
    quiet, wild = (random_walk(60, 5, volatility=each) for each in (0.001, 0.03))
    assert flagged(bars([*quiet, quiet[-1] * 1.2])) == {60: JUMP}
    assert flagged(bars([*wild, wild[-1] * 1.2])) == {}


@pytest.mark.parametrize(("change", "expected"), [(1.4, {}), (1.6, {1: JUMP}), (0.7, {}), (0.6, {1: JUMP})])
def test_only_large_moves_are_flagged_in_a_series_without_history(change: float, expected: dict[int, str]) -> None:
    assert flagged(bars([100, 100 * change])) == expected


def test_stored_bars_define_the_usual_moves() -> None:
    calm = context({place - 10: 100.0 + place % 2 for place in range(10)})
    assert flagged(bars([125.0]), calm) == {0: JUMP}
    assert flagged(bars([125.0])) == {}


def test_the_usual_moves_are_those_of_the_symbol() -> None:
    wild, calm = bars([100.0, 125.0] * 13), bars([*[100.0, 100.1] * 4, 115.0], "MSFT")
    assert screened(pl.concat([wild, calm])).flags.select("symbol", "ts").rows() == [("MSFT", at(8))]


@pytest.mark.parametrize(("level", "expected"), [(400.0, {20: JUMP}), (101.0, {})])
def test_the_stored_bar_after_older_new_bars_is_checked_again_for_a_jump(
    level: float, expected: dict[int, str]
) -> None:
    older = bars([level + place % 2 for place in range(20)])
    result = screened(older, context({20: 100.0}))
    assert result.after.rows() == [("AAPL", at(20), JUMP)]
    assert flagged(older, context({20: 100.0})) == expected
    # No stored bar follows the newest bars.
    assert screened(older, context({-1: 100.0})).after.is_empty()
    two = [(bars([100.0], symbol), context({-1: 100.0}, symbol)) for symbol in ("AAPL", "MSFT")]
    assert screened(*(pl.concat(frames) for frames in zip(*two, strict=True))).after.is_empty()
    within_a_gap = screened(bars([100.0]), context({-2: 100.0, -1: 100.0, 1: 100.0}))
    assert within_a_gap.after.rows() == [("AAPL", at(1), JUMP)]


def test_the_first_jump_of_a_history_is_compared_with_the_moves_that_follow() -> None:
    assert flagged(bars([100, 125, *(125 + place % 2 for place in range(20))])) == {1: JUMP}


@pytest.mark.parametrize("values", [{"high": 1.5}, {"low": 0.6}])
def test_a_long_wick_is_flagged(values: dict[str, Any]) -> None:
    calm = bars(random_walk(30, 1, volatility=0.001))
    frame = pl.concat([calm, bars([calm["close"][-1]], first=30, **values), bars([calm["close"][-1]], first=31)])
    assert flagged(frame) == {30: WICK}


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1 / 7, "like a split of 7:1 not adjusted for"),
        (0.5, "like a split of 2:1 not adjusted for"),
        (2 / 3, "like a split of 3:2 not adjusted for"),
        (10.0, "like a split of 1:10 not adjusted for"),
        (1 / 1.25, None),
        (0.28, None),
    ],
)
def test_a_flag_names_the_split_that_a_jump_resembles(ratio: float, words: str | None) -> None:
    calm = random_walk(30, 1, price=645.57, volatility=0.001)
    level = calm[-1] * ratio
    flags = screened(bars([*calm, level, level * 1.001])).flags
    assert flags["ts"].to_list() == [at(30)]
    detail = flags["detail"].item()
    assert detail.startswith("close ")
    assert "after 6" in detail
    assert detail.endswith(words) if words else "split" not in detail


def test_a_flag_shows_rounded_prices() -> None:
    assert screened(bars([0.1455] * 8 + [0.2, 0.2])).flags["detail"].item() == "close 0.2 after 0.1455"


def test_a_rejected_bar_and_its_neighbours_are_not_flagged() -> None:
    assert flagged(bars([*random_walk(30, 2, volatility=0.001), 4_000, 100, 20, 100])) == {}


@pytest.mark.parametrize(
    ("opened", "closed", "words"),
    [
        (50.5, 55.56, "like a split of 2:1 not adjusted for"),  # AAPL on 2000-06-21, after 101
        (28.19, 25.81, "like a split of 4:1 not adjusted for"),
        (90.0, 50.5, "like a split of 2:1 not adjusted for"),
        (60.0, 62.0, None),
    ],
)
def test_a_flag_names_the_split_at_the_open_of_a_day_that_moved(
    opened: float, closed: float, words: str | None
) -> None:
    calm = [101.0 + 0.1 * (place % 2) for place in range(30)] + [101.0]
    first = bars(
        [closed], first=31, open=opened / closed, high=max(opened / closed, 1.001), low=min(opened / closed, 0.999)
    )
    flags = screened(pl.concat([bars(calm), first, bars([closed], first=32)])).flags
    assert flags["ts"].to_list() == [at(31)]
    detail = flags["detail"].item()
    assert detail.endswith(words) if words else "split" not in detail


@pytest.mark.parametrize("closes", [[100, 101, 2, 200], [100, 101, 5_050, 51]], ids=["down", "up"])
def test_the_further_away_a_bar_is_the_less_its_neighbours_need_to_agree(closes: list[float]) -> None:
    assert verdicts(closes)[2] == BAD_TICK
