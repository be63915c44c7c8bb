"""Tests of messages: a title with counts, one line per alert, and a limited length."""

import pytest

from ema_assets.alerts.messages import MOST_LINES, Told, compose
from ema_assets.model.prices import percent_text
from ema_assets_tests.refresh.exchange import utc

TS = utc("2026-11-26 15:00")


def told(number: int, kind: str = "crossover", symbol: str | None = None, **more: object) -> Told:
    symbol = symbol or f"S{number:03}"
    return Told(number, "mine", kind, "bullish crossover", symbol, "1h", ts=TS, **more)  # type: ignore[arg-type]


def test_one_alert_names_its_series_in_the_title() -> None:
    message = compose([told(1, symbol="AAPL")])
    assert message.title == "crossover: AAPL 1h, bar of 2026-11-26 15:00 UTC"
    assert message.body == "AAPL 1h, bar of 2026-11-26 15:00 UTC: bullish crossover"
    assert not message.is_trouble
    assert compose([Told(1, "mine", "series_failing", "fails", "AAPL", "1h")]).body == "AAPL 1h: fails"
    entry = compose([told(1, "entry", "AAPL", strategy="strategy_9_30_ema")])
    assert entry.body == "AAPL 1h strategy_9_30_ema, bar of 2026-11-26 15:00 UTC: bullish crossover"
    # These alerts were raised before their kind was renamed or removed.
    assert compose([told(1, "gone"), told(2, "gone")]).title == "2 gone"


def test_many_alerts_are_counted_in_the_title_and_only_the_first_have_lines() -> None:
    message = compose([*(told(number) for number in range(499)), told(500, "entry", strategy="strategy_9_30_ema")])
    assert message.title == "499 crossovers, entry"
    lines = message.body.splitlines()
    assert len(lines) == MOST_LINES + 1
    assert lines[0] == "S000 1h, bar of 2026-11-26 15:00 UTC: bullish crossover"
    assert lines[-1] == f"… and {500 - MOST_LINES} more; `ema-assets alerts log` has all"


@pytest.mark.parametrize("room", [10, 60, 130, 400, 10_000])
def test_a_body_fits_the_limit_of_its_service(room: int) -> None:
    message = compose([told(number) for number in range(8)], room=room)
    assert len(message.body) <= room
    if room >= 130:
        shown = [line for line in message.body.splitlines() if line.startswith("S00")]
        more = 8 - len(shown)
        assert (f"… and {more} more" in message.body) == (more > 0)
    assert message.body.startswith("S000 1h, "[: room - 1])
    # A text that fits exactly is not cut off.
    one = told(1).line
    assert (compose([told(1)], room=len(one)).body, compose([told(1)], room=len(one) - 1).body) == (one, f"{one[:-2]}…")


def test_the_same_fact_for_two_subscriptions_is_one_line() -> None:
    twice = [told(1), Told(2, "other", "crossover", "bullish crossover", "S001", "1h", ts=TS)]
    assert compose(twice) == compose(twice[:1])


def test_synthetic_prices_are_marked_in_the_title() -> None:
    assert compose([told(1), told(2, is_synthetic=True)]).title == "[SYNTHETIC prices] 2 crossovers"
    assert compose([told(1)]).title.startswith("crossover: ")


def test_the_title_distinguishes_trouble_from_its_end() -> None:
    began = Told(1, "mine", "provider_shut_out", "sandbox has not answered")
    over = Told(2, "mine", "provider_shut_out", "over after 3 min: sandbox has not answered", is_over=True)
    assert (compose([began]).title, compose([began]).is_trouble) == ("provider shut out", True)
    assert (compose([over]).title, compose([over]).is_trouble) == ("over: provider shut out", False)
    assert compose([began, over]).body.splitlines() == [began.text, over.text]
    assert compose([over, began]).is_trouble


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.004, "0.00 %"), (0.004, "0.00 %"), (-0.0, "0.00 %"), (-0.006, "-0.01 %"), (0.204, "+0.20 %")],
)
def test_a_percentage_that_rounds_to_zero_has_no_minus_sign(value: float, said: str) -> None:
    assert percent_text(value) == said
