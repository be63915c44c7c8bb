"""Tests of what definitions state about the data that they work on, and how a difference is named."""

from pathlib import Path
from types import MappingProxyType

import pytest

from ema_assets.defs.assembly import assembled
from ema_assets.defs.namespace import Namespace
from ema_assets.defs.same_data import difference, stated, works_with
from ema_assets_tests.defs.conftest import GRAPH, own_settings


@pytest.mark.parametrize("url", ["postgresql://me:hidden@there/db", "postgresql:///db?host=/tmp&password=hidden"])
def test_the_definitions_state_their_data_and_no_secret(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("APCA_API_KEY_ID", "hidden")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "hidden")
    there = Namespace(("eu",), MappingProxyType({"EMA_DATABASE_URL": url}))
    found = stated(assembled(GRAPH, namespace=there).get_repository_def().metadata)
    assert found == works_with(there)
    assert found["ema_assets/works_with/eu/keys"] == "APCA_API_KEY_ID, APCA_API_SECRET_KEY"
    assert "hidden" not in str(found)


def test_a_difference_is_named_and_a_value_that_only_one_side_has_is_no_difference() -> None:
    theirs = {"ema_assets/works_with//database": "one", "ema_assets/works_with//keys": "none"}
    assert difference(theirs, theirs) is None
    assert difference(theirs, {**theirs, "ema_assets/works_with//later": "new"}) is None
    assert difference({}, theirs) is None
    said = difference(theirs, {**theirs, "ema_assets/works_with//keys": "APCA_API_KEY_ID"})
    assert said is not None
    assert said.startswith("the code location has the keys none, and with the variables of Dagster's daemon it is APCA")


def test_one_database_with_different_users_is_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_settings(monkeypatch, tmp_path)
    urls = ("postgresql://me:secret@there/db", "postgresql://you@there:5432/db")
    one, other = (works_with(Namespace((), MappingProxyType({"EMA_DATABASE_URL": url}))) for url in urls)
    assert difference(one, other) is None
