"""Tests of logs as JSON: one object per line, whatever a message contains."""

import json
import logging
from pathlib import Path

import pytest

from ema_assets.config.settings import Settings
from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime import dagster_parts, log_lines


def test_messages_of_up_are_text_or_one_json_object_per_line() -> None:
    said: list[str] = []
    for log_format in ("text", "json"):
        log_lines.speaker(log_format, said.append)('  Übersicht "one"\nand two')
    log_lines.speaker("json", said.append)("")
    assert len(said) == 2
    assert said[0] == '  Übersicht "one"\nand two'
    assert "\n" not in said[1]
    found = json.loads(said[1])
    assert found.pop("timestamp").endswith("+00:00")
    assert found == {"level": "INFO", "logger": "ema_assets.up", "message": 'Übersicht "one"\nand two'}


def test_a_record_with_an_exception_stays_one_line() -> None:
    try:
        raise LookupError("a bug")
    except LookupError:
        record = logging.getLogger("some.where").makeRecord(
            "some.where", logging.ERROR, __file__, 1, "%s failed", ("it",), __import__("sys").exc_info()
        )
    line = log_lines.JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("ERROR", "some.where", "it failed")
    assert found["exception"].splitlines()[-1] == "LookupError: a bug"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_process_logs_in_the_configured_format(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers.clear()
    try:
        log_lines.configure(log_format)
        logging.getLogger("ema_assets.somewhere").warning("careful")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    written = capsys.readouterr().err.strip()
    if log_format == "json":
        assert json.loads(written)["message"] == "careful"
    else:
        assert written.endswith("WARNING ema_assets.somewhere: careful")


def test_dagster_is_started_with_the_configured_log_format(tmp_path: Path) -> None:
    def formats(**env: str) -> list[str]:
        made = dagster_parts.programs(Settings.from_env({"EMA_HOME": str(tmp_path), **env}), {}, 3000)
        commands = [list(each.argv) for each in (made.code_server, made.daemon, made.webserver)]
        return [str(argv[argv.index("--log-format") + 1]) for argv in commands]

    assert formats(EMA_LOG_FORMAT="json") == ["json"] * 3
    assert formats() == ["colored"] * 3
    with pytest.raises(ConfigurationError, match="`EMA_LOG_FORMAT` must be one of text, json"):
        formats(EMA_LOG_FORMAT="yaml")
