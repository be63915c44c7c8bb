"""Tests of the tables `[calendar.CODE]` of the watchlist: how they are read, and how mistakes are reported."""

from datetime import date, time

import pytest

from ema_assets.config import watchlist
from ema_assets.model.errors import WatchlistError
from ema_assets.model.special_days import SpecialDays

GROUP = '[[group]]\ncalendar = "XBOM"\nsymbols = ["TCS.NS"]\n[[group]]\nhours = "extended"\nsymbols = ["AAPL"]\n'


def parsed(table: str, code: str = "XBOM") -> dict[str, SpecialDays]:
    return dict(watchlist.parse(f"{GROUP}[calendar.{code}]\n{table}").special_days)


def test_a_watchlist_without_such_tables_has_no_special_days() -> None:
    assert watchlist.parse(GROUP).special_days == {}


@pytest.mark.parametrize(
    "table",
    [
        'extra = [2026-02-01, { day = 2025-10-21, open = "13:45", close = "14:45" }]\nclosed = [2026-03-03]',
        'extra = ["2026-02-01", { day = "2025-10-21", open = 13:45:00, close = 14:45:00 }]\nclosed = ["2026-03-03"]',
    ],
)
def test_days_and_hours_may_be_dates_and_times_or_text(table: str) -> None:
    assert parsed(table) == {
        "XBOM": SpecialDays(
            {date(2026, 2, 1): None, date(2025, 10, 21): (time(13, 45), time(14, 45))}, frozenset({date(2026, 3, 3)})
        )
    }


def test_a_calendar_with_extended_hours_is_named_by_its_exchange() -> None:
    assert parsed("closed = [2026-03-03]", "XNYS") == {"XNYS": SpecialDays({}, frozenset({date(2026, 3, 3)}))}


@pytest.mark.parametrize(
    ("table", "code", "sentence"),
    [
        ("", "XBOMB", "no group has the calendar 'XBOMB', in use are XBOM, XNYS; did you mean `XBOM`?"),
        ("open = []", "XBOM", "calendar XBOM: unknown key `open`, allowed are extra, closed"),
        ("extra = 2026-02-01", "XBOM", "`extra` must be a list of days such as [2026-02-01], received"),
        ("closed = ['1 May']", "XBOM", "closed: a day must be written 2026-02-01, received '1 May'"),
        ("closed = [2026-02-01T09:00:00]", "XBOM", "closed: a day must be written 2026-02-01, received"),
        ("extra = [{ day = 2026-02-01, open = '9:15' }]", "XBOM", "needs day, open and close, such as `extra = ["),
        (
            "extra = [{ day = 2026-02-01, open = 'x', close = '10:00' }]",
            "XBOM",
            "`open` must be a time at the exchange",
        ),
        (
            "extra = [{ day = 2026-02-01, open = '09:15', close = '10:00Z' }]",
            "XBOM",
            "`close` must be a time at the exchange such as \"18:00\", received '10:00Z'",
        ),
        (
            "extra = [{ day = 2026-02-01, open = '11:00', close = '10:00' }]",
            "XBOM",
            "`open` must be before `close`, received 11:00:00 and 10:00:00",
        ),
        ("extra = [2026-02-01]\nclosed = [2026-02-01]", "XBOM", "2026-02-01 is both in `extra` and in `closed`"),
    ],
)
def test_a_mistake_in_a_calendar_table_is_refused_with_what_is_allowed(table: str, code: str, sentence: str) -> None:
    with pytest.raises(WatchlistError) as refused:
        parsed(table, code)
    assert sentence in str(refused.value)


def test_a_calendar_that_is_not_a_table_is_refused() -> None:
    with pytest.raises(WatchlistError, match=r"special days stand in a table of their calendar, such as `\[calendar"):
        watchlist.parse(f"calendar = 3\n{GROUP}")


@pytest.mark.parametrize("value", ["'yes'", "1"])
def test_allow_negative_must_be_true_or_false(value: str) -> None:
    with pytest.raises(WatchlistError, match="`allow_negative` must be true or false, received"):
        watchlist.parse(f"[[group]]\nsymbols = ['CL=F']\nallow_negative = {value}")
    assert watchlist.parse("[[group]]\nsymbols = ['CL=F']\nallow_negative = true").instruments[0].allow_negative
