"""Database URLs: the forms that libpq and Dagster need, and one without its password. No I/O."""

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit


def libpq_url(url: str) -> str:
    """`url` as libpq, psql and ADBC read it: scheme `postgresql`, no driver name."""
    parts = urlsplit(url)
    return _joined("postgresql", parts.netloc, parts.path, parts.query)


def dagster_url(url: str) -> str:
    """`url` as Dagster's storage needs it: the psycopg2 driver named, tables in the schema `dagster`, times in UTC.

    Dagster keeps times without a zone, which a server writes by the zone of the session, and reads them as UTC.
    SQLAlchemy 2.1 picks psycopg 3 for a bare `postgresql://`, with which dagster-postgres 0.29 fails every run.

    `options` that `url` has of its own, such as a role or a limit on statements, hold for Dagster, too.
    """
    return _joined("postgresql+psycopg2", *_with_options(url, _OPTIONS_OF_DAGSTER))


def without_quotes(url: str) -> str:
    """`url` (libpq form) whose sessions name tables and functions without needless quotes, whatever the server does.

    Where quote_all_identifiers is on, the driver of ADBC does not find the functions by which it knows types.
    """
    return _joined(urlsplit(url).scheme, *_with_options(url, "-cquote_all_identifiers=off"))


def _with_options(url: str, options: str) -> tuple[str, str, str]:
    """Host, path and query of `url` with these options of the server behind its own: of two values the last counts."""
    parts = urlsplit(url)
    said = _parameters(parts.query)
    every = " ".join([*[value for key, value in said if key == "options"][-1:], options])
    query = [*[(key, value) for key, value in said if key != "options"], ("options", every)]
    return parts.netloc, parts.path, urlencode(query, quote_via=quote)


def named_url(url: str, name: str | None) -> str:
    """`url` (libpq form) whose sessions are called `name`; as it is without one."""
    if name is None:
        return url
    parts = urlsplit(url)
    query = [(key, value) for key, value in _parameters(parts.query) if key != "application_name"]
    query.append(("application_name", name))
    return _joined(parts.scheme, parts.netloc, parts.path, urlencode(query, quote_via=quote))


def with_settings(url: str, **settings: str) -> str:
    """`url` (libpq form) with these parameters, such as `connect_timeout`; others of the same names go."""
    parts = urlsplit(url)
    query = [(key, value) for key, value in _parameters(parts.query) if key not in settings]
    return _joined(parts.scheme, parts.netloc, parts.path, urlencode([*query, *settings.items()], quote_via=quote))


def watched_url(url: str) -> str:
    """`url` (libpq form, or with a driver) whose connections end 30 s after the network has cut them off.

    By itself a process waits a quarter of an hour for an answer, and two hours idle. What `url` says of it stays.
    """
    said = {key for key, _ in _parameters(urlsplit(url).query)}
    return with_settings(url, **{key: value for key, value in _WATCHED.items() if key not in said})


def without_password(url: str) -> tuple[str, str | None]:
    """`url` (libpq form) without its password, and the password; None when it holds none.

    Arguments of a program can be read by every user of the machine, its environment by its own user only.
    """
    parts = urlsplit(url)
    query = _parameters(parts.query)
    inside = unquote(parts.password) if parts.password else None
    password = next((value for key, value in query if key == "password"), inside)
    netloc = re.sub(r"^([^:@]*):.*@", r"\1@", parts.netloc)
    rest = urlencode([(key, value) for key, value in query if key != "password"], quote_via=quote)
    return _joined(parts.scheme, netloc, parts.path, rest), password


def masked_url(url: str) -> str:
    """`url` with its password, if any, replaced by `***`: fit for a log or a screen."""
    parts = urlsplit(url)
    netloc = re.sub(r"^([^:@]*):.*@", r"\1:***@", parts.netloc)
    return _joined(parts.scheme, netloc, parts.path, re.sub(r"(?i)(password=)[^&]*", r"\1***", parts.query))


def _parameters(query: str) -> list[tuple[str, str]]:
    """The parameters of a URL as libpq reads them: a plus sign is no blank."""
    return parse_qsl(query.replace("+", "%2B"))


def _joined(scheme: str, netloc: str, path: str, query: str) -> str:
    # Not urlunsplit, which drops the slashes of a URL without a host (a server on a Unix socket).
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{query}"


def without_libpq_settings(environment: dict[str, str]) -> dict[str, str]:
    """A copy of `environment` without the PG… variables that would change what the URL says.

    PGPASSWORD wins over a passfile, PGHOSTADDR over the host, and PGSSLMODE=require fails on a server without TLS.
    """
    return {name: value for name, value in environment.items() if name not in _LIBPQ_VARIABLES}


_OPTIONS_OF_DAGSTER = "-csearch_path=dagster -ctimezone=UTC"

_WATCHED = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000"}

_LIBPQ_VARIABLES = {
    *("PGHOSTADDR", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE", "PGREQUIREAUTH", "PGCHANNELBINDING"),
    *("PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGGSSENCMODE", "PGTARGETSESSIONATTRS"),
    *("PGOPTIONS", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE"),
}
