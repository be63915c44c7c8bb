"""Reads from the environment how to reach a vendor: the proxy, and the trusted certificates. No calls here.

The HTTP library could read this itself, but fails on values that other programs accept: a network or an address in
brackets in NO_PROXY. So it is read here as curl does, and an invalid value is an error that names its variable.
"""

import errno
import os
import re
import ssl
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import httpx

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.same_origin import in_url

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SCHEMES = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"\[?(?P<host>[^\[\]]+?)\]?(?::(?P<port>\d+))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its URL, which may have a password, its address for messages, and the variable that names it."""

    url: str = field(repr=False)
    address: str
    origin: str

    def __str__(self) -> str:
        return f"the proxy {self.address} of {self.origin}"


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is reached: the proxy, if any, and the trusted certificates."""

    proxy: Proxy | None
    certificates: ssl.SSLContext

    @property
    def http_proxy(self) -> httpx.Proxy | None:
        """The proxy as the HTTP library takes it, or None."""
        if self.proxy is None:
            return None
        is_encrypted = self.proxy.url.lower().startswith("https:")
        return httpx.Proxy(self.proxy.url, ssl_context=self.certificates if is_encrypted else None)


def way_to(url: str) -> Way:
    """Return how the server of `url` is reached. Nothing else in the environment counts: `trust_env` must be False.

    Raises:
        ConfigurationError: naming the invalid variable.
    """
    # A proxy in the environment must not see calls to this machine.
    if urlsplit(url).hostname in _LOOPBACK:
        return Way(None, _certificates(None, None))
    file, folder = (os.environ.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    return Way(proxy_for(url), _certificates(file, folder))


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for the server of `url`, from the environment or else from the system, or None.

    Raises:
        ConfigurationError: naming the invalid variable, but not its text, which may have a password.
    """
    target = urlsplit(url)
    proxies = getproxies_environment()
    if not proxies:
        proxies = getproxies()
        if not proxies or proxy_bypass(target.netloc):
            return None
    scheme = next((each for each in (target.scheme, "all") if proxies.get(each, "").strip()), None)
    if scheme is None or _goes_without(target, proxies.get("no", "")):
        return None
    return _proxy(proxies[scheme].strip(), _origin(scheme))


def _origin(scheme: str) -> str:
    """Return which variable names the proxy of `scheme`. Of two spellings the lower-case one counts."""
    name = f"{scheme}_proxy"
    set_ones = [each for each in (name, *sorted(os.environ)) if each.lower() == name and os.environ.get(each)]
    return f"`{set_ones[0]}`" if set_ones else "the system's settings"


def _proxy(text: str, origin: str) -> Proxy:
    # Without a scheme it is an HTTP proxy, as for all programs that read these variables.
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else "http"
    url = text if found else f"http://{text}"
    if scheme not in _SCHEMES:
        raise ConfigurationError(
            f"{origin} must be the URL of a proxy that begins with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}, "
            f"received one that begins with {scheme}"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        httpx.Proxy(url)
    except (ValueError, httpx.InvalidURL):
        host = port = None
    if not host:
        raise ConfigurationError(
            f"{origin} must be the URL of a proxy such as http://proxy.example.com:3128: host and port cannot be read "
            "in it (it is not shown, for it may hold a password)"
        )
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError(
            f"{origin} names a SOCKS proxy, which needs a package: pip install 'httpx[socks]', or name an HTTP proxy"
        )
    return Proxy(url, f"{in_url(host)}:{_PORTS[scheme] if port is None else port}", origin)


def _goes_without(target: SplitResult, exceptions: str) -> bool:
    """Return whether NO_PROXY, read as curl does, has the server: `*`, hosts, domains, addresses and networks.

    They may be followed by a port. An entry that cannot be read matches no server.
    """
    host, port = (target.hostname or "").rstrip("."), target.port or _PORTS.get(target.scheme)
    return any(_is_meant(each.lower(), target.scheme, host, port) for each in re.split(r"[,\s]+", exceptions))


def _is_meant(entry: str, scheme: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    of_scheme, _, entry = entry.rpartition("://")
    if of_scheme not in ("", "all", scheme):
        return False
    # An IPv6 address without brackets has no port.
    if entry.count(":") > 1 and "]" not in entry:
        return _holds(entry, host)
    found = _HOST_AND_PORT.fullmatch(entry)
    if found is None or (found["port"] is not None and int(found["port"]) != port):
        return False
    if _address(host) is not None:
        return _holds(found["host"], host)
    name = found["host"].lstrip("*").strip(".")
    return host == name or host.endswith(f".{name}")


def _holds(network: str, host: str) -> bool:
    """Return whether `network`, which may be a single address, contains the address `host`."""
    address = _address(host)
    try:
        return address is not None and address in ip_network(network, strict=False)
    except ValueError:
        return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


@cache
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return the trusted certificates. They are read once per process: it takes 16 ms, and a client lasts one fetch."""
    if file is None and folder is None:
        return httpx.create_ssl_context(trust_env=False)
    name, path = ("SSL_CERT_FILE", file) if file is not None else ("SSL_CERT_DIR", folder)
    what = "a file of certificates in PEM" if file is not None else "a folder of certificates"
    try:
        if file is None and not any(map(os.path.isdir, str(folder).split(os.pathsep))):
            raise NotADirectoryError(errno.ENOENT, os.strerror(errno.ENOENT))
        return ssl.create_default_context(cafile=file, capath=None if file is not None else folder)
    except OSError as error:
        raise ConfigurationError(f"`{name}` must be {what}, received {path!r}: {error.strerror}") from None
