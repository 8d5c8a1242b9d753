"""Which addresses the operator connects to when a user of the cluster names them."""

import ipaddress
from typing import Final

# Cloud metadata services, from which a machine gets its credentials, at an address that is not link-local.
METADATA: Final = frozenset({ipaddress.ip_address("fd00:ec2::254")})


def is_safe(ip: str, *, allow_loopback: bool = False) -> bool:
    """Whether `ip` is an IP address (no name) and not the node's own: not loopback, link-local, multicast or unspecified."""
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
