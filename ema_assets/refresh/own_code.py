"""Which function computes an asset, and which edition of a user's own file it comes from. Computes nothing."""

import hashlib
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ema_assets.model.own_modules import is_own
from ema_assets.model.own_packages import state_of
from ema_assets.refresh.graph import Node


def function_of(node: Node) -> Callable[..., object] | None:
    """Return the `compute` of the node's signal or the `evaluate` of its strategy's rule; None for bars."""
    if node.signal is not None:
        return node.signal.compute
    return None if node.variant is None else node.variant.rule.evaluate


def file_of(function: Callable[..., object]) -> str | None:
    """Return the file of a user's own `function`; None for functions of this package, or if it is not known."""
    function = inspect.unwrap(function)
    while isinstance(function, partial):
        function = inspect.unwrap(function.func)
    code = getattr(function, "__code__", None)
    return str(code.co_filename) if code is not None and is_own(function) else None


def edition_of(node: Node) -> str | None:
    """Return a text that differs after an edit of the user's own file that computes `node`, or of one it imports.

    It is equal on all hosts that have the same files, and None when code of this package computes the node.
    """
    function = function_of(node)
    path = None if function is None else file_of(function)
    if path is None:
        return None
    digest = hashlib.sha256()
    for each, *_ in state_of(path):
        with suppress(OSError):  # an editor is replacing it
            digest.update(Path(each).read_bytes())
    return digest.hexdigest()
