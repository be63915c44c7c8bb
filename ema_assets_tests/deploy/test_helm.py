"""Tests of deploy/helm/: the values for Dagster's chart. The chart itself is not in this repository."""

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from dagster import DagsterInstance
from starlette.responses import PlainTextResponse

from ema_assets.config.settings import without_provider_keys
from ema_assets.model.same_origin import SameOriginOnly
from ema_assets_tests.deploy.chart import instance_of, laid_over
from ema_assets_tests.deploy.files import DOCKER, HELM, REPOSITORY, loaded, parse_ours

VALUES, CELERY, WORKER = (loaded(HELM / name) for name in ("values.yaml", "values-celery.yaml", "worker.yaml"))
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]
(CONTAINER,) = WORKER["spec"]["template"]["spec"]["containers"]
INSTANCE = loaded(REPOSITORY / "dagster.yaml")


def environments() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield "code", CODE["env"]
    yield "worker", CONTAINER["env"]
    for where, values in (("values", VALUES), ("celery", CELERY)):
        for part in ("dagsterWebserver", "dagsterDaemon"):
            yield f"{where} {part}", values[part].get("env", [])


def test_secret_variables_come_from_secrets_of_kubernetes() -> None:
    found = set()
    for where, variables in environments():
        for variable in variables:
            name = variable["name"]
            is_key = not without_provider_keys({name: ""})
            if is_key or name in ("EMA_DATABASE_URL", "EMA_CELERY_BROKER", "DAGSTER_PG_PASSWORD"):
                assert set(variable) == {"name", "valueFrom"}, where
                assert variable["valueFrom"]["secretKeyRef"]["name"], where
                found.add(name)
            if is_key:
                assert where in ("code", "worker"), where
    assert {"EMA_DATABASE_URL", "EMA_CELERY_BROKER", "APCA_API_SECRET_KEY"} <= found
    assert VALUES["postgresql"]["enabled"] is False
    assert VALUES["generatePostgresqlPasswordSecret"] is False
    assert "postgresqlPassword" not in VALUES["postgresql"]


def test_the_run_queue_has_the_limits_of_one_machine() -> None:
    queue = VALUES["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    runs = INSTANCE["concurrency"]["runs"]
    assert queue["maxConcurrentRuns"] == runs["max_concurrent_runs"]
    assert queue["tagConcurrencyLimits"] == runs["tag_concurrency_limits"]
    assert queue["dequeueIntervalSeconds"] == INSTANCE["run_coordinator"]["config"]["dequeue_interval_seconds"]
    assert VALUES["retention"]["sensor"]["purgeAfterDays"] == INSTANCE["retention"]["sensor"]["purge_after_days"]
    # The workers of Celery execute as many runs as the queue releases.
    command = CONTAINER["command"]
    processes = int(command[command.index("--processes") + 1])
    assert WORKER["spec"]["replicas"] * processes == queue["maxConcurrentRuns"]


@pytest.mark.parametrize("over", [{}, CELERY], ids=["pods", "celery"])
def test_the_instance_that_the_chart_writes_can_be_loaded_and_reaches_its_database(
    over: dict[str, Any], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(database_url)
    here = {
        "postgresqlHost": parts.hostname,
        "postgresqlUsername": parts.username,
        "postgresqlDatabase": parts.path.strip("/"),
        "service": {"port": parts.port},
    }
    values = laid_over(laid_over(VALUES, over), {"postgresql": here})
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance_of(values)))
    (passfile,) = parse_qs(parts.query)["passfile"]
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", Path(passfile).read_text().strip().split(":")[4])
    monkeypatch.setenv("EMA_CELERY_BROKER", "pyamqp://ema:geheim@127.0.0.1:9//")
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs_count() == 0
        assert instance.all_instigator_state() == []
        assert instance.event_log_storage.get_maximum_record_id() is None
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == INSTANCE["concurrency"]["runs"]["max_concurrent_runs"]
        assert queue.tag_concurrency_limits == INSTANCE["concurrency"]["runs"]["tag_concurrency_limits"]
        assert instance.run_monitoring_enabled
        assert instance.run_retries_max_retries == INSTANCE["run_retries"]["max_retries"]
        if over:
            assert type(instance.run_launcher).__name__ == "LaneRunLauncher"


