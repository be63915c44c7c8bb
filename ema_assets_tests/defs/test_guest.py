"""Tests of ema-assets in another project of `dg`: two components with prefixes, SQLite, and an asset of the host."""

import re
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import (
    AssetKey,
    DagsterInstance,
    Definitions,
    SensorResult,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
    instance_for_test,
)
from dagster._serdes import ConfigurableClassData
from dagster.components.testing import create_defs_folder_sandbox

from ema_assets.config import watchlist
from ema_assets.defs import guest, namespace
from ema_assets.defs.component import EmaAssetsComponent
from ema_assets.defs.namespace import Namespace
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.run_tags import RANGE_END_TAG, RANGE_START_TAG
from ema_assets.model.asset_names import CHAIN
from ema_assets.model.errors import ConfigurationError, StoreUnavailable
from ema_assets.refresh.graph import configured
from ema_assets.sandbox.server import running_sandbox
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases
from ema_assets_tests.core import OFF
from ema_assets_tests.defs.conftest import GRAPH, World, own_settings, sweep
from ema_assets_tests.defs.staleness import stale

REPOSITORY = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 15, 32, tzinfo=UTC)
WATCHLIST: dict[str, Any] = {
    "timeframes": ["5m", "1h"],
    "history": {"5m": 2, "1d": 10},
    "group": [{"calendar": "24/7", "symbols": ["BTC-USD", "ETH-USD"]}],
    "signals": {"off": list(OFF)},
    "strategy": [{"name": "pullback", "enabled": False}, {"name": "crossover", "entries": "all"}],
}
THEIRS = """
from dagster import asset

@asset(deps=[["eu", "strategy_9_30_ema"]])
def orders() -> None:
    pass
"""


class Project:
    """A project of `dg` with the components `eu` and `us`, on an instance with SQLite."""

    def __init__(self, defs: Definitions, instance: DagsterInstance, urls: dict[str, str]) -> None:
        self.defs = defs
        self.instance = instance
        self.urls = urls
        self.now = NOW

    def resources(self, prefix: str) -> dict[str, object]:
        return {
            f"{prefix}__store": StoreResource(namespace=prefix),
            f"{prefix}__market": MarketResource(namespace=prefix),
        }

    def look(self, prefix: str, sensor: str) -> Any:
        with build_sensor_context(instance=self.instance, resources=self.resources(prefix)) as context:
            return self.defs.resolve_sensor_def(f"{prefix}__{sensor}")(context)

    def run(self, job: str, tags: dict[str, str]) -> Any:
        return self.defs.resolve_job_def(job).execute_in_process(instance=self.instance, tags=tags)

    def materialized(self, run_id: str) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for record in self.instance.get_records_for_run(run_id).records:
            event = record.event_log_entry.dagster_event
            if event is not None and event.is_step_materialization:
                found.add((event.asset_key.to_user_string(), str(event.partition)))
        return found

    def rows(self, prefix: str, table: str) -> int:
        with Database(self.urls[prefix]) as database, database.transaction() as transaction:
            return int(transaction.query(f"SELECT count(*) AS n FROM market.{table}")["n"][0])


