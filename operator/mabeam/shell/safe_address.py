"""Which addresses the operator may talk to when somebody else names them."""

import ipaddress
from typing import Final

# Unique local, and yet the node's own: where a cloud tells a machine its credentials.
METADATA: Final = frozenset({ipaddress.ip_address("fd00:ec2::254")})


def is_safe(ip: str, *, allow_loopback: bool = False) -> bool:
    """Whether this is an address that is not the node's own: no loopback, link-local, multicast or unspecified one, no name."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address  # ::ffff:127.0.0.1 is the node's loopback too
    if address.is_loopback:
        return allow_loopback
    if address in METADATA:
        return False
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)
