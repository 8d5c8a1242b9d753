"""What a cluster consists of: its daemons, addresses and files, and the lock that one changing command holds."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded.api import Api
from embedded.layout import Layout, Shape, node_names
from embedded.network import Subnets
from embedded.processes import Registry
from embedded.progress import say

SANDBOX = "sandbox"


class Cluster:
    """One cluster's parts, for the commands that look at it or change it."""

    def __init__(self, where: Layout, shape: Shape) -> None:
        self.layout = where
        self.shape = shape
        self.subnets = Subnets(shape.slot)
        self.registry = Registry(where.run)

    @property
    def nodes(self) -> list[str]:
        return node_names(self.shape.nodes)

    @property
    def components(self) -> list[str]:
        """Every daemon the shape asks for, in the order in which they start."""
        names = [SANDBOX, "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
        for node in self.nodes:
            names += [f"node/{node}", f"containerd/{node}", f"kubelet/{node}"]
        return names + (["kube-proxy"] if self.nodes else []) + (["kwok"] if self.shape.kwok else [])

    def api(self) -> Api:
        return Api(self.subnets.api_ip, self.layout.pki / "ca.crt", self.layout.pki / "admin.pem")

    def node_sandbox(self, node: str) -> int | None:
        """The process whose namespaces are the node's, when it lives."""
        record = self.registry.alive(f"node/{node}")
        return record.pid if record else None

    def snapshotter(self) -> str:
        return (self.layout.config / "snapshotter").read_text().strip()

    def log(self, component: str) -> Path:
        return self.layout.logs / f"{component.replace('/', '-')}.log"


@contextmanager
def exclusive(where: Layout) -> Iterator[None]:
    """The only `up` or `down` of that cluster; the kernel frees the lock when its holder dies."""
    where.lock.parent.mkdir(parents=True, exist_ok=True)
    with open(where.lock, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another command is changing the cluster '{where.name}': waiting for it.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def made_mount_points(where: Layout) -> Path:
    """The file that lists the directories that had to be made on the host, for the last `down` to remove."""
    return where.state.parent / ".mount-points"
