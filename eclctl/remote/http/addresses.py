"""Which addresses a redirect must never lead to."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOW_32_BITS = 0xFFFF_FFFF


def is_numeric(host: str) -> bool:
    """Return whether the host of a URL (IPv6 without brackets) is an address, not a name."""
    return ":" in host or host.replace(".", "").isdigit()


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return a numeric address (IPv6 without brackets), None for anything else."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_loopback(text: str) -> bool:
    """Return whether this is a numeric address of the host itself."""
    address = parse_address(text)
    return address is not None and address.is_loopback


def why_refused(address: str) -> str | None:
    """Return why a redirect may not lead to a numeric address, None when it may.

    Refused are loopback, link-local (which is where clouds keep the secrets of their machines), unspecified, multicast
    and reserved addresses, also where an IPv6 address carries an IPv4 one. What is no numeric address is refused too.
    """
    parsed = parse_address(address)
    if parsed is None:
        return "it is no numeric address"
    for each in (parsed, *_embedded(parsed)):
        if (what := _what(each)) is not None:
            return f"{address} is {what}"
    return None


def _embedded(address: IPv4Address | IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address leads on to: mapped, NAT64, 6to4, Teredo."""
    if isinstance(address, IPv4Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(IPv4Address(int(address) & _LOW_32_BITS))
    return tuple(each for each in found if each is not None)


def _what(address: IPv4Address | IPv6Address) -> str | None:
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_multicast:
        return "a multicast address"
    carries = isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64)
    if (address.is_reserved and not carries) or (isinstance(address, IPv4Address) and address.packed[0] == 0):
        return "a reserved address"
    return None
