"""What `status` prints: a small table that a person reads at a glance, and whether all is well."""

from __future__ import annotations

from dataclasses import dataclass

from embedded.cluster import Cluster
from embedded.tools import ETCD, KUBERNETES, KWOK


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    component: str
    state: str
    pid: str
    uptime: str

    @property
    def healthy(self) -> bool:
        return self.state == "running"


def rows(cluster: Cluster) -> list[Row]:
    """A row for every daemon that the cluster should have."""
    found = []
    for component in cluster.components:
        record = cluster.registry.get(component)
        if record is None:
            found.append(Row(component, "not started", "-", "-"))
        elif not record.alive:
            found.append(Row(component, "dead", "-", "-"))
        else:
            state = "halted" if record.stopped else "running"
            found.append(Row(component, state, str(record.pid), duration(record.seconds)))
    return found


def report(cluster: Cluster) -> tuple[str, bool]:
    """The text to print, and True when every daemon runs, the API is ready and all nodes are Ready."""
    table = rows(cluster)
    unready = cluster.api().ready()
    nodes = (cluster.api().nodes() if not unready else None) or {}
    expected = [*cluster.nodes, *(f"kwok-{number}" for number in range(1, cluster.shape.kwok + 1))]
    ready = [name for name in expected if nodes.get(name)]
    healthy = all(row.healthy for row in table) and not unready and len(ready) == len(expected)
    lines = [f"{'COMPONENT':26}{'STATE':13}{'PID':>8}  UPTIME"]
    lines += [f"{row.component:26}{row.state:13}{row.pid:>8}  {row.uptime}" for row in table]
    missing = [name for name in expected if name not in ready]
    lines += [
        "",
        f"cluster     {cluster.layout.name}: {'healthy' if healthy else 'NOT HEALTHY'}",
        f"apiserver   {cluster.subnets.api_url} {'ready' if not unready else 'not ready: ' + unready}",
        f"nodes       {len(ready)} of {len(expected)} Ready"
        + (f"; not Ready: {', '.join(missing[:8])}" if missing else ""),
        f"versions    Kubernetes {KUBERNETES}, etcd {ETCD}" + (f", kwok {KWOK}" if cluster.shape.kwok else ""),
        f"kubeconfig  {cluster.layout.kubeconfig}",
        f"logs        {cluster.layout.logs}",
    ]
    if not healthy:
        lines.append(f"repair      hack/cluster/cluster up --name {cluster.layout.name}")
    return "\n".join(lines), healthy


def duration(seconds: float) -> str:
    """For example 42s, 3m05s or 2h10m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
