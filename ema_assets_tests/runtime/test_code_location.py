"""Tests of how `up` handles Dagster's answers about its code location. A real HTTP server gives these answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime.code_location import CodeLocation
from ema_assets.runtime.services import free_port

LOADED = {"loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
UNREACHABLE = {
    "__typename": "PythonError",
    "className": "DagsterUserCodeUnreachableError",
    "message": "dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server.\n",
    "cause": None,
}
REFUSED = """grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:
\tstatus = StatusCode.UNAVAILABLE
\tdetails = "failed to connect to all addresses; Connection refused"
\tdebug_error_string = "UNKNOWN:Error received from peer {grpc_status:14}"
>
"""
BROKEN: dict[str, Any] = {
    "__typename": "PythonError",
    "className": "DagsterUserCodeLoadError",
    "message": "DagsterUserCodeLoadError: Error occurred during the loading of Dagster definitions\n",
    "cause": {"message": "SyntaxError: '(' was never closed\n"},
}


def workspace(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"answer": {"__typename": "Workspace", "locationEntries": list(entries)}}}


def failed(error: dict[str, Any]) -> dict[str, Any]:
    return workspace({"loadStatus": "LOADED", "locationOrLoadError": error})


SOUND = workspace(LOADED)
REFUSALS = {
    "a GraphQL error": ({"errors": [{"message": "Cannot query field"}]}, "Cannot query field"),
    "an error beside data": ({"data": None, "errors": [{"message": "Internal Server Error"}]}, "Internal Server Error"),
    "PythonError": ({"data": {"answer": {"__typename": "PythonError", "message": "KeyError: 'x'\n"}}}, "KeyError: 'x'"),
    "UnauthorizedError": (
        {"data": {"answer": {"__typename": "UnauthorizedError", "message": "Authorization failed"}}},
        "Authorization failed",
    ),
    "a code server that does not answer": (
        failed(UNREACHABLE),
        "dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server.",
    ),
    "a code server that refuses the connection": (
        failed({**UNREACHABLE, "cause": {"message": REFUSED}}),
        "Could not reach user code server. (failed to connect to all addresses; Connection refused)",
    ),
    "code that does not load": (
        failed(BROKEN),
        f"{BROKEN['message'].strip()} (SyntaxError: '(' was never closed)",
    ),
    "one of two locations": (workspace(LOADED, {"loadStatus": "LOADED", "locationOrLoadError": UNREACHABLE}), "Could"),
    "a location that still loads": (workspace({"loadStatus": "LOADING", "locationOrLoadError": None}), "still loading"),
    "a location without a state": (workspace({"loadStatus": "LOADED", "locationOrLoadError": None}), "still loading"),
    "no location": (workspace(), "it has no code location"),
    "another program's JSON": ({"hello": "world"}, "none of Dagster's"),
    "another program's list": ([1, 2], "none of Dagster's"),
}


class Webserver:
    """Answers queries with `query` and mutations with `mutation`."""

    def __init__(self) -> None:
        self.query: Any = SOUND
        self.mutation: Any = SOUND
        self.status = 200
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
                kind = text.split()[0]
                outer.asked.append(kind)
                body = outer.mutation if kind == "mutation" else outer.query
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.ui = f"http://127.0.0.1:{self.server.server_address[1]}"

    def count(self, kind: str) -> int:
        return self.asked.count(kind)


@pytest.fixture
def web() -> Iterator[Webserver]:
    running = Webserver()
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()


class Wanted:
    """The mark of the assets that the configuration makes."""

    def __init__(self) -> None:
        self.mark = "as at the start"

    def __call__(self) -> str:
        return self.mark


def follow(web: Webserver) -> tuple[CodeLocation, Wanted, list[str]]:
    wanted, said = Wanted(), list[str]()
    return CodeLocation(web.ui, wanted, said.append), wanted, said


def test_a_change_is_loaded_once_and_reported(web: Webserver) -> None:
    location, wanted, said = follow(web)
    location.look(0.0)
    assert (said, web.count("mutation")) == ([], 0)
    wanted.mark = "changed"
    location.look(3.0)
    location.look(6.0)
    assert said == ["  signals or strategies have changed: Dagster has loaded its assets again"]
    assert web.count("mutation") == 1


def test_definitions_that_are_no_longer_served_are_reloaded_before_dagster_notices(web: Webserver) -> None:
    location, _, said = follow(web)
    served = [True]
    location.begin_anew(lambda: served[0])
    location.look(0.0)
    served[0] = False
    # The webserver reports no problem, and the last query was one second ago.
    location.look(1.0)
    served[0] = True
    location.look(2.0)
    assert web.asked == ["query", "mutation", "query"]
    assert said == [
        "  Dagster has lost its assets, asking it to load them again: its code server has ended",
        "  Dagster has loaded its assets again",
    ]


def test_reloads_are_requested_after_the_usual_pauses_while_the_code_server_does_not_come_back(web: Webserver) -> None:
    location, _, _ = follow(web)
    location.begin_anew(lambda: False)
    web.mutation = failed(UNREACHABLE)
    for now in range(5):
        location.look(float(now))
    assert web.asked == ["mutation"]
    for now in range(5, 100):
        location.look(float(now))
    assert location.lost() is not None


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_failed_reload_is_reported_once_and_retried(web: Webserver, kind: str) -> None:
    answer, reason = REFUSALS[kind]
    location, wanted, said = follow(web)
    wanted.mark = "changed"
    web.mutation = answer
    for now in range(30):
        location.look(float(now))
    (line,) = said
    assert line.startswith("  Dagster has not loaded its assets again: ")
    assert reason in line
    assert web.count("mutation") == 3  # at once, after 5 s, and 10 s later
    web.mutation = SOUND
    location.look(200.0)
    assert said[1:] == ["  signals or strategies have changed: Dagster has loaded its assets again"]


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b""])
def test_an_answer_that_is_not_json_is_reported_as_a_failed_reload(web: Webserver, body: bytes) -> None:
    location, wanted, said = follow(web)
    wanted.mark, web.mutation = "changed", body
    location.look(0.0)
    assert said[0].startswith(f"  Dagster has not loaded its assets again: no answer at {web.ui}/graphql: ")


def test_an_http_error_of_the_webserver_is_reported(web: Webserver) -> None:
    location, wanted, said = follow(web)
    wanted.mark, web.status = "changed", 500
    location.look(0.0)
    assert "HTTP Error 500" in said[0]


def test_a_refused_connection_is_reported() -> None:
    wanted, said = Wanted(), list[str]()
    location = CodeLocation(f"http://127.0.0.1:{free_port()}", wanted, said.append)
    wanted.mark = "changed"
    location.look(0.0)
    assert "Connection refused" in said[0]


def test_a_second_change_is_loaded_without_waiting_for_the_pause(web: Webserver) -> None:
    location, wanted, said = follow(web)
    wanted.mark, web.mutation = "with a mistake", failed(BROKEN)
    location.look(0.0)
    wanted.mark, web.mutation = "repaired", SOUND
    location.look(1.0)
    assert said[1:] == ["  signals or strategies have changed: Dagster has loaded its assets again"]


def test_a_look_raises_the_error_of_a_configuration_that_cannot_be_read(web: Webserver) -> None:
    def wanted() -> str:
        if web.count("query"):
            raise ConfigurationError("watchlist.toml: no")
        return "as at the start"

    location = CodeLocation(web.ui, wanted, lambda _line: None)
    location.look(0.0)
    with pytest.raises(ConfigurationError, match="watchlist.toml: no"):
        location.look(3.0)


def test_definitions_are_reloaded_after_the_code_server_has_ended(web: Webserver) -> None:
    """The first reload answers that the old code server is unreachable. The new one answers later."""
    location, _, said = follow(web)
    location.look(0.0)
    web.query = web.mutation = failed(UNREACHABLE)
    location.look(5.0)
    assert web.count("mutation") == 0
    location.look(20.0)
    assert web.count("mutation") == 1
    web.query = web.mutation = SOUND
    location.look(40.0)
    assert said[-1] == "  Dagster has loaded its assets again"
    assert location.lost() is None
    location.look(60.0)
    assert web.asked[-1] == "query"


def test_a_code_server_that_does_not_come_back_is_lost_until_dagster_is_restarted(web: Webserver) -> None:
    location, _, said = follow(web)
    web.query = web.mutation = failed(UNREACHABLE)
    for now in range(0, 300, 3):
        location.look(float(now))
    lost = location.lost()
    assert lost is not None
    assert lost.startswith("Dagster's code server does not come back: ")
    location.begin_anew(lambda: True)
    assert location.lost() is None
    assert len(said) == 2


@pytest.mark.parametrize("kind", ["code that does not load", "a location that still loads", "UnauthorizedError"])
def test_other_problems_do_not_make_the_code_server_lost(web: Webserver, kind: str) -> None:
    location, _, _ = follow(web)
    web.query = web.mutation = REFUSALS[kind][0]
    for now in range(0, 300, 3):
        location.look(float(now))
    assert location.lost() is None


def test_a_location_that_is_still_loading_is_not_reloaded(web: Webserver) -> None:
    location, _, said = follow(web)
    web.query = workspace({"loadStatus": "LOADING", "locationOrLoadError": None})
    for now in range(0, 300, 3):
        location.look(float(now))
    assert (web.count("mutation"), said) == (0, [])
