"""Tests of the project itself: style, types, import contracts, packaging and documentation."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model import timeframes
from ema_assets.providers.registry import PROVIDERS
from ema_assets.store.migrations import all_migrations
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

REPOSITORY = Path(__file__).parents[1]


def _passes(*command: str, cwd: Path = REPOSITORY) -> None:
    words = [sys.executable, *command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=GIVEN_UP_AFTER_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


# --- checks -----------------------------------------------------------------------------------------------------------


def test_ruff_finds_no_problems() -> None:
    _passes("-m", "ruff", "check", "--no-cache", ".")


def test_every_file_is_formatted() -> None:
    _passes("-m", "ruff", "format", "--no-cache", "--check", ".")


def test_mypy_finds_no_problems() -> None:
    _passes("-m", "mypy")


def test_imports_keep_the_contracts_in_setup_cfg() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    _passes("-c", code, "--config", "setup.cfg", "--no-cache")


def test_every_module_has_a_docstring() -> None:
    for path in (REPOSITORY / "ema_assets").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path.relative_to(REPOSITORY)


# A statement starts with one of these words in capitals, followed by a name or a symbol.
_STATEMENT = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP|TRUNCATE|COMMENT ON|GRANT|ANALYZE|REFRESH|SET|"
    r"LOCK|COPY|VACUUM|DO|CALL|SHOW)\s+[\w.\"*(%$]"
)
# Modules outside the store that contain SQL, and why.
_SPEAKS_SQL = {
    "ema_assets/runtime/postgres/postmaster.py": "makes the database that the store is in",
    "ema_assets/defs/kept_connections.py": "keeps the connections of Dagster's own tables",
}


def _speaks_sql(source: str) -> bool:
    """Whether a module has a string that starts like a statement, or passes a string to a cursor or transaction."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings and _STATEMENT.match(text):
                return True
            case ast.Call(func=ast.Attribute(attr="query" | "execute"), args=[ast.Constant() | ast.JoinedStr(), *_]):
                return True
    return False


def test_only_the_store_contains_sql() -> None:
    speaking = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "ema_assets").rglob("*.py")
        if _speaks_sql(path.read_text())
    }
    assert {name for name in speaking if not name.startswith("ema_assets/store/")} == set(_SPEAKS_SQL)
    # The check finds the statements of the store, so it would find others.
    assert {"ema_assets/store/quality.py", "ema_assets/store/ledger/work.py"} <= speaking


def test_no_statement_lists_timeframes() -> None:
    keys = "|".join(each.key for each in timeframes.USUAL)
    for path in (REPOSITORY / "ema_assets/store").rglob("*"):
        if path.suffix in (".sql", ".py"):
            assert not re.search(rf"'({keys})'|_({keys})\b", path.read_text()), path.relative_to(REPOSITORY)


def test_every_file_of_end_to_end_tests_has_the_marker_e2e() -> None:
    for path in (REPOSITORY / "ema_assets_tests/e2e").glob("test_*.py"):
        assert re.search(r"^pytestmark = \[?pytest\.mark\.e2e\b", path.read_text(), re.MULTILINE), path.name


# --- files that must agree --------------------------------------------------------------------------------------------


def test_the_dagster_yaml_at_the_top_equals_the_one_in_the_package() -> None:
    assert (REPOSITORY / "dagster.yaml").read_bytes() == (REPOSITORY / "ema_assets/dagster.yaml").read_bytes()


def test_dagster_dev_and_dg_find_the_same_definitions() -> None:
    workspace = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())
    assert workspace == {"load_from": [{"python_module": "ema_assets.definitions"}]}
    assert _pyproject()["tool"]["dg"] == {
        "directory_type": "project",
        "project": {"root_module": "ema_assets", "code_location_target_module": "ema_assets.definitions"},
    }


def test_the_default_watchlist_has_90_stocks_and_10_pairs() -> None:
    calendars = [each.calendar for each in watchlist.parse(watchlist.default_text()).instruments]
    assert len(calendars) == 100
    assert (calendars.count("XNYS"), calendars.count("24/7")) == (90, 10)