def test_the_probe_of_the_webserver_passes_its_host_check() -> None:
    webserver = VALUES["dagsterWebserver"]
    probe = webserver["readinessProbe"]["httpGet"]
    assert probe["port"] == webserver["service"]["port"] > 1024
    headers = {header["name"]: header["value"] for header in probe["httpHeaders"]}
    app = SameOriginOnly(PlainTextResponse("here"), frozenset({"localhost"}))

    async def asked(headers: dict[str, str]) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://10.1.2.3:3000") as client:
            return (await client.get(probe["path"], headers=headers)).status_code

    assert asyncio.run(asked(headers)) == 200
    # Without these headers, the kubelet sends the address of the pod as the host.
    assert asyncio.run(asked({})) == 403


def test_the_probe_of_the_code_location_runs_a_script_of_the_image_with_its_port() -> None:
    interpreter, program, url = CODE["readinessProbe"]["exec"]["command"]
    assert interpreter == "python"
    assert f"COPY deploy/docker/{Path(program).name} {program}\n" in (DOCKER / "Dockerfile").read_text()
    assert url == f"tcp://127.0.0.1:{CODE['port']}"
    # The schema of the chart requires this value. The template of the chart does not put it into the probe.
    assert CODE["readinessProbe"]["enabled"] is True


def test_pods_with_keys_have_no_rights_in_the_cluster() -> None:
    assert VALUES["dagster-user-deployments"]["rbacEnabled"] is False
    assert WORKER["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_every_pod_has_the_same_image_does_not_run_as_root_and_requests_memory() -> None:
    parts = {"webserver": VALUES["dagsterWebserver"], "daemon": VALUES["dagsterDaemon"], "code": CODE}
    image = CODE["image"]
    for name, part in parts.items():
        assert part["image"] == image, name
        assert part["podSecurityContext"]["runAsNonRoot"] is True, name
        assert part["securityContext"]["allowPrivilegeEscalation"] is False, name
        assert int(part["resources"]["requests"]["memory"].removesuffix("Mi")) >= 300, name
    assert CONTAINER["image"] == f"{image['repository']}:{image['tag']}"
    pod = WORKER["spec"]["template"]["spec"]
    assert pod["securityContext"] == CODE["podSecurityContext"]
    run = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    assert run["runK8sConfig"]["podSpecConfig"]["securityContext"] == CODE["podSecurityContext"]
    assert run["securityContext"] == CODE["securityContext"]
    assert run["resources"] == CODE["resources"]
    dockerfile = (REPOSITORY / "deploy/docker/Dockerfile").read_text()
    assert f"USER {CODE['podSecurityContext']['runAsUser']}:" in dockerfile
    assert f"DAGSTER_HOME={VALUES['global']['dagsterHome']} " in dockerfile


def test_the_module_of_the_code_location_exists_and_runs_have_its_environment() -> None:
    assert CODE["codeServerArgs"][0] == "--module-name"
    assert importlib.util.find_spec(CODE["codeServerArgs"][1]) is not None
    assert CODE["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert VALUES["runLauncher"]["type"] == "K8sRunLauncher"


def test_the_values_for_celery_have_the_launcher_and_the_queue_of_several_hosts() -> None:
    assert CELERY["runLauncher"]["type"] == "CustomRunLauncher"
    launcher = CELERY["runLauncher"]["config"]["customRunLauncher"]
    assert launcher == loaded(REPOSITORY / "deploy/celery/dagster.yaml")["run_launcher"]
    queue = CELERY["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    instance = loaded(REPOSITORY / "deploy/celery/dagster.yaml")
    assert {name: queue[name] for name in ("module", "class")}.items() <= instance["run_coordinator"].items()
    assert queue["config"] == {**instance["concurrency"]["runs"], **instance["run_coordinator"]["config"]}
    assert instance_of(laid_over(VALUES, CELERY))["run_monitoring"] == instance["run_monitoring"]
    parse_ours(CONTAINER["command"][1:])
    # A list in the second file replaces the list in the first one, so it must repeat every entry.
    for part in ("dagsterWebserver", "dagsterDaemon"):
        first, second = ({each["name"] for each in values[part].get("env", [])} for values in (VALUES, CELERY))
        assert first | {"EMA_CELERY_BROKER"} == second, part
    # Runs read the same variables as the code location.
    assert {each["name"] for each in CODE["env"]} <= {each["name"] for each in CONTAINER["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert mounts["instance"] == f"{VALUES['global']['dagsterHome']}/dagster.yaml"
    assert mounts["watchlist"] == CODE["volumeMounts"][0]["mountPath"]
