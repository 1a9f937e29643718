"""Which addresses and URLs something that a user wrote down may reach: public hosts, over https, and nothing inside."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from auterity_dagster.errors import Invalid

URL_LIMIT = 2000
HTTPS_PORT = 443

# `is_global` admits these: they carry another address inside, or many hosts.
_CARRIERS = tuple(
    ip_network(one)
    for one in (
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 for local use
        "2002::/16",  # 6to4
        "2001::/32",  # Teredo
        "::ffff:0:0/96",  # mapped
        "::/96",  # compatible
        "192.88.99.0/24",  # 6to4 relays
        "fec0::/10",  # site-local
    )
)
_HOST = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.?"
)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")


class BlockedAddress(Invalid):
    """A URL or the address behind it is not public."""

    code = "blocked_address"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes: `origin` is scheme, host and port as written, `path` has the query."""

    origin: str
    scheme: str
    host: str
    port: int
    path: str


def is_public(address: str) -> bool:
    """True for the address of one host that the whole internet can reach; False for what is no address."""
    if "%" in address:
        return False
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if not parsed.is_global or parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified:
        return False
    return not any(parsed in network for network in _CARRIERS if network.version == parsed.version)


def target_of(url: str, *, private_origins: frozenset[str] = frozenset()) -> Target:
    """Read a URL. Raises `BlockedAddress` for anything but https on port 443 of a host name or public address.

    An origin that the operator listed, such as `http://127.0.0.1:9000`, is let through as it stands.
    """
    if len(url) > URL_LIMIT or _FORBIDDEN.search(url):
        raise BlockedAddress(f"a URL has at most {URL_LIMIT} characters, no blanks and no backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii").lower()
    except ValueError as error:
        raise BlockedAddress("the URL cannot be read") from error
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise BlockedAddress("a URL carries no user and no password")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    if origin in private_origins:
        return Target(origin, parts.scheme, host, port or (HTTPS_PORT if parts.scheme == "https" else 80), path)
    if parts.scheme != "https" or port not in (None, HTTPS_PORT):
        raise BlockedAddress("only https on port 443 is called")
    literal = host.strip("[]")
    if ":" in literal or re.fullmatch(r"[0-9.]+", literal):
        if not is_public(literal):
            raise BlockedAddress(f"{literal} is no public address")
    elif not _HOST.fullmatch(host):
        raise BlockedAddress("the URL names no host")
    return Target(origin, parts.scheme, literal, HTTPS_PORT, path)


def require_public(host: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of a host if every one is public; raises `BlockedAddress` naming none of them."""
    if not addresses or not all(is_public(address) for address in addresses):
        raise BlockedAddress(f"{host} does not lead to public addresses only")
    return addresses
