"""The addresses of a cluster, and the few links and routes that carry them."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from embedded.errors import ClusterError

SLOTS = 16
NODE_OFFSET = 10
API_PORT = 6443


@dataclass(frozen=True)
class Subnets:
    """Every address of the cluster in one slot; the same slot always gives the same addresses.

    10.200.SLOT.0/24 is the link: .1 is the host, .2 the apiserver, .11 and up the nodes.
    10.(201+SLOT).0.0/16 holds the pods, a /24 for each node; 10.(217+SLOT).0.0/16 the Services.
    """

    slot: int

    def __post_init__(self) -> None:
        if not 0 <= self.slot < SLOTS:
            raise ValueError(f"slot {self.slot} is not in 0..{SLOTS - 1}")

    @property
    def link(self) -> str:
        return f"10.200.{self.slot}.0/24"

    @property
    def host_ip(self) -> str:
        return f"10.200.{self.slot}.1"

    @property
    def api_ip(self) -> str:
        return f"10.200.{self.slot}.2"

    @property
    def api_url(self) -> str:
        return f"https://{self.api_ip}:{API_PORT}"

    def node_ip(self, number: int) -> str:
        return f"10.200.{self.slot}.{NODE_OFFSET + number}"

    @property
    def pods(self) -> str:
        return f"10.{201 + self.slot}.0.0/16"

    def node_pods(self, number: int) -> str:
        return f"10.{201 + self.slot}.{number}.0/24"

    @property
    def kwok_pods(self) -> str:
        """Fake pods get addresses that no real node hands out."""
        return f"10.{201 + self.slot}.128.0/17"

    @property
    def services(self) -> str:
        return f"10.{217 + self.slot}.0.0/16"

    @property
    def service_api_ip(self) -> str:
        return f"10.{217 + self.slot}.0.1"

    @property
    def dns_ip(self) -> str:
        return f"10.{217 + self.slot}.0.10"

    @property
    def host_link(self) -> str:
        return f"mabeam{self.slot}"

    @property
    def inner_link(self) -> str:
        return f"mabeam{self.slot}c"

    def all(self) -> tuple[str, str, str]:
        return (self.link, self.pods, self.services)


def free_slot(taken: Iterable[int], host_networks: Iterable[str]) -> int:
    """The lowest slot that no other cluster has and whose subnets the host does not use itself."""
    used = set(taken)
    busy = [ipaddress.ip_network(network, strict=False) for network in host_networks]
    for slot in range(SLOTS):
        wanted = [ipaddress.ip_network(subnet) for subnet in Subnets(slot).all()]
        if slot not in used and not any(one.overlaps(other) for one in wanted for other in busy):
            return slot
    raise ClusterError(
        f"No free addresses: all {SLOTS} slots of 10.200.0.0/13 and up are taken. Stop a cluster: `cluster down --all`."
    )


def host_networks() -> list[str]:
    """The IPv4 networks that the host has routes to now, the default route left out."""
    try:
        shown = subprocess.run(
            ["ip", "-json", "-4", "route", "show", "table", "all"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    found = []
    for route in json.loads(shown.stdout or "[]"):
        destination = route.get("dst", "default")
        try:
            network = ipaddress.ip_network(destination, strict=False)
        except ValueError:
            continue
        # A default route that is written as 0.0.0.0/0 or as halves of it overlaps everything and means nothing.
        if network.prefixlen > 4:
            found.append(str(network))
    return found


def link_exists(name: str, owner: str) -> bool:
    """Whether the host has that link, and it belongs to the cluster whose state is in `owner`."""
    alias = _link_owner(name)
    return alias is not None and alias in ("", owner)


def _link_owner(name: str) -> str | None:
    """The directory that the link was marked with, an empty text when with none; None when there is no such link."""
    shown = subprocess.run(["ip", "-json", "link", "show", name], capture_output=True, text=True)
    if shown.returncode != 0:
        return None
    links = json.loads(shown.stdout or "[]")
    return str(links[0].get("ifalias", "")) if links else None


def connect(subnets: Subnets, owner: str, sandbox_pid: int, inside: list[str]) -> None:
    """The host's end of the link up and routed; `inside` is the command prefix that enters the cluster's network."""
    if link_exists(subnets.host_link, owner):
        _ip(["link", "delete", subnets.host_link])
    elif stranger := _link_owner(subnets.host_link):
        raise ClusterError(
            f"The addresses of this cluster are now used by the one in {stranger}. Take either of them down, then `up`."
        )
    _ip(["link", "add", subnets.host_link, "type", "veth", "peer", "name", subnets.inner_link,
         "netns", str(sandbox_pid)])  # fmt: skip
    _ip(["link", "set", subnets.host_link, "alias", owner])
    _ip(["address", "add", f"{subnets.host_ip}/24", "dev", subnets.host_link])
    _ip(["link", "set", subnets.host_link, "up"])
    _ip(["link", "set", "lo", "up"], inside)
    _ip(["address", "add", f"{subnets.api_ip}/24", "dev", subnets.inner_link], inside)
    _ip(["link", "set", subnets.inner_link, "up"], inside)
    _ip(["route", "add", "default", "via", subnets.host_ip], inside)
    # Pods and Services are reachable from the host, so that an operator or a test can run there.
    for network in (subnets.pods, subnets.services):
        _ip(["route", "replace", network, "via", subnets.api_ip, "dev", subnets.host_link])


def add_node_address(subnets: Subnets, number: int, inside: list[str]) -> None:
    """The node's address on the inner link, as the kubelet demands of its --node-ip; there already is fine."""
    _ip(["address", "replace", f"{subnets.node_ip(number)}/24", "dev", subnets.inner_link], inside)


def disconnect(subnets: Subnets, owner: str) -> None:
    """No link of this cluster and so no route of it left on the host."""
    if link_exists(subnets.host_link, owner):
        subprocess.run(["ip", "link", "delete", subnets.host_link], capture_output=True)


def _ip(arguments: list[str], inside: list[str] | None = None) -> None:
    command = [*(inside or []), "ip", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed: {ran.stderr.strip() or 'no message'}")
