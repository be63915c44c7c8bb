"""Tests of the pages of the documentation: links lead somewhere, and their commands, queries and code work."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import click
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.cli import main
from ema_assets.config import watchlist
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.symbols import Instrument
from ema_assets.operations import refresh_performance
from ema_assets.refresh.graph import build
from ema_assets.signals.declaration import Signal
from ema_assets.signals.discovery import discover
from ema_assets.store import roles
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc
from ema_assets_tests.signals.harness import advanced, inputs_of, no_rows, walks, whole
from ema_assets_tests.timeframes import FETCHED

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
each_page = pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def all_blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of every block in `language`."""
    return [(page.name, block) for page in PAGES for block in blocks(page, language)]


def inline_code(page: Path) -> list[str]:
    """The text in backticks outside code blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub creates for the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- links and names --------------------------------------------------------------------------------------------------


@each_page
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_every_page_of_docs_is_linked_from_the_readme() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    names = [page.name for page in PAGES if page.parent == REPOSITORY / "docs"]
    assert len(names) >= 8
    assert [name for name in names if f"(docs/{name})" not in text] == []


def test_the_readme_stays_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@each_page
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"(ema_assets|ema_assets_tests|benchmarks|docs)/[\w./]*", code):
            assert (REPOSITORY / code).exists(), code


@each_page
def test_no_page_uses_a_word_that_was_replaced(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert (
        re.findall(
            r"put[ -_]aside|\bspoil|in halves|complaint|\bfuses?\b|\bblown\b|\bsift|\bheld\b", text, re.IGNORECASE
        )
        == []
    )


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[str]:
    """Every `ema-assets …` and `python -m benchmarks.…` of a page, without variables and comments."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()] + inline_code(page)
    for line in lines:
        words = [word for word in shlex.split(line, comments=True) if word != "&"]
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words[:1] == ["ema-assets"] or words[:2] == ["python", "-m"]:
            yield shlex.join(words)


@each_page
def test_every_command_of_a_page_can_be_parsed(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line)
        if words[0] == "python":
            module = importlib.util.find_spec(words[2])
            assert module is not None, line
            assert module.origin is not None, line
            if words[2].startswith("benchmarks."):
                options = {word for word in words[3:] if word.startswith("--")}
                # The command of a package is its `__main__`.
                source = Path(module.origin.replace("__init__", "__main__")).read_text()
                assert [each for each in options if f'"{each}"' not in source] == [], line
            continue
        command: click.Command = main
        arguments = words[1:]
        while isinstance(command, click.Group) and arguments and arguments != ["…"]:
            found = command.get_command(click.Context(command), arguments[0])
            assert found is not None, line
            command, arguments = found, arguments[1:]
        if not isinstance(command, click.Group) and arguments != ["…"]:
            needed = [each for each in command.params if isinstance(each, click.Argument) and each.required]
            is_whole = not needed or any(not word.startswith("-") for word in arguments)
            if is_whole:
                command.make_context(line, list(arguments), parent=click.Context(main, **main.context_settings))


# --- the watchlist ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.md", "docs/index.md", "docs/BACKFILL.md", "docs/OPERATIONS.md"])
def test_the_symbols_that_a_page_adds_are_not_on_the_default_watchlist_already(name: str) -> None:
    there = watchlist.parse(watchlist.default_text()).symbols
    added = [symbol for line in commands(REPOSITORY / name) for symbol in line.split()[3:] if " symbols add " in line]
    assert added
    assert [symbol for symbol in added if symbol in there] == []


def test_every_part_of_a_watchlist_on_a_page_is_valid() -> None:
    # A rule that a page declares itself has its own test.
    own = {
        name for _, block in all_blocks("python") if "RULE = " in block for name in re.findall(r'name="(\w+)"', block)
    }
    pieces = [(name, piece) for name, piece in all_blocks("toml") if not own & set(re.findall(r'"(\w+)"', piece))]
    assert len(pieces) >= 4
    for name, piece in pieces:
        group = "" if "[[group]]" in piece else '\n[[group]]\nsymbols = ["AAPL"]\n'
        build(watchlist.parse(piece + group, name))


# --- signals ----------------------------------------------------------------------------------------------------------

WITH_A_SIGNAL = [(page, block) for page, block in all_blocks("python") if "SIGNAL = " in block]


def declared(block: str, folder: Path) -> Signal:
    """The signal that a code block declares, discovered as one in a user's own file."""
    folder.mkdir(exist_ok=True)
    (folder / "below_high.py").write_text(block, encoding="utf-8")
    return discover(folder)["below_high"]


def test_the_readme_and_the_page_of_signals_each_declare_one_signal() -> None:
    assert [page for page, _ in WITH_A_SIGNAL] == ["README.md", "SIGNALS.md"]


