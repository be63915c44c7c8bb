"""The check of the database: reachable, version, role, free connections, size, autovacuum."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.model.errors import EmbeddedServerError
from ema_assets.model.urls import masked_url
from ema_assets.store import diagnosis
from ema_assets.store.roles import READER

OLDEST = 150_000
_TOO_FEW_CONNECTIONS = 3


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None:
        yield _without(seen)
        return
    with seen.database.transaction() as transaction:
        transaction.read_one_moment()
        server = diagnosis.server(transaction)
    url = masked_url(seen.database.url).partition("?")[0]
    text = f"PostgreSQL {server.version_text} at {url}, role {server.role}, {server.bytes / 1e6:,.0f} MB"
    if server.version < OLDEST:
        yield error(text, "use PostgreSQL 15 or newer")
    elif (server.is_standby or server.is_read_only) and server.may_read is not False:
        yield _for_reading(server, text)
    elif not server.may_write:
        yield _without_writing(server, text)
    elif server.encoding != "UTF8":
        yield warning(f"{text}, encoding {server.encoding}", "symbols and messages need UTF8: use a database made so")
    else:
        yield ok(text)
    if not server.has_autovacuum:
        yield warning(
            "the server does not vacuum by itself: tables and indexes grow with every change, and plans get slow",
            "set autovacuum and track_counts to on in postgresql.conf, and reload the server",
        )
    yield _connections(server)


def _for_reading(server: diagnosis.Server, text: str) -> Finding:
    """Return the finding on a read-only server, database or role, which is sufficient for reading."""
    what, elsewhere = "a standby, which follows its primary and can only be read", "its primary"
    if not server.is_standby:
        what, elsewhere = "default_transaction_read_only is on, so that it can only be read", "one where that is off"
    if server.may_read is None:
        return error(f"{text}: {what}, and has no tables yet", f"run `ema-assets migrate` against {elsewhere} first")
    if not server.may_write:
        return ok(f"{text}: {what}, enough for the commands that read")
    return warning(
        f"{text}: {what}, enough for the commands that read",
        f"for `up` and everything else that writes, set EMA_DATABASE_URL to {elsewhere}",
    )


def _without_writing(server: diagnosis.Server, text: str) -> Finding:
    """Return the finding on a role that cannot create tables. Granting that is advised only while there are none."""
    if server.may_read:
        return ok(f"{text}: read-only role, enough for the commands that read")
    if server.may_read is None:
        return error(
            f"{text}: the role may not make tables",
            f"let it: GRANT CREATE ON DATABASE … TO {server.role}, or log in as the owner of the database",
        )
    return error(
        f"{text}: the role may neither read nor write the tables",
        f"to read: GRANT {READER} TO {server.role}; to write, log in as the owner of the schema market",
    )


def _connections(server: diagnosis.Server) -> Finding:
    text = f"{server.connections_free} of {server.connections} connections are free"
    remedy = "raise max_connections of the server, or the limit of the role or database, or close what else uses it"
    if server.connections_free < _TOO_FEW_CONNECTIONS:
        return error(text, remedy)
    return warning(text, remedy) if server.has_few_connections else ok(text)


def _without(seen: Surroundings) -> Finding:
    if seen.database_error is not None:
        return error(seen.database_error, "start the server, and see that host, port, role and password are right")
    from ema_assets.runtime.postgres import cluster
    from ema_assets.runtime.postgres.server_files import Files

    files = Files(seen.settings.postgres_folder)
    try:
        programs = cluster.programs()
        if files.data.exists():
            cluster.check_version(files, programs)
    except (EmbeddedServerError, OSError) as refused:
        return error(str(refused), "without it nothing can be stored")
    return warning("the embedded PostgreSQL does not run", "start everything with `ema-assets up` and look again")


CHECK = Check("database", 20, _look)
