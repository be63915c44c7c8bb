"""How results look."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from ema_assets.cli import main, rendering
from ema_assets.cli.screen import _HEAD
from ema_assets_tests.timeframes import ORDER

MOMENT = datetime(2026, 11, 20, 15, 0, 30, tzinfo=UTC)


def printed(act: Callable[..., object], *arguments: object) -> str:
    command = click.Command("command", callback=lambda: act(*arguments))
    return CliRunner().invoke(command, catch_exceptions=False).stdout


def test_a_column_is_as_wide_as_its_widest_cell_and_no_line_ends_with_spaces() -> None:
    shown = printed(rendering.print_table, ("a", "long head", "c"), [("wide cell", "b", ""), ("", "x", "")])
    assert shown == "  a          long head  c\n  wide cell  b\n             x\n"


def test_a_table_without_rows_is_its_head() -> None:
    assert printed(rendering.print_table, ("a", "b"), []) == "  a  b\n"


def test_json_has_times_with_their_zone_and_refuses_what_it_does_not_know() -> None:
    assert json.loads(printed(rendering.print_json, [{"ts": MOMENT}])) == [{"ts": "2026-11-20T15:00:30+00:00"}]
    with pytest.raises(TypeError, match="must be a time, received"):
        printed(rendering.print_json, {"value": object()})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (MOMENT, "2026-11-20 15:00"), (1234567.0, "1.23457e+06"), (0.1, "0.1"), (3, "3"), ("x", "x")],
)
def test_any_value_is_a_cell(value: object, shown: str) -> None:
    assert rendering.cell(value) == shown


def test_a_percentage_has_its_sign() -> None:
    assert [rendering.percent(value) for value in (None, 0.125, -3)] == ["", "+0.12 %", "-3.00 %"]


def test_timeframes_are_those_of_the_registry() -> None:
    keys = [rendering.timeframe_key(timeframe) for timeframe in ORDER]
    shown = " ".join(CliRunner().invoke(main, ["screen", "--help"]).stdout.split())
    assert f"One of {', '.join(keys)}." in shown
    assert f"{keys[0]}…{keys[-1]}" in _HEAD
