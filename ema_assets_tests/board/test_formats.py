"""How the board writes numbers and times."""

from datetime import UTC, datetime

from ema_assets.board.formats import price, short, volume


def test_a_price_is_written_as_everywhere_with_a_real_minus() -> None:
    assert [price(each) for each in (1234.5, 1.08432, 9.7e-10, -37.63, None)] == [
        "1,234.50",
        "1.08432",
        "0.00000000097",
        "−37.63",
        "–",
    ]


def test_a_small_volume_is_not_nothing() -> None:
    assert [volume(each) for each in (31113913.4, 100, 80.45, 5, 0.0123, 0.00001234, 0, None)] == [
        "31,113,913",
        "100",
        "80.5",
        "5",
        "0.0123",
        "0.0000123",
        "0",
        "–",
    ]


def test_a_time_of_another_year_has_its_year() -> None:
    moment, now = datetime(2025, 12, 31, 23, 55, tzinfo=UTC), datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert short(moment, now) == "31 Dec 2025 23:55"
    assert short(now, now) == "01 Jan 00:01"
    assert short(None, now) == "–"
