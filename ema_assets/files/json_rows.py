"""Tables in JSON: arrays of objects or arrays, objects of columns, and the wrappings of vendors. Reads no file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from ema_assets.files.cells import Table, numbered
from ema_assets.files.columns import is_known, plain
from ema_assets.files.words import timeframe_key
from ema_assets.model.errors import BarFileError

_FACTS = {
    "symbol": ("symbol", "ticker", "2 symbol", "instrument", "code", "pair"),
    "timeframe": ("interval", "timeframe", "granularity", "resolution", "data granularity", "4 interval"),
    # Alpha Vantage numbers it differently in each kind of answer.
    "zone": ("time zone", "timezone", *(f"{number} time zone" for number in range(4, 8))),
}
# Names of arrays that are not symbols, in upper or lower case.
_WRAPPINGS = ("bars", "candles", "data", "history", "klines", "ohlc", "ohlcv", "prices", "quotes", "results", "values")

_TIMES = ("date", "datetime", "timestamp", "ts", "time")

# Names beside the `code` of an answer that is a number and no symbol.
_ANSWERS = frozenset({"data", "result", "results", "msg", "message"})


def read_json(text: str) -> Table:
    """Return the table of a JSON document, or of lines that are one document each.

    Raises:
        BarFileError: when the text cannot be parsed or has no rows of bars. The message does not name the file.
    """
    form = "JSON"
    try:
        document = _parsed(text)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            document, form = [_parsed(line) for line in lines], "NDJSON"
        except json.JSONDecodeError:
            raise BarFileError(f"cannot be read as JSON: {error}") from None
    parts = list(_parts(document, {}))
    if not parts:
        raise BarFileError("holds no table of bars: nowhere in this JSON are rows with prices")
    rows = [row for records, facts in parts for row in _rows(records, facts if len(parts) > 1 else {})]
    return _table(rows, form, parts[0][1] if len(parts) == 1 else {})


def _parsed(text: str) -> Any:
    # Numbers stay text, so that they are read like the numbers of other files. So does NaN, which Python writes.
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


Row = dict[str, str | None]
Part = tuple[Sequence[Any], dict[str, str]]


def _parts(node: Any, facts: dict[str, str]) -> Iterator[Part]:
    """Yield every array of records below `node`, with the symbol, timeframe and zone found in the objects around it."""
    if isinstance(node, list):
        if node and all(_is_record(each) for each in node):
            yield node, facts
        else:
            for each in node:
                yield from _parts(each, facts)
    elif isinstance(node, dict):
        facts = _facts(node, facts)
        if (split := _split(node)) is not None:
            yield split, facts
        elif (columns := _columns(node)) is not None:
            yield columns, facts
        elif (keyed := _keyed(node)) is not None:
            yield keyed, facts
        else:
            inner = {name: list(_parts(each, facts)) for name, each in node.items()}
            are_many = sum(map(bool, inner.values())) > 1
            for name, parts in inner.items():
                own = _said_by_name(name, is_array=isinstance(node[name], list), are_many=are_many)
                yield from ((records, {**own, **known}) for records, known in parts)


def _said_by_name(name: str, *, is_array: bool, are_many: bool) -> dict[str, str]:
    """Return the timeframe or the symbol that the name of an array or object of bars tells.

    A name is a symbol when there are several arrays or objects of bars (`are_many`), or when that of an array is in
    capitals. Other arrays are usually named after their contents, such as `candles`.
    """
    if is_known(plain(name)) or name.lower() in _WRAPPINGS:
        return {}
    if any(letter.isdigit() for letter in name) and timeframe_key(name):
        return {"timeframe": name}
    return {"symbol": name} if are_many or (is_array and name == name.upper()) else {}


def _is_record(node: Any) -> bool:
    if isinstance(node, dict):
        names = {plain(name) for name in _flat(node)}
        return bool(names & {"close", "c", "4 close", "value", "price", "close price"}) and len(names) > 1
    return isinstance(node, list) and len(node) >= 5 and all(isinstance(each, str | None) for each in node)


def _facts(node: Mapping[str, Any], facts: dict[str, str]) -> dict[str, str]:
    found = dict(facts)
    for scope in (node, *(each for name, each in node.items() if "meta" in name.lower() and isinstance(each, dict))):
        for name, value in scope.items():
            for fact, aliases in _FACTS.items():
                is_one = plain(name) in aliases and isinstance(value, str) and value.strip()
                if is_one and (timeframe_key(value) if fact == "timeframe" else not _is_status(name, value, scope)):
                    found[fact] = value.strip()
    return found


def _is_status(name: str, value: str, around: Mapping[str, Any]) -> bool:
    """Return whether a `code` in the object `around` says how a request went, as in answers of OKX and KuCoin."""
    return plain(name) == "code" and value.strip().isdigit() and not _ANSWERS.isdisjoint(map(plain, around))


def _columns(node: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of an object of columns, as chart APIs and pandas write them; None for any other object.

    The columns are arrays of equal length, or objects with the same index.
    """
    flat: dict[str, Any] = {}
    for name, each in node.items():
        if name == "indicators" and isinstance(each, dict):
            for group in each.values():
                flat |= {key: values for part in group for key, values in part.items()}
        else:
            flat[name] = each
    arrays = {name: each for name, each in flat.items() if isinstance(each, list) and each and _is_flat(each)}
    if (
        len(arrays) > 1
        and {plain(name) for name in arrays} & {"close", "c"}
        and len(set(map(len, arrays.values()))) == 1
    ):
        return [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]
    objects = {name: each for name, each in node.items() if isinstance(each, dict)}
    if len(objects) > 1 and len(objects) == len(node) and {plain(name) for name in objects} & {"close", "c"}:
        index = list(next(iter(objects.values())))
        has_time = any(plain(name) in _TIMES for name in objects)
        named = {} if has_time else {"ts": dict(zip(index, index, strict=True))}
        return [{name: each.get(key) for name, each in (named | objects).items()} for key in index]
    return None


