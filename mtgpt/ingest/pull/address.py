"""Which addresses a feed may be pulled from: the spelling of a URL, and where its host really leads."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mtgpt.errors import SourceRefused, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*\.?")
# RFC 6052: an IPv6 address that a gateway turns back into the IPv4 address in its last 32 bits.
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAddress:
    """A URL that passed :func:`parse_url`.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Lower-case name, or a literal address without brackets.
        port: Explicit or the scheme's own.
        path: With its leading slash.
        query: Without the question mark; may hold secrets.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host, port: what must stay the same for headers to be sent on."""
        return self.scheme, self.host, self.port

    @property
    def _netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The full URL. Not for errors or logs: use ``str()``, which leaves the query out."""
        return urlunsplit((self.scheme, self._netloc, self.path, self.query, ""))

    def __str__(self) -> str:
        return urlunsplit((self.scheme, self._netloc, self.path, "", "")) + ("?…" if self.query else "")

    __repr__ = __str__


def parse_url(url: str) -> WebAddress:
    """Takes a URL apart and refuses every spelling that two parsers may read differently.

    Raises:
        SourceRefused: Another scheme than http(s), user information, no host, odd characters, a port out of range.
    """
    shown = redacted(url)
    if any(c <= " " or c == "\\" or not c.isprintable() for c in url):
        raise SourceRefused("the URL holds spaces, backslashes or control characters", where=shown)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SourceRefused(f"not a URL: {error}", where=shown) from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise SourceRefused("scheme not allowed", where=shown, got=scheme or "none", expected="http or https")
    if "@" in parts.netloc:
        raise SourceRefused(
            "user name or password in a URL", where=shown, next_step="put the secret into headers as ${ENV:NAME}"
        )
    host = (parts.hostname or "").lower()
    if not (_literal(host) or (len(host) <= 253 and _HOST.fullmatch(host))):
        raise SourceRefused("no host, or one with odd characters", where=shown, got=host, expected="a name in ASCII")
    if port == 0:
        raise SourceRefused("port out of range", where=shown, got=port, expected="1 to 65535")
    return WebAddress(scheme=scheme, host=host, port=port or _PORTS[scheme], path=parts.path or "/", query=parts.query)


def redacted(url: str) -> str:
    """``url`` without user information, query and fragment, for errors and logs."""
    head = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, mark, rest = head.rpartition("://")
    authority, slash, path = rest.partition("/")
    return scheme + mark + authority.rpartition("@")[2] + slash + path + ("?…" if len(head) < len(url) else "")


def is_allowed(address: Address, *, allow_loopback: bool) -> bool:
    """Whether a feed may come from this address: public ones, and this machine where the manifest says so.

    Addresses that carry another one inside (IPv4-mapped, 6to4, Teredo, NAT64) are judged by both.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is not None:
            return is_allowed(inner, allow_loopback=allow_loopback)
        carried = [address.sixtofour, *(address.teredo or ())]
        if any(address in network for network in _NAT64):
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if not all(is_allowed(one, allow_loopback=False) for one in carried if one is not None):
            return False
    if address.is_loopback:
        return allow_loopback
    return address.is_global and not address.is_multicast


def resolve(
    host: str,
    port: int,
    *,
    allow_loopback: bool,
    lookup: Callable[..., Sequence[tuple[Any, ...]]] = socket.getaddrinfo,
) -> list[str]:
    """Addresses of ``host``, in the resolver's order; the caller must connect to one of these and to nothing else.

    Args:
        host: Name or literal address, in whatever spelling (``0x7f.1`` and ``2130706433`` are literal addresses too).
        port: TCP port.
        allow_loopback: Allow this very machine.
        lookup: Resolver with the signature of :func:`socket.getaddrinfo`.

    Raises:
        SourceRefused: One of the addresses is not public; a name that leads to a mix is refused whole.
        SourceUnavailable: The name cannot be resolved now.
    """
    try:
        found = lookup(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise SourceUnavailable("the host's name cannot be resolved", where=host, got=str(error)) from None
    literals = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for literal in literals:
        address = ipaddress.ip_address(literal.partition("%")[0])
        if not is_allowed(address, allow_loopback=allow_loopback):
            raise SourceRefused(
                "the host leads to an address that is not public",
                where=host,
                got=literal,
                expected="a global unicast address",
                next_step="set allow_loopback: true on the source" if address.is_loopback else None,
            )
    if not literals:
        raise SourceUnavailable("the host has no address", where=host)
    return literals


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
