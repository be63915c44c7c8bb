"""The check of Dagster's own tables: whether they are those of the installed Dagster, which is not imported."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.store import diagnosis

# Where Dagster keeps its migrations, each of which names the one before it.
_VERSIONS = Path("_core", "storage", "alembic", "versions")
_NAMED = re.compile(r'^(down_)?revision(?:: *[^=]+)? *= *["\'](\w+)["\']', re.MULTILINE)


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None:
        return
    with seen.database.transaction() as transaction:
        there = diagnosis.dagster_revision(transaction)
    if there is None:
        return  # not made yet, or kept elsewhere
    found = [match.groups() for text in _migrations() for match in _NAMED.finditer(text)]
    known = {name for is_before, name in found if not is_before}
    newest = known - {name for is_before, name in found if is_before}
    if not newest:
        return  # not as we know Dagster
    if there in newest:
        yield ok("Dagster's tables are those of the installed Dagster")
    elif there in known:
        yield warning(
            f"Dagster's tables are of its revision {there}, and the installed Dagster has {', '.join(sorted(newest))}",
            "stop everything, make a backup with `--with-dagster`, and run "
            f"`DAGSTER_HOME={seen.settings.dagster_home} dagster instance migrate`",
        )
    else:
        yield error(
            f"Dagster's tables are of its revision {there}, which the installed Dagster does not know",
            "a newer Dagster has migrated them: install it again, or restore a backup from before",
        )


def _migrations() -> Iterator[str]:
    """The text of each migration of the installed Dagster."""
    found = importlib.util.find_spec("dagster")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        for path in sorted(Path(folder, _VERSIONS).glob("*.py")):
            yield path.read_text(encoding="utf-8")


CHECK = Check("dagster tables", 92, _look)
