"""Tests of how tables, values and JSON are printed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from ema_assets.cli import main, rendering
from ema_assets_tests.timeframes import ORDER

MOMENT = datetime(2026, 11, 20, 15, 0, 30, tzinfo=UTC)


def printed(act: Callable[..., object], *arguments: object) -> str:
    command = click.Command("command", callback=lambda: act(*arguments))
    return CliRunner().invoke(command, catch_exceptions=False).stdout


def test_a_column_is_as_wide_as_its_widest_cell_and_no_line_ends_with_spaces() -> None:
    shown = printed(rendering.print_table, ("a", "long head", "c"), [("wide cell", "b", ""), ("", "x", "")])
    assert shown == "  a          long head  c\n  wide cell  b\n             x\n"


def test_a_table_without_rows_has_only_its_header() -> None:
    assert printed(rendering.print_table, ("a", "b"), []) == "  a  b\n"


def test_json_has_times_with_their_zone_and_unknown_types_are_refused() -> None:
    assert json.loads(printed(rendering.print_json, [{"ts": MOMENT}])) == [{"ts": "2026-11-20T15:00:30+00:00"}]
    with pytest.raises(TypeError, match="must be a time, received"):
        printed(rendering.print_json, {"value": object()})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (MOMENT, "2026-11-20 15:00"), (1234567.0, "1.23457e+06"), (0.1, "0.1"), (3, "3"), ("x", "x")],
)
def test_a_value_of_any_type_is_shown_as_text(value: object, shown: str) -> None:
    assert rendering.cell(value) == shown


def test_a_percentage_has_its_sign() -> None:
    assert [rendering.percent(value) for value in (None, 0.125, -3)] == ["", "+0.12 %", "-3.00 %"]


def test_timeframes_are_shown_by_their_keys_and_the_help_refers_to_the_watchlist() -> None:
    assert [rendering.timeframe_key(timeframe) for timeframe in ORDER] == ["5m", "15m", "30m", "1h", "4h", "1d"]
    shown = " ".join(CliRunner().invoke(main, ["screen", "--help"]).stdout.split())
    assert "--timeframe TEXT One of the watchlist. [default: 1h, or the next longer one]" in shown
