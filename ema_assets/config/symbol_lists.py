"""Lists of symbols as people have them: one per line, or a column of a CSV. Reads files; changes no watchlist."""

import csv
import re
from pathlib import Path

from ema_assets.market.listings import check_spelling
from ema_assets.model.errors import ConfigurationError, InvalidKeyError

_HEADS = ("symbol", "ticker", "symbols", "tickers")
_DELIMITERS = ",;\t"
_SECTION = re.compile(r"###[^,]*(,|$)")


def read_symbols(path: Path) -> list[str]:
    """Return the symbols of the file at `path`, each once, in its order; some may be written as other vendors do.

    A head line that holds `symbol` or `ticker` names the column; without one it is the first column. A single line, as
    TradingView writes it, has symbols only. Empty lines, text after # and the sections of TradingView are left out.

    Raises:
        ConfigurationError: when the file cannot be read or lists nothing, or naming the first line with something that
            is no symbol.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigurationError(f"{path} cannot be read as a list of symbols: {reason}") from None
    lines = [_SECTION.sub("", line).partition("#")[0].strip() for line in text.splitlines()]
    # The first one in the file: names may have more commas, as in `AAPL;Apple, Inc.`.
    delimiter = next((letter for line in lines for letter in line if letter in _DELIMITERS), ",")
    column, found, last = 0, dict[str, None](), len(lines)
    lines = _one_per_line(lines)
    is_first = True
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
        heads = [place for place, cell in enumerate(cells) if cell.lower() in _HEADS]
        if is_first and heads:
            (column, *_), is_first = heads, False
            continue
        is_first = False
        text = cells[column].upper() if column < len(cells) else ""
        try:
            # One in the spelling of another vendor is refused by its name, as every other that is not clear.
            check_spelling(text)
        except InvalidKeyError as error:
            raise ConfigurationError(f"{path}, line {min(number, last)}: {error}") from None
        found[text] = None
    if not found:
        raise ConfigurationError(f"{path} lists no symbol; one per line, or a CSV with a column `symbol`")
    return list(found)


def _one_per_line(lines: list[str]) -> list[str]:
    """Return a symbol per line if `lines` are one line of them: `AAPL,MSFT`, but not `AAPL,Apple` or a head."""
    cells = [cell.strip() for line in lines for cell in re.split(f"[{_DELIMITERS}]", line) if cell.strip()]
    if sum(map(bool, lines)) != 1 or any(cell.lower() in _HEADS for cell in cells):
        return lines
    return cells if all(cell in (cell.upper(), cell.lower()) and " " not in cell for cell in cells) else lines