@pytest.fixture
def project(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    own_settings(monkeypatch, tmp_path / "home")
    monkeypatch.delenv("EMA_DATABASE_URL", raising=False)
    monkeypatch.setattr(guest, "_looked", [])
    urls = {name: databases.make(migrated=False) for name in ("eu", "us")}
    with ExitStack() as stack:
        universe = watchlist.parse('[[group]]\ncalendar = "24/7"\nsymbols = ["BTC-USD", "ETH-USD"]\n').instruments
        sandbox = stack.enter_context(running_sandbox(universe, clock=lambda: here.now))
        monkeypatch.setenv("EMA_SANDBOX_URL", sandbox.base_url)
        folder = stack.enter_context(create_defs_folder_sandbox())
        for name, url in urls.items():
            path = folder.scaffold_component(EmaAssetsComponent, name)
            assert yaml.safe_load((path / "defs.yaml").read_text())["attributes"] == {
                "asset_key_prefix": name,
                "watchlist": "watchlist.toml",
            }
            # The defs.yaml of a project names such variables.
            monkeypatch.setenv(f"{name.upper()}_DATABASE_URL", url)
            attributes = {
                "asset_key_prefix": name,
                "watchlist": WATCHLIST,
                "home": str(tmp_path / name),
                "database_url": f"{{{{ env.{name.upper()}_DATABASE_URL }}}}",
            }
            (path / "defs.yaml").write_text(
                yaml.safe_dump({"type": "ema_assets.defs.component.EmaAssetsComponent", "attributes": attributes})
            )
        (folder.defs_folder_path / "orders.py").write_text(THEIRS)
        defs = stack.enter_context(folder.build_all_defs())
        Definitions.validate_loadable(defs)
        instance = stack.enter_context(instance_for_test(overrides={"telemetry": {"enabled": False}}))
        here = Project(defs, instance, urls)
        for method in ("now", "machine_now"):
            monkeypatch.setattr(MarketResource, method, lambda _: here.now)
        yield here
    for url in urls.values():
        databases.drop(url)


@pytest.mark.broad
def test_schedule_sweep_and_backfill_of_a_component_work_and_do_not_affect_the_other_component(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    found = {prefix: {name[3:] for name in names(project.defs) if name.startswith(prefix)} for prefix in ("eu", "us")}
    assert found["eu"] == found["us"] >= {"ohlc", "_refresh", "_refresh_5m", "_sweep", "_maintenance"}
    assert {name for name in names(project.defs) if name[:3] not in ("eu_", "us_", "eu/", "us/")} == {
        "__ASSET_JOB",
        "orders",
    }

    # The database is empty. The first tick creates its tables, and says once what is slower with this dagster.yaml.
    assert [type(project.look("eu", "sweep")) for _ in range(2)] == [SkipReason, SkipReason]
    said = [line for line in capfd.readouterr().err.splitlines() if "only slower" in line]
    assert len(said) == 1
    assert "SqliteEventLogStorage stores events one by one" in said[0]
    synced = project.look("eu", "sync_watchlist")
    assert isinstance(synced, SensorResult)
    (added,) = synced.dynamic_partitions_requests or ()
    assert added.partitions_def_name == "eu__symbol"
    project.instance.add_dynamic_partitions("eu__symbol", list(added.partition_keys))
    fetched = {}
    for request in synced.run_requests or ():
        done = project.run("eu__refresh", dict(request.tags))
        fetched[request.tags["ema_assets/timeframe"]] = project.materialized(done.run_id)
    assert fetched["5m"] >= {("eu/ohlc", "BTC-USD|5m"), ("eu/strategy_9_30_ema", "ETH-USD|5m")}
    # The tags name the inputs of the run by keys with the prefix.
    newest: Any = project.instance.get_latest_materialization_event(AssetKey(["eu", "ema_signals"]))
    assert "dagster/input_data_version/eu/ohlc" in newest.asset_materialization.tags

    project.now += timedelta(minutes=5)
    with build_schedule_context(
        instance=project.instance, scheduled_execution_time=project.now, resources=project.resources("eu")
    ) as context:
        tick: Any = project.defs.resolve_schedule_def("eu__refresh_5m")(context)
        (launched,) = tick
    done = project.run("eu__refresh", dict(launched.tags))
    assert ("eu/strategy_9_30_ema", "BTC-USD|5m") in project.materialized(done.run_id)

    backfill = {RANGE_START_TAG: "BTC-USD|5m", RANGE_END_TAG: "ETH-USD|5m"}
    whole = project.defs.resolve_implicit_global_asset_job_def()
    done = whole.execute_in_process(
        instance=project.instance, tags=backfill, asset_selection=[AssetKey(["eu", "strategy_9_30_ema"])]
    )
    assert project.materialized(done.run_id) == {
        ("eu/strategy_9_30_ema", f"{symbol}|5m") for symbol in ("BTC-USD", "ETH-USD")
    }
    assert whole.execute_in_process(instance=project.instance, asset_selection=[AssetKey("orders")]).success

    # The run reports the screener under the key with the prefix.
    assert project.run("eu__performance", {}).success
    assert project.instance.has_asset_key(AssetKey(["eu", "screener"]))
    assert not project.instance.has_asset_key(AssetKey("screener"))

    # The other component has its own names, partitions and tables.
    assert project.instance.get_dynamic_partitions("us__symbol") == []
    assert isinstance(project.look("us", "sweep"), SkipReason)
    assert (project.rows("us", "instrument"), project.rows("eu", "instrument")) == (0, 2)
    # Maintenance skips Dagster's records when they are not in its database.
    assert project.run("eu__maintenance", {}).success
    password = project.urls["eu"].partition("passfile=")[2]
    assert password
    assert all(password not in dump(path) for path in Path(project.instance.root_directory).rglob("*.db"))


@pytest.mark.broad
@pytest.mark.parametrize(
    ("file", "starts_processes"), [("dagster.yaml", False), ("deploy/celery/dagster.yaml", False), (None, True)]
)
def test_only_a_launcher_that_starts_a_process_per_run_is_reported_as_slower(
    file: str | None, starts_processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = None
    if file is not None:
        named = yaml.safe_load((REPOSITORY / file).read_text(encoding="utf-8"))["run_launcher"]
        launcher = ConfigurableClassData(named["module"], named["class"], "{}\n")
    monkeypatch.setattr(guest, "_looked", [])
    with instance_for_test(overrides={"telemetry": {"enabled": False}}) as instance:
        ref = instance.get_ref()._replace(run_launcher_data=launcher)
        monkeypatch.setattr(instance, "get_ref", lambda: ref)
        said = guest.what_is_slower(instance)
    assert said is not None
    assert "SqliteEventLogStorage stores events one by one" in said
    assert ("starts a process per run" in said) == starts_processes


@pytest.mark.broad
def test_everything_is_reported_again_to_a_storage_that_replaces_another_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens when a Dagster with its own storage takes over data that `up` has loaded."""

    def partitions(instance: DagsterInstance) -> set[tuple[str, str]]:
        found = ((node.name, instance.get_materialized_partitions(AssetKey(node.name))) for node in GRAPH.on)
        return {(name, partition) for name, keys in found for partition in keys}

    def look(instance: DagsterInstance) -> str | None:
        monkeypatch.setattr(guest, "_compared", set())
        with world.database.transaction() as transaction:
            found = [guest.tell_anew(instance, transaction, GRAPH) for _ in range(2)]
        assert found[1] is None
        return found[0]

    world.settle()
    world.tell()
    told = partitions(world.instance)
    assert look(world.instance) is None
    with instance_for_test(overrides={"telemetry": {"enabled": False}}) as theirs:
        theirs.add_dynamic_partitions("symbol", world.symbols)
        monkeypatch.setattr(world, "instance", theirs)
        assert world.sweep() == []
        said = look(theirs)
        assert said is not None
        assert said.startswith("Dagster lacks reports of ohlc, ")
        world.let_grace_pass()
        world.sweep_until_fresh()
        assert partitions(theirs) == told
        assert stale(theirs, CHAIN, ["AAPL|5m", "BTC-USD|1h"]) == {}
        assert look(theirs) is None
    # The first storage is used again. It has higher event ids, although the second one received later reports.
    monkeypatch.undo()
    said = look(world.instance)
    assert said is not None
    assert said.startswith("Dagster lacks reports of ohlc, ")
    assert look(world.instance) is None


def test_what_dagster_lacks_is_looked_for_again_until_that_is_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "_compared", set())
    with world.database.transaction() as transaction:
        transaction.execute(
            "UPDATE market.series_state SET recorded_at = now(), recorded_event = 7 WHERE asset = 'ema_trend'"
        )
    said = "Dagster lacks reports of ema_trend: the next runs report them again"

    def loses_its_connection() -> None:
        with world.database.transaction() as transaction:
            assert guest.tell_anew(world.instance, transaction, GRAPH) == said
            raise StoreUnavailable("the connection was lost")

    with pytest.raises(StoreUnavailable):
        loses_its_connection()
    for expected in (said, None, None):
        with world.database.transaction() as transaction:
            assert guest.tell_anew(world.instance, transaction, GRAPH) == expected


@pytest.mark.broad
def test_the_next_process_reports_an_asset_again_that_was_wiped_in_a_storage_of_the_host(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "_compared", set())
    world.settle()
    world.tell()
    told = world.instance.get_materialized_partitions(AssetKey("ema_trend"))
    with monkeypatch.context() as patched:
        # A storage of the host does not notify the ledger of a wipe.
        patched.setattr(ledger, "forget_asset", lambda _transaction, _asset: 0)
        world.instance.wipe_assets([AssetKey("ema_trend")])
    with build_sensor_context(instance=world.instance) as context:
        sweep._raw_fn(context, **world.resources)
    world.let_grace_pass()
    world.sweep()
    assert world.instance.get_materialized_partitions(AssetKey("ema_trend")) == told


def names(defs: Definitions) -> list[str]:
    """Return the names of all jobs, schedules, sensors and assets."""
    repository: Any = defs.get_repository_def()
    return [
        *repository.job_names,
        *(each.name for each in (*repository.schedule_defs, *repository.sensor_defs)),
        *(key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()),
    ]


def dump(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()


def test_the_component_of_the_documentation_is_valid_and_all_attributes_are_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_settings(monkeypatch, tmp_path / "home")
    page = (Path(__file__).parents[2] / "docs" / "GUEST.md").read_text()
    (block,) = [text for text in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "type:" in text]
    declared = yaml.safe_load(block)
    assert declared["type"] == f"{EmaAssetsComponent.__module__}.{EmaAssetsComponent.__qualname__}"
    url = "postgresql://x:CANARY@127.0.0.1/eu"
    attributes = declared["attributes"] | {"database_url": url}
    component = EmaAssetsComponent.resolve_from_yaml(yaml.safe_dump(attributes))
    assert "CANARY" not in repr(component)
    namespace = Namespace(("eu",), component._environment(("eu",), tmp_path))
    assert "CANARY" not in repr(namespace)
    settings = namespace.settings()
    assert (settings.database_url, settings.provider, settings.sweep_seconds) == (url, "yahoo", 60)
    assert settings.home == tmp_path / "home" / "eu"
    assert "macd" in configured(settings).off
    attributes_named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    assert EmaAssetsComponent.model_fields.keys() == attributes_named & EmaAssetsComponent.model_fields.keys()


def test_the_component_is_registered_for_dg() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["dagster_dg_cli.registry_modules"] == {"ema_assets": EmaAssetsComponent.__module__}


@pytest.mark.parametrize("prefix", ["EU", "a__b", "_a", "a-b", "a.b"])
def test_an_invalid_asset_key_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`asset_key_prefix` must be lower-case .* received '{prefix}'"):
        Namespace((prefix,))


def test_two_components_that_would_share_one_database_are_refused(tmp_path: Path) -> None:
    eu, us = (Namespace((name,), {"EMA_HOME": str(tmp_path)}) for name in ("eu", "us"))
    namespace.register(eu)
    with pytest.raises(ConfigurationError, match="'us' and 'eu' must not share one database"):
        namespace.register(us)
    # After a reload that renames a component, its old namespace no longer exists.
    del eu
    namespace.register(us)
    assert namespace.known("us") is us


def test_a_component_refuses_unknown_variables_and_ema_clock(tmp_path: Path) -> None:
    for name in ("PATH", "EMA_CLOCK"):
        with pytest.raises(ConfigurationError, match=f"other than EMA_CLOCK, received '{name}'"):
            EmaAssetsComponent(variables={name: "x"})._environment((), tmp_path)
    with pytest.raises(ConfigurationError, match="'EMA_SWEP_SECONDS'; did you mean `EMA_SWEEP_SECONDS`?"):
        EmaAssetsComponent(variables={"EMA_SWEP_SECONDS": 20})._environment((), tmp_path)


@pytest.mark.parametrize("name", ["database_url", "provider", "home"])
def test_an_attribute_whose_variable_is_not_set_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster resolves it to nothing, and the data would go to the embedded PostgreSQL."""
    monkeypatch.delenv("EU_NOT_SET", raising=False)
    with create_defs_folder_sandbox() as folder:
        path = folder.scaffold_component(EmaAssetsComponent, "eu")
        attributes = {"asset_key_prefix": "eu", "watchlist": WATCHLIST, name: "{{ env.EU_NOT_SET }}"}
        said = {"type": "ema_assets.defs.component.EmaAssetsComponent", "attributes": attributes}
        (path / "defs.yaml").write_text(yaml.safe_dump(said))
        with pytest.raises(Exception, match="Error while building") as raised, folder.build_all_defs():
            pass
        assert f"`{name}` is in defs.yaml and has no value" in str(raised.value.__cause__)
