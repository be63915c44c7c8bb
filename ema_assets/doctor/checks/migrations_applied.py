"""The check of migrations: whether the database has exactly the migrations of this version."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.model.counts import noun
from ema_assets.store import diagnosis
from ema_assets.store.migrations import all_migrations


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None:
        return
    with seen.database.transaction() as transaction:
        transaction.read_one_moment()
        applied = diagnosis.applied_migrations(transaction)
    known = all_migrations()
    newest = max(applied, default=0)
    edited = [str(each) for each in known if applied.get(each.number, each.sha256) != each.sha256]
    missing = [str(each) for each in known if each.number not in applied]
    if newest > known[-1].number:
        yield error(
            f"the database was migrated to {newest} by a newer ema-assets; this one knows {known[-1].number}",
            "install the newer version",
        )
    elif edited:
        yield error(f"{', '.join(edited)} was edited after it had been applied", "put the file back as it was")
    elif missing:
        yield warning(
            f"{len(missing)} of {len(known)} migrations {noun(len(missing), 'is', 'are')} to be applied",
            "`ema-assets up` and `ema-assets migrate` do it; make a backup first if there is data",
        )
    else:
        yield ok(f"all {len(known)} migrations are applied")


CHECK = Check("migrations", 30, _look)
