"""The check of signals and strategies, including the user's own: whether they load and fit together."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.own_modules import files_of


def _look(seen: Surroundings) -> Iterator[Finding]:
    from ema_assets.refresh.graph import build

    settings = seen.settings
    folders = [folder for folder in (settings.signals_folder, settings.strategies_folder) if folder is not None]
    if seen.watched is None:
        return
    try:
        graph = build(seen.watched, settings.signals_folder, settings.strategies_folder)
    except ConfigurationError as refused:
        yield error(str(refused), "correct the file, or move it out of the folder; every process loads it")
    else:
        own = sum(1 for folder in folders for _ in files_of(folder, "signals and strategies"))
        files = f", from {counted(own, 'file')} of your own" if own else ""
        yield ok(f"{counted(len(graph.nodes), 'asset')}{files}")


CHECK = Check("signals and strategies", 70, _look)
