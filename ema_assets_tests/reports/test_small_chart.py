"""Tests of the chart on the page of a partition: an image in Markdown that the Dagster UI draws inline."""

import re
import xml.etree.ElementTree as ET
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.reports.small_chart import BARS, MOST_CHARACTERS, small_chart

SVG = "{http://www.w3.org/2000/svg}"


def walk(count: int, seed: int = 0, scale: float = 0.01) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, scale, count)))
    opened = np.concatenate([close[:1], close[:-1]])
    return pl.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * 1.004,
            "low": np.minimum(opened, close) * 0.996,
            "close": close,
        }
    ).with_columns(
        fast=pl.when(pl.int_range(pl.len()) >= 8).then(pl.col("close").ewm_mean(span=9)),
        slow=pl.when(pl.int_range(pl.len()) >= 29).then(pl.col("close").ewm_mean(span=30)),
    )


def paths(text: str) -> dict[str, str]:
    """The path of each colour."""
    head, _, rest = text.partition("](<data:image/svg+xml,")
    assert head.startswith("![")
    assert rest.endswith(">)")
    root = ET.fromstring(unquote(rest.removesuffix(">)")))
    assert root.tag == f"{SVG}svg"
    return {path.attrib["stroke"]: path.attrib["d"] for path in root.iter(f"{SVG}path")}


def test_candles_are_drawn_at_their_prices() -> None:
    bars = pl.DataFrame(
        {"open": [10.0, 30.0], "high": [40.0, 30.0], "low": [10.0, 10.0], "close": [30.0, 20.0], "fast": [None, None]}
    ).with_columns(pl.col("fast").cast(pl.Float64), slow=pl.lit(None, pl.Float64))
    # The chart is 60 units high and shows prices from 10 to 40: two units per point.
    assert paths(small_chart("X 5m", bars)) == {
        "gray": "m2 0v60m4-40v40",
        "teal": "m2 20v40",
        "tomato": "m6 20v20",
    }


def test_a_chart_is_no_wider_than_its_column_on_a_usual_screen() -> None:
    (width,) = re.findall(r"(?<!-)width='(\d+)'", small_chart("AAPL", walk(BARS, scale=0.001)))
    assert 270 < int(width) <= 360


def test_averages_are_drawn_as_lines_from_their_first_value() -> None:
    bars = pl.DataFrame(
        {name: [0.0, 30.0, 60.0] for name in ("open", "high", "low", "close")}
        | {"fast": [None, 30.0, 60.0], "slow": [60.0, None, 0.0]}
    )
    found = paths(small_chart("X 5m", bars))
    assert found["orange"] == "m6 30 4-30"
    assert found["violet"] == "m2 0m8 60"


def test_entries_are_marked_at_the_bottom_and_exits_at_the_top() -> None:
    found = paths(small_chart("X 5m", walk(10), entries=[3], exits=[7]))
    assert found["lime"] == "m14 57v4"
    assert found["red"] == "m30 0v4"
    assert "lime" not in paths(small_chart("X 5m", walk(10)))


def test_bars_that_are_not_drawn_have_no_marks() -> None:
    found = paths(small_chart("X 5m", walk(60), entries=[0, 59], exits=[1]))
    assert found["lime"].count("m") == 1
    assert "red" not in found


@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 0.0001, 0.01, 0.3]),
    marks=st.lists(st.integers(0, 59), max_size=12),
)
def test_a_chart_never_has_more_characters_than_the_ui_draws_inline(
    count: int, seed: int, scale: float, marks: list[int]
) -> None:
    marks = sorted({mark for mark in marks if mark < count})
    text = small_chart("BRK.B 15m", walk(count, seed, scale), marks, marks)
    assert len(text) <= MOST_CHARACTERS
    assert not set('\n\r"') & set(text)
    drawn = paths(text)["gray"].count("m")
    assert min(count, 25) <= drawn <= min(count, BARS)


@pytest.mark.parametrize("price", [-37.63, 0.0, 1e-9, 65_000.0])
def test_a_constant_price_is_drawn_as_a_flat_line(price: float) -> None:
    bars = pl.DataFrame({name: [price] * 3 for name in ("open", "high", "low", "close", "fast", "slow")})
    assert paths(small_chart("X 1d", bars))["teal"] == "m2 0v1m4-1v1m4-1v1"
