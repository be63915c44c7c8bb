"""Database URLs in the forms that libpq and Dagster need, and without the password. No I/O."""

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit


def libpq_url(url: str) -> str:
    """Return `url` in the form for libpq, psql and ADBC: scheme `postgresql`, no driver name."""
    parts = urlsplit(url)
    return _joined("postgresql", parts.netloc, parts.path, parts.query)


def dagster_url(url: str) -> str:
    """Return `url` in the form for Dagster's storage: with the psycopg2 driver, the schema `dagster` and times in UTC.

    Dagster stores times without a zone, which the server writes in the zone of the session, and reads them as UTC.
    For a bare `postgresql://`, SQLAlchemy 2.1 picks psycopg 3, with which every run fails in dagster-postgres 0.29.

    The `options` of `url` itself, such as a role or a statement limit, apply to Dagster, too.
    """
    return _joined("postgresql+psycopg2", *_with_options(url, _OPTIONS_OF_DAGSTER))


def without_quotes(url: str) -> str:
    """Return `url` (libpq form) with quote_all_identifiers off in its sessions, whatever the server's setting.

    When it is on, the ADBC driver does not find the functions by which it recognises types.
    """
    return _joined(urlsplit(url).scheme, *_with_options(url, "-cquote_all_identifiers=off"))


def _with_options(url: str, options: str) -> tuple[str, str, str]:
    """Return host, path and query of `url` with these server options after its own: the last of two values counts."""
    parts = urlsplit(url)
    said = _parameters(parts.query)
    every = " ".join([*[value for key, value in said if key == "options"][-1:], options])
    query = [*[(key, value) for key, value in said if key != "options"], ("options", every)]
    return parts.netloc, parts.path, urlencode(query, quote_via=quote)


def named_url(url: str, name: str | None) -> str:
    """Return `url` (libpq form) with the application name `name`; unchanged if it is None."""
    if name is None:
        return url
    parts = urlsplit(url)
    query = [(key, value) for key, value in _parameters(parts.query) if key != "application_name"]
    query.append(("application_name", name))
    return _joined(parts.scheme, parts.netloc, parts.path, urlencode(query, quote_via=quote))


def with_settings(url: str, **settings: str) -> str:
    """Return `url` (libpq form) with these parameters, such as `connect_timeout`, set or replaced."""
    parts = urlsplit(url)
    query = [(key, value) for key, value in _parameters(parts.query) if key not in settings]
    return _joined(parts.scheme, parts.netloc, parts.path, urlencode([*query, *settings.items()], quote_via=quote))


def watched_url(url: str) -> str:
    """Return `url` (libpq form, or with a driver) whose connections end 30 s after the network has cut them off.

    By default a process waits for an answer for a quarter of an hour, and for two hours on an idle connection.
    Parameters that `url` already has are kept.
    """
    said = {key for key, _ in _parameters(urlsplit(url).query)}
    return with_settings(url, **{key: value for key, value in _WATCHED.items() if key not in said})


def without_password(url: str) -> tuple[str, str | None]:
    """Return `url` (libpq form) without its password, and the password or None.

    Every user of a machine can read the arguments of a program, but only its own user can read its environment.
    """
    parts = urlsplit(url)
    query = _parameters(parts.query)
    inside = unquote(parts.password) if parts.password else None
    password = next((value for key, value in query if key == "password"), inside)
    netloc = re.sub(r"^([^:@]*):.*@", r"\1@", parts.netloc)
    rest = urlencode([(key, value) for key, value in query if key != "password"], quote_via=quote)
    return _joined(parts.scheme, netloc, parts.path, rest), password


def masked_url(url: str) -> str:
    """Return `url` with its password, if any, replaced by `***`, for logs and screens."""
    parts = urlsplit(url)
    netloc = re.sub(r"^([^:@]*):.*@", r"\1:***@", parts.netloc)
    return _joined(parts.scheme, netloc, parts.path, re.sub(r"(?i)(password=)[^&]*", r"\1***", parts.query))


def _parameters(query: str) -> list[tuple[str, str]]:
    """Return the parameters of a query as libpq reads them: a plus sign is not a blank."""
    return parse_qsl(query.replace("+", "%2B"))


def _joined(scheme: str, netloc: str, path: str, query: str) -> str:
    # Not urlunsplit, which drops the slashes of a URL without a host (a server on a Unix socket).
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{query}"


def without_libpq_settings(environment: dict[str, str]) -> dict[str, str]:
    """Return a copy of `environment` without the PG… variables that would override what the URL says.

    PGPASSWORD overrides a passfile, PGHOSTADDR overrides the host, and PGSSLMODE=require fails on a server without TLS.
    """
    return {name: value for name, value in environment.items() if name not in _LIBPQ_VARIABLES}


_OPTIONS_OF_DAGSTER = "-csearch_path=dagster -ctimezone=UTC"

_WATCHED = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000"}

_LIBPQ_VARIABLES = {
    *("PGHOSTADDR", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE", "PGREQUIREAUTH", "PGCHANNELBINDING"),
    *("PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGGSSENCMODE", "PGTARGETSESSIONATTRS"),
    *("PGOPTIONS", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE"),
}
