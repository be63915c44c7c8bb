"""Dagster's code location, queried and reloaded over GraphQL. Knows nothing of what it defines."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_CALM_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 60.0
_RELOADS = 4
_TIMEOUT_SECONDS = 120.0
_UNREACHABLE = "DagsterUserCodeUnreachableError"
_DETAILS = re.compile(r'^\s*details = "(.+)"$', re.MULTILINE)
_ANSWER = """{ __typename ... on Error { message } ... on Workspace { locationEntries { loadStatus
    locationOrLoadError { __typename ... on PythonError { className message cause { message } } } } } }"""
_ASK = f"query {{ answer: workspaceOrError {_ANSWER} }}"
_RELOAD = f"mutation {{ answer: reloadWorkspace {_ANSWER} }}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the code location is not loaded. `load_error` is the class name of the error that loading it has raised."""

    sentence: str
    load_error: str | None = None


_GONE = Problem("its code server has ended", load_error=_UNREACHABLE)


class CodeLocation:
    """Keeps the location at `ui` loaded, with the assets of the current configuration.

    `wanted` returns the fingerprint of those assets; it is called at each look and may raise configuration errors.
    """

    def __init__(self, ui: str, wanted: Callable[[], str], say: Callable[[str], None]) -> None:
        self._ui = ui
        self._wanted = wanted
        self._say = say
        self._is_served: Callable[[], bool] = lambda: True
        self._loaded = wanted()
        self._asked_for = self._loaded
        self._due_at: float | None = None
        self._failures: list[Problem] = []

    def look(self, now: float) -> None:
        """Reload when other assets are wanted, or when the location is not loaded. `now` is in seconds of any clock.

        A reload that fails is tried again after a growing pause, or at once when something else is wanted.
        """
        wanted = self._wanted()
        is_new = wanted != self._asked_for
        self._asked_for = wanted
        # Dagster itself notices only after a quarter of a minute that a server has ended.
        is_lost = not self._failures and not self._is_served()
        if self._due_at is not None and now < self._due_at and not is_new and not is_lost:
            return
        if wanted == self._loaded and not self._failures:
            problem = _GONE if is_lost else _request(self._ui, _ASK)
            self._due_at = now + _CALM_SECONDS
            if problem is None or problem.load_error is None:
                return
            self._say(f"  Dagster has lost its assets, asking it to load them again: {problem.sentence}")
        self._reload(wanted, now)

    def lost(self) -> str | None:
        """Return a message when reloads do not bring the code server back; None while they still may."""
        if len(self._failures) < _RELOADS or any(each.load_error != _UNREACHABLE for each in self._failures):
            return None
        return f"Dagster's code server does not come back: {self._failures[-1].sentence}"

    def begin_anew(self, is_served: Callable[[], bool]) -> None:
        """Begin again after a code server was started; `is_served` tells whether a process serves the definitions."""
        self._is_served = is_served
        self._forget_trouble()

    def _forget_trouble(self) -> None:
        self._failures.clear()
        self._due_at = None

    def _reload(self, wanted: str, now: float) -> None:
        problem = _request(self._ui, _RELOAD)
        if problem is None:
            changed = "signals or strategies have changed: " if wanted != self._loaded else ""
            self._say(f"  {changed}Dagster has loaded its assets again")
            self._loaded = wanted
            self._forget_trouble()
            return
        if problem not in self._failures:
            self._say(f"  Dagster has not loaded its assets again: {problem.sentence}; trying again")
        self._failures.append(problem)
        self._due_at = now + min(_FIRST_PAUSE_SECONDS * 2 ** (len(self._failures) - 1), _LONGEST_PAUSE_SECONDS)


def _request(ui: str, query: str) -> Problem | None:
    """Query Dagster, and return what is wrong; None when every location is loaded."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{ui}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - http://127.0.0.1
            return _problem(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return Problem(f"no answer at {ui}/graphql: {error}")
    except (OSError, ValueError) as error:  # includes URLError and TimeoutError
        return Problem(f"no answer at {ui}/graphql: {error}")


def _problem(body: Any) -> Problem | None:
    """Return what is wrong according to an answer: a Workspace, PythonError or UnauthorizedError, or GraphQL errors."""
    try:
        if body.get("errors"):
            return Problem(_first_line(body["errors"][0]["message"]))
        answer = body["data"]["answer"]
        if answer["__typename"] != "Workspace":
            return Problem(_first_line(answer["message"]))
        found = [_problem_of(entry) for entry in answer["locationEntries"]]
    except (AttributeError, LookupError, TypeError):
        return Problem(f"an answer that is none of Dagster's: {str(body)[:200]}")
    if not found:
        return Problem("it has no code location")
    return next((problem for problem in found if problem is not None), None)


def _problem_of(entry: Any) -> Problem | None:
    loaded = entry["locationOrLoadError"]
    if entry["loadStatus"] != "LOADED" or loaded is None:
        return Problem("it is still loading")
    if loaded["__typename"] != "PythonError":
        return None
    sentence = _first_line(loaded["message"])
    if loaded.get("cause"):
        sentence += f" ({_first_line(loaded['cause']['message'])})"
    return Problem(sentence, load_error=str(loaded["className"]))


def _first_line(text: str) -> str:
    # gRPC prints an error as an object of several lines, of which one is meant for people.
    if (details := _DETAILS.search(text)) is not None:
        return details[1]
    return text.strip().partition("\n")[0] or "an error without a message"
