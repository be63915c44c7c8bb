"""Tests of Alpaca's list of assets and corporate actions, with the vendor's own SDK and with plain HTTP."""

from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.data.models.corporate_actions import CorporateActionsSet, ForwardSplit, NameChange, ReverseSplit
from alpaca.data.requests import CorporateActionsRequest
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import AssetClass, AssetStatus
from alpaca.trading.models import Asset
from alpaca.trading.requests import GetAssetsRequest

from ema_assets.sandbox.dialects.alpaca_reference import ACTIONS_PATH, ASSETS_PATH
from ema_assets.sandbox.faults import CorporateAction, Ended, MissingSymbol, Split
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.sandbox.conftest import MIDDAY

SPLIT_AT = datetime(2026, 7, 14, 13, 30, tzinfo=UTC)
RENAME = {
    "old_symbol": "MSFT",
    "old_cusip": "1",
    "new_symbol": "SOFT",
    "new_cusip": "1",
    "process_date": "2026-07-20",
}


def test_the_vendors_sdk_reads_actions_of_several_lists(sandbox: RunningSandbox) -> None:
    for symbols, ratio in ((["AAPL"], 1.253), (["BRK.B"], 0.1)):
        sandbox.handle.faults.add(Split(symbols=symbols, at=SPLIT_AT, ratio=ratio))
    sandbox.handle.faults.add(CorporateAction(symbols=["MSFT"], type="name_changes", fields=RENAME))
    sdk = CorporateActionsClient("key", "secret", url_override=sandbox.base_url)
    wanted = CorporateActionsRequest(
        symbols=["AAPL", "BRK.B", "MSFT"], start=date(2026, 7, 1), end=date(2026, 8, 1), limit=1_000
    )
    found = sdk.get_corporate_actions(wanted)
    assert isinstance(found, CorporateActionsSet)
    (forward,), (reverse,), (rename,) = (
        found.data[each] for each in ("forward_splits", "reverse_splits", "name_changes")
    )
    assert isinstance(forward, ForwardSplit)
    assert isinstance(reverse, ReverseSplit)
    assert isinstance(rename, NameChange)
    assert (forward.symbol, forward.new_rate, forward.old_rate, forward.ex_date) == (
        *("AAPL", 1253.0, 1000.0),
        date(2026, 7, 14),
    )
    assert (reverse.symbol, reverse.new_rate, reverse.old_rate) == ("BRK.B", 1.0, 10.0)
    assert (rename.old_symbol, rename.new_symbol, rename.process_date) == ("MSFT", "SOFT", date(2026, 7, 20))


def test_the_vendors_sdk_reads_the_list_of_assets(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(Ended(symbols=["BRK.B"], at=MIDDAY - timedelta(days=1)))
    sandbox.handle.faults.add(MissingSymbol(symbols=["MSFT"]))
    sdk = TradingClient("key", "secret", url_override=sandbox.base_url)
    found = [each for each in sdk.get_all_assets() if isinstance(each, Asset)]
    assert [(each.symbol, each.status, each.tradable) for each in found] == [
        ("AAPL", AssetStatus.ACTIVE, True),
        ("BRK.B", AssetStatus.INACTIVE, False),
    ]
    pairs = sdk.get_all_assets(GetAssetsRequest(asset_class=AssetClass.CRYPTO))
    assert [each.symbol for each in pairs if isinstance(each, Asset)] == ["BTC/USD", "DOGE/USD"]


def test_actions_are_found_by_the_day_of_processing_and_by_symbol(
    client: httpx.Client, sandbox: RunningSandbox
) -> None:
    sandbox.handle.faults.add(CorporateAction(symbols=["MSFT"], type="name_changes", fields=RENAME))

    def lists(**params: str) -> list[str]:
        answer = client.get(ACTIONS_PATH, params=params)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["corporate_actions"])

    assert lists(symbols="MSFT", start="2026-07-20", end="2026-07-20") == ["name_changes"]
    assert lists(symbols="MSFT", start="2026-07-21", end="2026-07-30") == []
    assert lists(symbols="AAPL", start="2026-07-01", end="2026-07-30") == []
    # Without a range, only today's actions are found.
    assert lists(symbols="MSFT") == []
    # A rename is found by its new symbol, and only by the symbols that it names.
    into = {**RENAME, "old_symbol": "BRK.B", "new_symbol": "AAPL"}
    sandbox.handle.faults.add(CorporateAction(symbols=["AAPL", "BRK.B", "MSFT"], type="name_changes", fields=into))
    assert lists(symbols="AAPL", start="2026-07-01", end="2026-07-30") == ["name_changes"]
    assert lists(symbols="MSFT", start="2026-07-21", end="2026-07-30") == []


@pytest.mark.parametrize(
    ("path", "params", "status", "message"),
    [
        (ACTIONS_PATH, {"limit": "1001"}, 400, "invalid limit: must be from 1 to 1000"),
        (ACTIONS_PATH, {"start": "tomorrow"}, 400, "invalid start: tomorrow is not a date"),
        (ACTIONS_PATH, {"start": "2026-07-02", "end": "2026-07-01"}, 400, "end should not be before start"),
        (ACTIONS_PATH, {"page_token": "zzz"}, 400, "invalid page_token"),
        (ASSETS_PATH, {"asset_class": "stamps"}, 422, "invalid asset_class: stamps"),
    ],
)
def test_a_wrong_parameter_is_refused_with_a_message(
    client: httpx.Client, path: str, params: dict[str, str], status: int, message: str
) -> None:
    answer = client.get(path, params=params)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_callers_without_the_right_keys_are_refused(client: httpx.Client, sandbox: RunningSandbox) -> None:
    sandbox.handle.required_keys = ("id", "secret")
    try:
        for path in (ACTIONS_PATH, ASSETS_PATH):
            assert client.get(path).status_code == 401
            wrong = {"APCA-API-KEY-ID": "id", "APCA-API-SECRET-KEY": "wrong"}
            assert client.get(path, headers=wrong).status_code == 403
    finally:
        sandbox.handle.required_keys = None
