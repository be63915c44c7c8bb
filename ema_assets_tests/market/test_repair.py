"""Tests of bars whose columns contradict each other: which are repaired, flagged or rejected."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.market import repair as product
from ema_assets.market.repair import NO_VOLUME, REPAIRED, repair
from ema_assets.model.schemas import BAR_SCHEMA, PRICES

NAN, INFINITE = float("nan"), float("inf")
SOUND = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 100.0}
AT = datetime(2026, 11, 25, 15, tzinfo=UTC)
SCHEMA = pl.Schema({**BAR_SCHEMA, "allow_negative": pl.Boolean()})


def bar(ts: datetime | None = AT, /, *, allow_negative: bool = False, **values: Any) -> pl.DataFrame:
    row = {"symbol": "AAPL", "timeframe": "5m", "ts": ts, **SOUND, **values, "allow_negative": allow_negative}
    return pl.DataFrame([row], schema=SCHEMA)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"close": None}, product.MISSING_VALUE),
        ({"close": NAN}, product.NOT_FINITE),
        ({"close": INFINITE}, product.NOT_FINITE),
        ({"close": 0.0}, product.NOT_POSITIVE),
        ({"close": -11.0}, product.NOT_POSITIVE),
        # The close is more than 2 % outside the range, and the open is within it: the close is wrong.
        ({"close": 8.5}, product.OUTSIDE_RANGE),
        ({"close": 110.0}, product.OUTSIDE_RANGE),
    ],
)
def test_a_bar_without_a_valid_close_is_rejected_unchanged(values: dict[str, Any], reason: str) -> None:
    bad = bar(**values)
    found = repair(pl.concat([bad, bar(AT + timedelta(minutes=5))]))
    assert found.rejected.drop("reason").equals(bad)
    assert found.rejected["reason"].to_list() == [reason]
    assert found.sound["ts"].to_list() == [AT + timedelta(minutes=5)]


def test_a_bar_without_a_time_is_rejected() -> None:
    assert repair(bar(None)).rejected["reason"].to_list() == [product.MISSING_VALUE]


# The values that were sent, the prices and the volume that are stored, and the text of the repair.
REPAIRS = [
    pytest.param({}, (10.0, 12.0, 9.0, 11.0, 100.0), None, id="sound"),
    pytest.param({"volume": 0.0}, (10.0, 12.0, 9.0, 11.0, 0.0), None, id="nothing traded"),
    pytest.param({"volume": 0.125}, (10.0, 12.0, 9.0, 11.0, 0.125), None, id="a fraction"),
    pytest.param({"volume": 2.0**60}, (10.0, 12.0, 9.0, 11.0, 2.0**60), None, id="more than 2^53"),
    pytest.param({"volume": None}, (10.0, 12.0, 9.0, 11.0, None), None, id="volume unknown"),
    pytest.param({"close": 12.000000000000002}, (10.0, 12.000000000000002, 9.0, 12.000000000000002, 100.0), None,
                 id="one ulp above"),
    pytest.param({"low": 10.000001, "open": 10.0}, (10.0, 12.0, 10.0, 11.0, 100.0), None, id="rounding at the open"),
    pytest.param({"close": 8.97}, (10.0, 12.0, 8.97, 8.97, 100.0), "low 9.0 became 8.97", id="0.3 % below"),
    pytest.param({"close": 12.1}, (10.0, 12.1, 9.0, 12.1, 100.0), "high 12.0 became 12.1", id="0.8 % above"),
    pytest.param({"open": 15.0}, (15.0, 15.0, 9.0, 11.0, 100.0), "high 12.0 became 15.0", id="an open far above"),
    pytest.param({"open": None}, (11.0, 12.0, 9.0, 11.0, 100.0), "open (none) became 11.0", id="no open"),
    pytest.param({"open": -10.0}, (11.0, 12.0, 9.0, 11.0, 100.0), "open -10.0 became 11.0", id="a negative open"),
    pytest.param({"low": 0.0}, (10.0, 12.0, 10.0, 11.0, 100.0), "low 0.0 became 10.0", id="a low of zero"),
    pytest.param({"high": NAN}, (10.0, 11.0, 9.0, 11.0, 100.0), "high NaN became 11.0", id="no high"),
    pytest.param({"open": None, "high": None, "low": None}, (11.0, 11.0, 11.0, 11.0, 100.0),
                 "open (none) became 11.0, high (none) became 11.0, low (none) became 11.0", id="a close alone"),
    pytest.param({"high": 9.0, "low": 12.0}, (10.0, 12.0, 9.0, 11.0, 100.0),
                 "high 9.0 became 12.0, low 12.0 became 9.0", id="high and low swapped"),
    pytest.param({"high": 1.2, "low": 0.9}, (10.0, 11.0, 10.0, 11.0, 100.0),
                 "high 1.2 became 11.0, low 0.9 became 10.0", id="bounds of another scale"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "stored", "told"), REPAIRS)
def test_a_bar_with_a_valid_close_is_kept_whatever_its_other_columns_are(
    values: dict[str, Any], stored: tuple[float, ...], told: str | None
) -> None:
    found = repair(bar(**values))
    assert found.rejected.is_empty()
    assert found.sound.select(*PRICES, "volume").rows() == [stored]
    assert found.sound.select(REPAIRED, NO_VOLUME).rows() == [(told, None)]


@pytest.mark.parametrize("volume", [-1.0, NAN, INFINITE, -INFINITE])
def test_an_invalid_volume_becomes_null_and_is_reported(volume: float) -> None:
    found = repair(bar(volume=volume))
    assert found.sound.select(*PRICES, "volume").rows() == [(10.0, 12.0, 9.0, 11.0, None)]
    assert found.sound[NO_VOLUME].item().startswith("the source sent the volume ")
    assert found.sound[REPAIRED].to_list() == [None]


def test_prices_may_be_zero_or_negative_if_the_instrument_allows_it() -> None:
    spread: dict[str, Any] = {"open": 1.0, "high": 1.0, "low": -37.63, "close": -37.63}
    assert repair(bar(**spread)).rejected["reason"].to_list() == [product.NOT_POSITIVE]
    allowed = repair(bar(allow_negative=True, **spread))
    assert allowed.sound.select(PRICES).rows() == [(1.0, 1.0, -37.63, -37.63)]
    zero = repair(bar(allow_negative=True, open=0.0, high=0.0, low=0.0, close=0.0))
    assert zero.sound.select(*PRICES, REPAIRED).rows() == [(0.0, 0.0, 0.0, 0.0, None)]


prices = st.one_of(
    st.floats(1.0, 100.0), st.floats(width=32), st.none(), st.sampled_from([0.0, -1.0, 1e-300, NAN, INFINITE])
)


@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys((*PRICES, "volume"), prices)), min_size=1, max_size=12),
    st.booleans(),
)
def test_every_bar_is_either_sound_or_rejected_and_keeps_its_close(
    rows: list[dict[str, float | None]], allow_negative: bool
) -> None:
    sent = pl.concat(
        bar(AT + timedelta(minutes=5 * place), allow_negative=allow_negative, **row) for place, row in enumerate(rows)
    )
    found = repair(sent)
    assert found.sound.height + found.rejected.height == sent.height
    for row in found.sound.iter_rows(named=True):
        assert row["low"] <= min(row["open"], row["close"]) <= max(row["open"], row["close"]) <= row["high"]
        assert allow_negative or row["low"] > 0
        assert row["volume"] is None or 0 <= row["volume"] < INFINITE
    closes = dict(sent.select("ts", "close").iter_rows())
    assert all(closes[ts] == close for ts, close in found.sound.select("ts", "close").iter_rows())
    again = repair(found.sound.select(list(SCHEMA)))
    assert again.sound.select(list(SCHEMA)).equals(found.sound.select(list(SCHEMA)))
    assert again.sound.select(REPAIRED, NO_VOLUME).null_count().row(0) == (found.sound.height, found.sound.height)