def _split(node: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of an object that has `columns`, `data` and usually `index`, which pandas calls split or tight.

    None for any other object.
    """
    names, rows, index = node.get("columns"), node.get("data"), node.get("index")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(name, str) for name in names):
        return None
    if not {plain(name) for name in names} & {"close", "c", "price", "value"}:
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return None
    has_time = any(plain(name) in _TIMES for name in names)
    if has_time or not isinstance(index, list) or len(index) != len(rows) or not _is_flat(index):
        return [dict(zip(names, row, strict=True)) for row in rows]
    return [{"ts": moment, **dict(zip(names, row, strict=True))} for moment, row in zip(index, rows, strict=True)]


def _is_flat(values: Sequence[Any]) -> bool:
    return all(isinstance(each, str | None) for each in values)


def _keyed(node: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of an object of objects whose names are the times; None for any other object."""
    are_records = node and all(isinstance(each, dict) and _is_record(each) for each in node.values())
    # An object of columns may also have a name with digits, such as `1d`.
    are_rows = are_records and not any(isinstance(cell, list) for each in node.values() for cell in each.values())
    if are_rows and all(any(letter.isdigit() for letter in name) for name in node):
        return [{"ts": name, **each} for name, each in node.items()]
    return None


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with nested objects flattened. Of bid, ask and mid prices, the first present ones are taken."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            for inner, each in value.items():
                found.setdefault(inner, each)
        else:
            found[name] = value
    return found


def _rows(records: Sequence[Any], facts: Mapping[str, str]) -> Iterator[Row]:
    for record in records:
        cells = _flat(record) if isinstance(record, dict) else {str(place): each for place, each in enumerate(record)}
        yield {**facts, **{name: _text(value) for name, value in cells.items()}}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None if value is None else json.dumps(value)


def _table(rows: Sequence[Row], form: str, facts: Mapping[str, str]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = pl.DataFrame(
        {str(place): [row.get(name) for row in rows] for place, name in enumerate(names)},
        schema={str(place): pl.String() for place in range(len(names))},
    ).with_columns(numbered())
    is_headless = names == [str(place) for place in range(len(names))]
    return Table(cells, () if is_headless else (tuple(names),), form, facts=dict(facts))
