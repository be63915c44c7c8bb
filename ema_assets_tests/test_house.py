"""Tests of the order of the code: short modules and functions, unique names, docstrings and the use of words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "ema_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = 400
# One screen, without the docstring.
MOST_LINES_OF_A_FUNCTION = 55

# Modules in these rooms may have the names of modules in other rooms: the command line shows what other rooms do, the
# sandbox speaks the formats of the vendors, and an asset records what an operation does.
MIRRORS = ("cli", "sandbox", "defs")
# Every family of records has modules with these names.
OF_EACH_FAMILY = ("declaration", "discovery")

# Words that had several meanings, and their replacements. The glossary is in CONTRIBUTING.md.
RETIRED_WORDS = {
    r"put[ _]aside": "skipped",
    r"spoil(s|ed|t)?": "poison",
    r"in_halves": "bisect",
    r"complaints?": "configuration drift, or what is wrong with it",
    r"fuses?": "circuit breaker",
    r"blown": "open",
    r"sift(s|ed)?": "validate",
}
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")


def _path(module: Path) -> str:
    return str(module.relative_to(REPOSITORY))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {_path(module): len(module.read_text().splitlines()) for module in MODULES}
    assert len(lengths) > 100
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{_path(module)}: {function.name}": _lines_of_code(function)
        for module in MODULES
        for function in _functions(ast.parse(module.read_text()))
    }
    assert len(lengths) > 800
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}


def test_no_two_rooms_have_modules_with_the_same_name_unless_one_mirrors_others() -> None:
    rooms: dict[str, set[str]] = {}
    for module in MODULES:
        name = module.parent.name if module.name == "__init__.py" else module.stem
        room = module.relative_to(PACKAGE).parts[0]
        if not name.startswith("__") and room not in MIRRORS and name not in OF_EACH_FAMILY:
            rooms.setdefault(name, set()).add(room)
    assert {name: found for name, found in rooms.items() if len(found) > 1} == {}


def test_the_first_line_of_every_module_is_a_sentence() -> None:
    for module in MODULES:
        first = (ast.get_docstring(ast.parse(module.read_text())) or "").splitlines()[:1]
        assert first, _path(module)
        assert re.fullmatch(r"[`A-Z].{15,}[.:]", first[0]), (_path(module), first[0])


@pytest.mark.parametrize("word", RETIRED_WORDS)
def test_a_retired_word_is_not_used(word: str) -> None:
    pages = [*(REPOSITORY / name for name in PAGES), *sorted((REPOSITORY / "docs").glob("*.md"))]
    sources = [*MODULES, *sorted(PACKAGE.rglob("*.sql")), *sorted(PACKAGE.rglob("*.toml"))]
    pattern = re.compile(rf"(?<![a-z]){word}(?![a-z])", re.IGNORECASE)
    lines = [
        f"{_path(file)}:{number}: {line.strip()}"
        for file in [*sources, *pages]
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]
    assert lines == [], f"say {RETIRED_WORDS[word]}"