@pytest.mark.parametrize(("page", "block"), WITH_A_SIGNAL, ids=[page for page, _ in WITH_A_SIGNAL])
def test_a_documented_signal_has_the_same_correct_values_in_one_step_and_in_several(
    page: str, block: str, tmp_path: Path
) -> None:
    signal = declared(block, tmp_path)
    inputs = inputs_of(signal, walks(160, symbols=2))
    found = whole(signal, signal.defaults, inputs)
    for (symbol,), rows in inputs.partition_by("symbol", as_dict=True).items():
        closes = rows["close"].to_list()
        expected = [(1 - close / max(closes[max(n - 49, 0) : n + 1])) * 100 for n, close in enumerate(closes)]
        assert found.filter(symbol=symbol)["below_high_pct"].to_list() == pytest.approx(expected)
    stored = no_rows(signal)
    for start, end in ((0, 7), (7, 60), (60, 160)):
        known = inputs.filter(pl.col("_position") < end)
        stored = advanced(signal, signal.defaults, known, stored, {"S0": start, "S1": start})
    assert_frame_equal(stored, found, check_exact=True)


# --- SQL and Python on a database -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of two symbols with everything computed, including the signal of the README."""
    calendars = {"AAPL": "XNYS", "BTC-USD": "24/7"}
    watched = Watchlist(
        tuple(Instrument(*each) for each in calendars.items()), dict(zip(FETCHED, (10, 200), strict=True))
    )
    source = MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first, date(2026, 11, 20), seed)
            for seed, (symbol, calendar) in enumerate(calendars.items())
            for timeframe, first in zip(FETCHED, (date(2026, 11, 11), date(2026, 5, 4)), strict=True)
        )
    )
    folder = tmp_path_factory.mktemp("signals")
    declared(WITH_A_SIGNAL[0][1], folder)
    url = databases.make()
    with Database(url) as database:
        refresh(database, watched, source, utc("2026-11-20 21:30"), graph=build(watched, folder))
        refresh_performance.refresh(database)
        yield database
    databases.drop(url)


def test_the_signal_of_the_readme_has_a_table_and_a_column_in_the_results(filled: Database) -> None:
    with filled.transaction() as transaction:
        for name in ("market.below_high", "results.signals"):
            rows = transaction.query(f"SELECT below_high_pct FROM {name} WHERE timeframe = '5m'")
            assert rows.height > 1000
            assert rows["below_high_pct"].null_count() == 0


QUERIES = [(page, sql) for page, sql in all_blocks("sql") if page != "STRATEGIES.md" and "NOLOGIN" not in sql]


def test_the_documented_sql_for_roles_equals_that_of_migrate() -> None:
    (made,) = [sql for page, sql in all_blocks("sql") if page == "SECURITY.md" and "NOLOGIN" in sql]
    assert made.splitlines() == [f"{each};" for each in roles.MAKING]


def without_end(sql: str) -> str:
    """The statements without the last semicolon, which `query` does not accept."""
    return sql.rstrip().removesuffix(";")


@pytest.mark.parametrize(("page", "sql"), QUERIES, ids=[f"{page}-{n}" for n, (page, _) in enumerate(QUERIES)])
def test_every_query_of_a_page_returns_rows(filled: Database, page: str, sql: str) -> None:
    with filled.transaction() as transaction:
        if "CREATE ROLE" in sql:
            for statement in without_end(sql).split(";"):
                transaction.execute(statement)
                name = statement.split()[2]
                transaction.execute(f"SET LOCAL ROLE {name}")
                assert transaction.query("SELECT count(*) AS n FROM results.bars").item() > 0
                transaction.execute("RESET ROLE")
                transaction.execute(f"DROP ROLE {name}")
        elif "ohlc_as_of" in sql:
            # The bars of this database were stored a moment ago.
            moment = transaction.query("SELECT clock_timestamp()::text AS now").item()
            assert transaction.query(without_end(sql).replace("2026-11-20 15:05-05", moment)).height == 20
        else:
            assert transaction.query(without_end(sql)).height > 0


# Declarations of signals, rules and providers are not scripts.
SCRIPTS = [(page, code) for page, code in all_blocks("python") if not re.search(r"^[A-Z]+ = ", code, re.MULTILINE)]


# The bars of this database were stored a moment ago.
@pytest.mark.filterwarnings("ignore:nothing was known at:UserWarning")
@pytest.mark.parametrize(("page", "code"), SCRIPTS, ids=[f"{page}-{n}" for n, (page, _) in enumerate(SCRIPTS)])
def test_every_script_of_a_page_runs(
    filled: Database,
    page: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # a script may write a file
    monkeypatch.setenv("EMA_HOME", str(tmp_path))
    monkeypatch.setenv("EMA_WATCHLIST", str(tmp_path / "none.toml"))
    monkeypatch.setenv("EMA_DATABASE_URL", filled.url)
    exec(compile(code.replace("postgresql://…", filled.url), page, "exec"), {})
    if "talib" in code:
        differences = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
        assert len(differences) == 2
        assert max(differences) < 1e-9