def test_the_lock_file_has_a_matching_version_of_every_requirement() -> None:
    text = (REPOSITORY / "requirements.lock").read_text()
    locked = {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    }
    project = _pyproject()["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), line


# --- the pages (their links and the code in them: test_pages.py) ------------------------------------------------------


class _Watched(Mapping[str, str]):
    """An empty environment that records which variables are read."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_the_documentation_lists_exactly_the_variables_that_are_read() -> None:
    env = _Watched()
    Settings.from_env(env)
    page = (REPOSITORY / "docs/CONFIGURATION.md").read_text()
    section = page.split("## Environment variables", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(listed) == len(set(listed))
    assert set(listed) == env.asked
    sources = (
        "config/settings.py",
        "model/clock.py",
        "model/same_origin.py",
        *(f"providers/{each}" for each in _modules("providers")),
    )
    texts = [(REPOSITORY / "ema_assets" / name).read_text() for name in sources]
    assert {name for text in texts for name in re.findall(r'"((?:EMA|APCA)_[A-Z_]+)"', text)} == env.asked


def _modules(folder: str) -> list[str]:
    return [path.name for path in (REPOSITORY / "ema_assets" / folder).glob("*.py")]


def test_only_providers_and_modules_for_their_formats_name_a_vendor() -> None:
    """A new vendor then needs only one new file."""
    vendors = [name for name, provider in PROVIDERS.items() if provider.is_asked and provider.service is None]
    assert set(vendors) == {"alpaca", "yahoo", "binance", "coinbase"}
    # Some services put the name of an exchange, such as Binance, before or after a symbol.
    at_home = ("providers", "sandbox/dialects", "market/listing_codes.py", "files/layouts")
    for path in (REPOSITORY / "ema_assets").rglob("*.py"):
        where = path.relative_to(REPOSITORY / "ema_assets").as_posix()
        if not where.startswith(at_home):
            named = re.findall("|".join([*vendors, "apca"]), path.read_text(), re.IGNORECASE)
            assert not named, where


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = [line for line in _console_lines("README.md") if line.endswith("pytest")]
    assert command == (REPOSITORY / ".ci/run").read_text().splitlines()[-1]
    assert command in _console_lines("CONTRIBUTING.md")


def test_the_start_command_and_the_test_command_of_the_readme_install_in_the_same_way() -> None:
    start, test = [line for line in _console_lines("README.md") if line.startswith("python3 -m venv")]
    assert start.split("ema-assets up")[0] == test.replace("'.[test]'", ".").split("pytest")[0]
    scripts = _pyproject()["project"]["scripts"]
    assert scripts == {"ema-assets": "ema_assets.__main__:main"}


def _console_lines(name: str) -> list[str]:
    """The lines of all console blocks of a page."""
    blocks = re.findall(r"```console\n(.*?)```", (REPOSITORY / name).read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


# --- the wheel --------------------------------------------------------------------------------------------------------


def test_a_wheel_contains_every_file_that_the_code_reads(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "ema_assets", source / "ema_assets", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "deploy/package").mkdir(parents=True)
    for name in ("pyproject.toml", "setup.cfg", "LICENSE", "deploy/package/README.md"):
        shutil.copy(REPOSITORY / name, source / name)
    # The build backend is called directly, without an isolated environment, so nothing is downloaded.
    _passes("-c", f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})", cwd=source)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        (shown,) = (archive.read(name).decode() for name in packed if name.endswith("/METADATA"))
    # Relative links would lead nowhere on the page of the published package.
    assert "# ema-assets\n" in shown
    assert re.findall(r"\]\((?!https://)", shown) == []
    modules = {str(path.relative_to(source)) for path in (source / "ema_assets").rglob("*.py")}
    migrations = {f"ema_assets/store/migrations/{each.number:04}_{each.name}.sql" for each in all_migrations()}
    data = {f"ema_assets/{name}" for name in ("config/default_watchlist.toml", "dagster.yaml", "py.typed")}
    views = {str(path.relative_to(source)) for path in (source / "ema_assets/store/views").glob("*.sql")}
    board = {
        str(path.relative_to(source))
        for folder in ("templates", "static")
        for path in (source / "ema_assets/board" / folder).rglob("*")
        if path.is_file()
    }
    vendor = "ema_assets/board/static/vendor"
    assert {f"{vendor}/LICENSE-lightweight-charts.txt", f"{vendor}/NOTICE-lightweight-charts.txt"} < board
    assert modules | migrations | views | data | board == {name for name in packed if ".dist-info/" not in name}
