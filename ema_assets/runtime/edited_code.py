"""Files of own signals and rules that were edited without a new `version`: nothing is computed again."""

import ast
import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ema_assets.config.shared_files import replace_text
from ema_assets.refresh.graph import Graph, Node
from ema_assets.refresh.own_code import file_of, function_of

# For a file: the hash of its syntax tree, without comments and layout, and what it declares: pairs of a name with its
# version, and with each of its columns. Another version, and a new column, are computed from the first bar.
_Code = tuple[str, frozenset[tuple[str, str]]]
# Another Python may parse the same text differently.
_PYTHON = platform.python_version()
_BESIDE = ", or a file next to it that it imports,"


class _Parsed(NamedTuple):
    """A file: its text, the hash of its syntax tree, and the files that it imports by relative imports."""

    text: str
    code: str
    imports: tuple[str, ...]


class EditedCode:
    """Reports each such edit once, for files that this or an earlier process has seen; `record` stores their state."""

    def __init__(self, say: Callable[[str], None], record: Path) -> None:
        self._say = say
        self._record = record
        self._known: dict[str, _Code] = {}
        self._files: dict[str, _Parsed] = {}
        # A record that cannot be read is written again.
        with suppress(OSError, ValueError, LookupError, TypeError):
            kept = json.loads(record.read_text(encoding="utf-8"))
            if kept["python"] == _PYTHON:
                for path, (digest, versions) in kept["files"].items():
                    self._known[path] = digest, frozenset((name, version) for name, version in versions)

    def looked(self, graph: Graph) -> Graph:
        """Return `graph`, after checking the files that its signals and rules come from."""
        declared: dict[str, set[tuple[str, str]]] = {}
        for node in graph.on:
            if (found := _declared(node)) is not None:
                path, name, details = found
                declared.setdefault(path, set()).update((name, each) for each in details)
        seen = dict(self._known)
        for path, versions in declared.items():
            code = self._does(path), frozenset(versions)
            before = self._known.get(path, code)
            if code[0] != before[0] and code[1] <= before[1]:
                names = ", ".join(sorted({name for name, _ in versions}))
                self._say(
                    f"  {path}{_BESIDE if self._imports(path) else ''} has changed and the `version` of {names} has "
                    "not: what is stored stays as it was computed, and new bars are computed in the new way. Raise "
                    "`version` when that gives other values"
                )
            self._known[path] = code
        if self._known != seen:
            self._keep()
        return graph

    def _keep(self) -> None:
        files = {path: (digest, sorted(versions)) for path, (digest, versions) in sorted(self._known.items())}
        # On a full disk, the only consequence is that the next process knows less.
        with suppress(OSError):
            replace_text(self._record, json.dumps({"python": _PYTHON, "files": files}, indent=1) + "\n")

    def _does(self, path: str) -> str:
        """Return the hash of a file's code, together with that of the files that it imports by relative imports."""
        try:
            found = [self._parsed(each).code for each in (path, *self._imports(path))]
        except (OSError, ValueError, SyntaxError):  # the file is being written
            return self._known[path][0] if path in self._known else ""
        return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()

    def _imports(self, path: str) -> list[str]:
        """Return the files that `path` imports by relative imports, directly or not, in the order found."""
        found = [path]
        for each in found:
            with suppress(OSError, ValueError, SyntaxError):
                found += [other for other in self._parsed(each).imports if other not in found]
        return found[1:]

    def _parsed(self, path: str) -> _Parsed:
        """Return the parsed file; it is parsed again only when its text has changed."""
        text = Path(path).read_text(encoding="utf-8")
        before = self._files.get(path)
        if before is None or before.text != text:
            tree = ast.parse(text)
            code = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
            self._files[path] = before = _Parsed(text, code, tuple(_imported(tree, Path(path))))
        return before


def _imported(tree: ast.Module, path: Path) -> Iterator[str]:
    """Yield the files that `path` imports with dots: `from ._helpers import …` and `from . import _helpers`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(path.parents):
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for module in (folder, *(folder / alias.name for alias in node.names)):
                yield from (str(file) for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file())


def _declared(node: Node) -> tuple[str, str, tuple[str, ...]] | None:
    """Return a node's own file, its signal or rule, and the version and columns; None if it is not a user's own."""
    function = function_of(node)
    path = None if function is None else file_of(function)
    if path is None:
        return None
    if node.signal is not None:
        columns = (f"{each.name} {each.kind}" for each in node.signal.columns)
        return path, node.signal.name, (node.signal.version, *columns)
    assert node.variant is not None
    return path, node.variant.rule.name, (node.variant.rule.version,)
