"""Which signals are discovered, in which order, and how invalid declarations are reported."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.signals.discovery import discover

TOY = """
    import polars as pl

    from ema_assets.signals.declaration import Column, Param, Signal


    def compute(bars, carried, params):
        return bars.select("symbol", "ts", toy=pl.col("close") * params["factor"])


    SIGNAL = Signal(
        name="toy",
        description="The close, times a factor",
        version="1",
        reads={"ohlc": ("close",)},
        columns=(Column("toy", "float8", "close · factor"),),
        compute=compute,
        params={"factor": Param(2.0, "What the close is multiplied by")},
    )
"""
PACKAGE = ["ema_signals", "ema_trend", "atr", "bollinger", "macd", "relative_volume", "rsi", "vwap", "wma"]


def write(folder: Path, name: str = "toy", *changes: tuple[str, str]) -> Path:
    """Write a file that declares TOY with these changes to its text."""
    text = dedent(TOY).strip() + "\n"
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return path


def reading(name: str, *reads: str) -> tuple[tuple[str, str], ...]:
    """Changes that make TOY a signal `name` with a column `name`, which reads one column of each signal in `reads`."""
    sources = ", ".join(f'"{each}": ("{each}",)' for each in reads)
    return (
        ('name="toy"', f'name="{name}"'),
        ('Column("toy"', f'Column("{name}"'),
        ('{"ohlc": ("close",)}', f"{{{sources}}}"),
    )


def test_the_signals_of_the_package_are_discovered_with_the_emas_first() -> None:
    assert list(discover()) == PACKAGE


def test_a_file_adds_a_signal_other_files_are_ignored_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "_shared.py").write_text("raise RuntimeError", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no signal", encoding="utf-8")
    found = discover(tmp_path)
    assert sorted(found) == sorted([*PACKAGE, "toy"])
    assert found["toy"].defaults == {"factor": 2.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_shared.py", "notes.txt", "toy.py"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path)
    discover(tmp_path)
    write(tmp_path, "toy", ("2.0", "3.0"))
    assert discover(tmp_path)["toy"].defaults == {"factor": 3.0}


def test_a_signal_comes_after_those_it_reads_whatever_its_file_name_is(tmp_path: Path) -> None:
    write(tmp_path, "a", *reading("a_last", "b_second", "rsi"))
    write(tmp_path, "b", *reading("b_second", "z_first"))
    write(tmp_path, "c", ('name="toy"', 'name="z_first"'), ('Column("toy"', 'Column("z_first"'))
    order = list(discover(tmp_path))
    assert order == [*PACKAGE, "z_first", "b_second", "a_last"]


def test_a_file_does_not_shadow_a_module_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, "polars")
    assert "toy" in discover(tmp_path)
    assert "toy" not in vars(sys.modules["polars"])


@pytest.mark.broad
def test_discovering_signals_does_not_import_dagster() -> None:
    code = "import sys; from ema_assets.signals.discovery import discover; discover(); print('dagster' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def assert_refused(folder: Path, *parts: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        discover(folder)
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_folder_is_named_in_the_error(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none", str(tmp_path / "none"), "no such folder")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("x = 1\n", "must declare `SIGNAL`", id="nothing declared"),
        pytest.param("SIGNAL = 'rsi'\n", "found a str", id="something else declared"),
        pytest.param("\nx = (\n", "line 2: cannot be imported: SyntaxError: '(' was never closed", id="no Python"),
        pytest.param(
            "\n\nimport nowhere_to_be_found\n", "line 3: cannot be imported: ModuleNotFoundError", id="import"
        ),
        pytest.param("def f():\n    1 / 0\n\nf()\n", "line 2: cannot be imported: ZeroDivisionError", id="fails"),
        pytest.param("raise SystemExit(3)\n", "line 1: cannot be imported: SystemExit: 3", id="leaves"),
        pytest.param(
            "from ema_assets.signals.declaration import Signal\nSIGNAL = Signal(name='x')\n",
            "line 2",
            id="lacks fields",
        ),
    ],
)
def test_a_file_that_declares_no_signal_is_reported_with_its_path_and_the_cause(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    assert_refused(tmp_path, str(tmp_path / "mine.py"), said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name="toy"', 'name="Toy"', "`name` must be 1 to 48 lower-case letters"),
        ('name="toy"', 'name="to-y"', "`name` must be 1 to 48 lower-case letters"),
        ('name="toy"', f'name="{"t" * 49}"', "`name` must be 1 to 48 lower-case letters"),
        ('name="toy"', 'name="ohlc"', "received 'ohlc'"),
        ('name="toy"', 'name="strategy_toy"', "received 'strategy_toy'"),
        ('name="toy"', 'name="bar_flag"', "received 'bar_flag'"),
        ('name="toy"', 'name="series_state"', "received 'series_state'"),
        ('name="toy"', 'name="session"', "received 'session'"),
        ('name="toy"', 'name="instrument"', "received 'instrument'"),
        ('name="toy"', 'name="source"', "received 'source'"),
        ('name="toy"', 'name="user"', "received 'user'"),
        ('name="toy"', 'name="rsi_5m"', "received 'rsi_5m'"),
        ('name="toy"', 'name="lambda"', "received 'lambda'"),
        ('name="toy"', 'name="context"', "received 'context'"),
        ('version="1"', 'version=""', "`version` must be a text"),
        ('description="The close, times a factor"', "description=None", "`description` must be a text"),
        ('"float8"', '"float"', "must be one of float8, int8, text, boolean, timestamptz, received 'float'"),
        ('Column("toy", ', 'Column("Toy", ', "the name of a column must be"),
        ('Column("toy", ', 'Column("symbol", ', "received 'symbol'"),
        ('Column("toy", ', 'Column("timeframe", ', "received 'timeframe'"),
        ('Column("toy", ', 'Column("ts", ', "received 'ts'"),
        ('Column("toy", ', 'Column("close", ', "must not be called symbol, timeframe, ts, open, high, low, close,"),
        ('Column("toy", ', 'Column("volume", ', "received 'volume'"),
        ('Column("toy", ', 'Column("is_preliminary", ', "received 'is_preliminary'"),
        ('Column("toy", ', 'Column("warming_up", ', "received 'warming_up'"),
        ('Column("toy", ', 'Column("calendar", ', "received 'calendar'"),
        ('Column("toy", ', 'Column("end", ', "must not be called by a word that SQL reserves, received 'end'"),
        (
            'Column("toy", ',
            'Column("rsi", ',
            "signal `toy`: the signal `rsi` has a column 'rsi' already, in ema_assets.s",
        ),
        ('Column("toy", ', 'Column("trend", ', "the signal `ema_trend` has a column 'trend' already"),
        ('Column("toy", ', 'Column("ema_12", ', "column 'ema_12' has the name of an average that a strategy may read"),
        ('Column("toy", "float8"', 'Column("bar_number", "float8"', "must be an int8, received float8"),
        ("compute=compute,", "compute=compute, converged_after=20,", "`converged_after` needs a column `bar_number`"),
        (
            "compute=compute,",
            "compute=compute, converged_after=lambda p: 9,",
            "must be a number of bars or None, received <f",
        ),
        (
            "compute=compute,",
            "compute=compute, converged_after='20',",
            "must be a number of bars or None, received '20'",
        ),
        ('"close · factor"', '"", choices=("up")', "`choices` of column 'toy' must be a tuple of texts, received 'up'"),
        (
            '"close · factor"',
            '"", choices=(1, 2)',
            "`choices` of column 'toy' must be a tuple of texts, received (1, 2)",
        ),
        ('"float8"', '["float8"]', "the kind of column 'toy' must be one of float8, int8, text"),
        ('multiplied by")', 'multiplied by", choices=5)', "`choices` of `factor` must be a tuple of texts"),
        ('factor"),)', 'factor"), Column("toy", "int8", ""))', "column 'toy' is declared twice"),
        ('(Column("toy", "float8", "close · factor"),)', "()", "at least one Column"),
        ('(Column("toy", "float8", "close · factor"),)', '("toy",)', "at least one Column"),
        ("compute=compute", "compute=None", "`compute` must be a function, received None"),
        ("compute=compute,", "compute=compute, bars_before=19,", "`bars_before` must be a function, received 19"),
        ("compute=compute,", "compute=compute, bars_before=lambda _: -1,", "must give a number of bars, received -1"),
        ("compute=compute,", "compute=compute, bars_before=lambda p: p['n'],", "must take the defaults: KeyError: 'n'"),
        ("compute=compute,", "compute=compute, check=lambda _: 'too odd',", "do not fit together: too odd"),
        ("compute=compute,", "compute=compute, carries=('close',),", "columns of its own, received 'close'"),
        ("compute=compute,", "compute=compute, carries=('toy'),", "a tuple of names, received the text 'toy'"),
        ("Param(2.0", "Param(0.5", "the default of `factor` must be 1 to 1000, received 0.5"),
        ("Param(2.0", "Param('two'", "the default of `factor` must be one of"),
        ('Param(2.0, "What the close is multiplied by")', "2.0", "parameter `factor` must be a Param"),
        ("Param(2.0", "Param('two'", "must be one of its `choices`, and it has none, received 'two'"),
        ("Param(2.0", "Param(None", "the default of `factor` must be a number, a text, True or False, received None"),
        ("Param(2.0", "Param([2]", "the default of `factor` must be a number, a text, True or False, received [2]"),
        ("multiplied by", 'multiplied by", least="1', "`least` and `most` of `factor` must be numbers, received '1'"),
        ("multiplied by", 'multiplied by", choices="12', "`choices` of `factor` must be a tuple of texts"),
        ('{"factor": Param(2.0, "What the close is multiplied by")}', "None", "`params` must give a Param by name"),
        ("compute=compute,", "compute=compute, carries=None,", "`carries` must be a tuple of names, received None"),
        ("compute=compute,", "compute=compute, group='my group',", "`group` must be 1 to 48 lower-case letters"),
        ('"close · factor"', "None", "the description of column 'toy' must be a text, received None"),
        ('{"ohlc": ("close",)}', "{}", "at least one asset"),
        ('{"ohlc": ("close",)}', '{"ohlc": None}', "a tuple of column names for `ohlc`, received None"),
        ('{"ohlc": ("close",)}', '{"ohlc": (1,)}', "a tuple of column names for `ohlc`, received (1,)"),
        ('{"ohlc": ("close",)}', '{"olhc": ("close",)}', "received 'olhc'"),
        ('{"ohlc": ("close",)}', '{5: ("close",)}', "received 5"),
        ('{"ohlc": ("close",)}', '{"ohlc": ("closes",)}', "`ohlc` has no column 'closes' to read"),
        ('{"ohlc": ("close",)}', '{"rsi": ("close",)}', "`rsi` has no column 'close' to read; it has rsi"),
        ('{"ohlc": ("close",)}', '{"ohlc": ("close")}', "a tuple of column names for `ohlc`, received 'close'"),
        (
            '{"ohlc": ("close",)}',
            '{"ema_signals": ("bar_number",), "ema_trend": ("bar_number",)}',
            "column 'bar_number' is read twice",
        ),
        ('{"ohlc": ("close",)}', '{"toy": ("toy",)}', "in a circle: toy → toy"),
    ],
)
def test_an_invalid_declaration_is_refused_with_its_file_and_the_reason(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = write(tmp_path, "mine", (old, new))
    assert_refused(tmp_path, said, str(path))


@pytest.mark.parametrize(
    ("functions", "factor", "said"),
    [
        ("check=lambda p: p['factor'] > 4 and 'too much'", 3, None),
        ("check=lambda p: p['factor'] > 4 and 'too much'", 5, "too much"),
        ("check=lambda p: p['factor'] > 4", 5, "`check` must say in a text what is wrong, or None, received True"),
        ("check=lambda p: {2.0: ''}[p['factor']]", 3, "`check` must take these parameters: KeyError: 3"),
        ("bars_before=lambda p: {2.0: 1}[p['factor']]", 3, "`bars_before` must take these parameters: KeyError: 3"),
        ("bars_before=lambda p: 2 - int(p['factor'])", 3, "a number of bars for these parameters, received -1"),
        ("bars_before=lambda p: 1 if p['factor'] == 2 else p['factor'] / 2", 3, "these parameters, received 1.5"),
    ],
)
def test_the_functions_of_a_signal_are_called_with_configured_parameters(
    tmp_path: Path, functions: str, factor: int, said: str | None
) -> None:
    write(tmp_path, "mine", ("compute=compute,", f"compute=compute, {functions},"))
    problem = discover(tmp_path)["toy"].problem_with({"factor": factor})
    assert problem == said if said is None or problem is None else problem.endswith(said)


def test_two_signals_with_the_same_name_are_refused_with_both_files(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two")
    assert_refused(tmp_path, str(tmp_path / "one.py"), str(tmp_path / "two.py"), "a signal `toy` already")
    (tmp_path / "one.py").unlink()
    write(tmp_path, "two", ('name="toy"', 'name="rsi"'))
    assert_refused(tmp_path, str(tmp_path / "two.py"), "in ema_assets.signals.rsi")


def test_a_column_of_two_signals_is_refused_in_the_later_file_and_the_earlier_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", ('name="toy"', 'name="other"'))
    said = f"signal `other`: the signal `toy` has a column 'toy' already, in {tmp_path / 'one.py'}; names must differ"
    assert_refused(tmp_path, f"{tmp_path / 'two.py'}: {said}")


def test_several_signals_may_have_a_column_bar_number(tmp_path: Path) -> None:
    write(tmp_path, "toy", ('Column("toy", "float8"', 'Column("bar_number", "int8"'))
    assert "toy" in discover(tmp_path)


def test_signals_that_read_one_another_in_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "one", *reading("one", "two"))
    write(tmp_path, "two", *reading("two", "three"))
    write(tmp_path, "three", *reading("three", "one"))
    files = ", ".join(str(tmp_path / f"{name}.py") for name in ("one", "two", "three"))
    assert_refused(tmp_path, f"{files}: signals must not read one another in a circle: one → two → three → one")
