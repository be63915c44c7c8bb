"""The command `backtest`: a rule with any options on the stored bars. The computation is in `backtest/`."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from ema_assets.cli import environment, rendering
from ema_assets.cli.commands import Command
from ema_assets.cli.options import (
    WholeNumber,
    complete_rule,
    complete_timeframe,
    group_option,
    json_option,
    symbols_option,
)
from ema_assets.cli.rendering import cell, percent
from ema_assets.config.settings import Settings
from ema_assets.market.split_steps import LIKE_A_SPLIT
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError, first_of, not_one_of
from ema_assets.runtime import state
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets.strategies.figures import MORE_IS_BETTER, ranked_by

if TYPE_CHECKING:
    from ema_assets.backtest import Backtest, WalkForward

_WORDS = {"none": None, "true": True, "false": False}
_USUAL_LIMIT = 20
# How many symbols without bars, or left out by a portfolio, are named.
_NAMED = 5
_ENDINGS = ("csv", "parquet")
# Figures that are shown as a gain in percent.
_GAINS = ("total_return_pct", "annualized_return_pct", "expectancy_pct")
# What the command has its own argument or option for.
_NOT_SET = ("rule", "start", "end", "train", "test", "by")


@click.command("backtest", cls=Command)
@click.argument("rule", shell_complete=complete_rule)
@click.argument("timeframe", required=False, shell_complete=complete_timeframe)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE[,VALUE…]",
    help="A key of a [[strategy]] row; with several values each is tried. May be given several times.",
)
@symbols_option
@group_option
@click.option("--start", help="Trade from this time on, such as 2026-11-01; UTC.")
@click.option("--end", help="Trade with the bars that have closed at this time.")
@click.option("--train", help="Choose the values by this much time before each test, such as 180d or 26w.")
@click.option("--test", help="And trade with them for this long; then choose again.")
@click.option(
    "--by",
    type=click.Choice(list(MORE_IS_BETTER)),
    metavar="FIGURE",
    default=MORE_IS_BETTER[0],
    show_default=True,
    help=f"What decides: the order of rows, and with --train the choice. One of {', '.join(MORE_IS_BETTER)}.",
)
@click.option(
    "--limit", type=WholeNumber(1), default=_USUAL_LIMIT, show_default=True, help="Show this many rows at most."
)
@click.option(
    "--trades",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the trades to this file, such as trades.csv or trades.parquet.",
)
@json_option
def backtest_command(  # noqa: PLR0913, PLR0917 - the options
    rule: str,
    timeframe: str | None,
    assignments: Sequence[str],
    symbols: Sequence[str],
    groups: Sequence[str],
    start: str | None,
    end: str | None,
    train: str | None,
    test: str | None,
    by: str,
    limit: int,
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    r"""Try a rule with any options on the stored bars. Nothing is stored.

    Without TIMEFRAME those of 1h, or of the next longer one of the watchlist.

    \b
    ema-assets backtest crossover 1h --set fast=12 --set slow=26 --set cost_bps=2
    ema-assets backtest crossover 1h --set fast=5,9,12 --set atr_stop=none,2
    ema-assets backtest crossover 1d --set fast=5,9,12 --train 365d --test 90d

    The second tries every choice of the values, best first. The third chooses again and again by what was known, and
    shows what came after each choice: the best of many choices is partly luck. `--trades` writes every trade of the
    first or the third to a file.
    """
    # Imported here so that other commands start sooner.
    from ema_assets.backtest import load

    settings = Settings.from_env()
    watched = environment.read_watchlist(settings)
    timeframe = environment.timeframe_of(watched, timeframe).key
    chosen = environment.chosen_symbols(watched, symbols, groups) or list(watched.symbols)
    options = _options(assignments)
    is_varied = any(isinstance(value, list) for value in options.values())
    if (train is None) != (test is None):
        raise ConfigurationError("`--train` and `--test` must be given together")
    if train is not None and not is_varied:
        raise ConfigurationError("`--train` chooses among several values, such as `--set fast=5,9,12`; received none")
    if output is not None:
        _check_output(output, is_sweep=is_varied and train is None)
    trades = None
    with environment.open_existing(settings) as database:
        history = load(timeframe, _known(database, chosen), url=database.url)
        if train is not None and test is not None:
            walk = history.walk_forward(rule, train=train, test=test, by=by, start=start, end=end, **options)
            rows, trades = walk.performance, walk.trades
            _show_walk(walk, by, limit, as_json=as_json)
        elif is_varied:
            rows = history.sweep(rule, start=start, end=end, **options)
            _show_sweep(rows, by, limit, as_json=as_json)
        else:
            found = history.run(rule, start=start, end=end, **options)
            rows, trades = found.performance, found.trades
            _show_run(found, by, limit, as_json=as_json)
    if output is not None and trades is not None:
        _write(trades, output)
    if without := sorted(set(chosen).difference(rows["symbol"])):
        click.echo(f"Left out, for want of bars on {timeframe} in that time: {first_of(without, _NAMED)}", err=True)
    _warn_of_splits(history.flagged)
    default = environment.default_provider(settings, state.read_state(settings))
    if not as_json and not watched.synthetic_symbols(default).isdisjoint(chosen):
        click.echo("SYNTHETIC prices, not market data")


def _check_output(output: Path, *, is_sweep: bool) -> None:
    """Refuse a file of another kind, and the trades of a sweep, which tries many choices."""
    if (form := _form_of(output)) not in _ENDINGS:
        raise not_one_of("the ending of --trades", form, _ENDINGS)
    if is_sweep:
        raise ConfigurationError(
            "`--trades` writes the trades of one choice; give each `--set` one value, or `--train`"
        )


def _form_of(output: Path) -> str:
    return output.suffix.removeprefix(".").lower()


def _write(trades: pl.DataFrame, output: Path) -> None:
    """Write `trades` to `output` and say so on stderr, because stdout may be JSON."""
    from ema_assets.operations.export import write_file

    try:
        write_file(trades, output, _form_of(output))
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror or error}") from error
    click.echo(f"Wrote {output}: {counted(trades.height, 'trade')}", err=True)


def _known(database: Database, symbols: Sequence[str]) -> list[str]:
    """Return those of `symbols` that the database knows. One that was just added has no bars yet and is left out.

    Raises:
        ConfigurationError: when it knows none of them.
    """
    with database.transaction() as transaction:
        known = set(ledger.known_symbols(transaction))
    if known.isdisjoint(symbols):
        raise ConfigurationError(f"there are no bars of {first_of(symbols, _NAMED)} yet; `ema-assets status` says why")
    return [symbol for symbol in symbols if symbol in known]


def _warn_of_splits(flagged: pl.DataFrame) -> None:
    """Print which of the traded bars look like a split that the prices are not adjusted for."""
    found = flagged.filter(pl.col("detail").str.contains(LIKE_A_SPLIT, literal=True))
    if found.height:
        bars = [f"{symbol} {ts:%Y-%m-%d %H:%M}" for symbol, ts in found.select("symbol", "ts").rows()]
        click.echo(
            "Traded as falls and rises, but they look like splits that the prices are not adjusted for: "
            f"{first_of(bars, _NAMED)} (UTC); `ema-assets quality --symbol {found['symbol'][0]}` shows them",
            err=True,
        )


def _options(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the options in `KEY=VALUE` texts; an option with several values is a list."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        key, _, text = (each.strip() for each in assignment.partition("="))
        # A value with a comma is quoted, as in a CSV file.
        texts = itertools.chain(*csv.reader(text.splitlines(), skipinitialspace=True))
        values = [_value(each.strip()) for each in texts if each.strip()]
        if not key or not values:
            raise ConfigurationError(f"`--set` must be such as fast=12 or fast=5,9,12, received {assignment!r}")
        if key in _NOT_SET:
            raise ConfigurationError(f"`{key}` is not set with `--set`; see `ema-assets backtest --help`")
        if key in found:
            raise ConfigurationError(f"`--set {key}=…` is given twice; give all values at once, such as {key}=5,9")
        found[key] = values[0] if len(values) == 1 else values
    return found


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    # Python takes 1_0 for ten, and people mistype a point or a comma.
    if "_" in text:
        return text
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _show_run(found: "Backtest", by: str, limit: int, *, as_json: bool) -> None:
    _show_choices(found.performance, by, limit, as_json=as_json)
    if not as_json:
        _print_together(found)


def _show_sweep(found: pl.DataFrame, by: str, limit: int, *, as_json: bool) -> None:
    _show_choices(found, by, limit, as_json=as_json)
    if not as_json:
        tried = found.select(found.columns[: found.columns.index("symbol")]).n_unique()
        of = counted(tried, "choice was", "choices were")
        click.echo(f"{of} tried, best first: the best of many is partly luck")


def _show_choices(found: pl.DataFrame, by: str, limit: int, *, as_json: bool) -> None:
    rows = _best_first(found, by)
    if as_json:
        rendering.print_json(rows.to_dicts())
        return
    _print_figures(rows, limit)


def _show_walk(walk: "WalkForward", by: str, limit: int, *, as_json: bool) -> None:
    if as_json:
        rendering.print_json({"windows": walk.windows.to_dicts(), "performance": walk.performance.to_dicts()})
        return
    figures = {f"train_{by}": f"{by} before", f"test_{by}": "and after"}
    rows = walk.windows.drop("window", "train_from").rename(
        {"test_from": "test from", "test_until": "until", **figures}
    )
    told = percent if by in _GAINS else cell
    cells = [[*map(cell, row[:-2]), told(row[-2]), told(row[-1])] for row in rows.rows()]
    rendering.print_table(rows.columns, cells)
    click.echo("\nAll tests together:")
    _print_figures(_best_first(walk.performance, by), limit)
    _print_together(walk)


def _print_together(found: "Backtest | WalkForward") -> None:
    """Print the result of all symbols together, if there are several whose equity is defined."""
    whole = found.portfolio()
    if found.performance.height > 1 and not whole.is_empty():
        total, deepest = (whole["equity"][-1] - 1) * 100, abs(float(whole["drawdown_pct"].min()))  # type: ignore[arg-type]
        left_out = found.performance.filter(pl.col("undefined_returns") > 0)["symbol"].to_list()
        which = f"All but {first_of(left_out, _NAMED)}" if left_out else "All of them"
        click.echo(f"{which} with equal weights: {percent(total)}, deepest fall {deepest:.2f} %")


def _best_first(rows: pl.DataFrame, by: str) -> pl.DataFrame:
    return rows.sort(ranked_by(by), descending=True, nulls_last=True, maintain_order=True)


def _print_figures(rows: pl.DataFrame, limit: int) -> None:
    """Print the options that were varied, and the most important figures."""
    options = rows.columns[: rows.columns.index("symbol")]
    head = (
        *options,
        "symbol",
        "bars",
        "trades",
        "won",
        "return",
        "drawdown",
        "Sharpe",
        "profit factor",
        "buy & hold",
        "remark",
    )
    rendering.print_table(head, [_row(row, options) for row in rows.head(limit).iter_rows(named=True)])
    if (more := rows.height - limit) > 0:
        click.echo(f"{counted(more, 'more row')}; --limit shows more of them")


def _row(found: Mapping[str, Any], options: Sequence[str]) -> tuple[str, ...]:
    won, drawdown, sharpe, profit = (
        found[name] for name in ("win_rate_pct", "max_drawdown_pct", "sharpe", "profit_factor")
    )
    return (
        *(cell(found[name]) if found[name] is not None else "none" for name in options),
        found["symbol"],
        str(found["bars"]),
        f"{found['trades']}" + (f" + {found['open_trades']} open" if found["open_trades"] else ""),
        "" if won is None else f"{won:.0f} %",
        percent(found["total_return_pct"]),
        "" if drawdown is None else f"{drawdown:.2f} %",
        "" if sharpe is None else f"{sharpe:.2f}",
        "" if profit is None else f"{profit:.2f}",
        percent(found["buy_and_hold_pct"]),
        found["remark"] or "",
    )
