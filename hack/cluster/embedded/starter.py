"""Starts a cluster, and starts again whatever of it has died: `up` always looks first and does only what is missing."""

from __future__ import annotations

import fcntl
import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from embedded import cgroups, components, images, machine, namespaces, network, pki
from embedded.cluster import SANDBOX, Cluster, exclusive, made_mount_points
from embedded.components import Plan
from embedded.errors import ClusterError
from embedded.layout import MAX_NODES, SOURCE, Layout, Shape, known_clusters, layout, write_atomically
from embedded.network import Subnets
from embedded.processes import Daemon, start, start_sandbox
from embedded.progress import Step, say, step
from embedded.tools import CONTROL_PLANE, KUBERNETES, NODES, Toolbox

_MOUNT_POINTS = ("/var/lib/cni", "/var/lib/kubelet")
READY_TIMEOUT = 180.0
KUBELET_HEALTH_PORT = 10248
# containerd opens its socket before it has taken up the pods it had; a kubelet that asks in between ends itself.
_RUNTIME_NOT_YET = "server is not initialized yet"


def up(
    where: Layout, nodes: int | None, kwok: int | None, unthrottled: str | None = None, extra: Sequence[str] = ()
) -> Cluster:
    """The cluster, running and ready, with at least what was asked for; the `extra` tools are built as well."""
    began = time.monotonic()
    machine.check()
    if nodes is not None and not 0 <= nodes <= MAX_NODES:
        raise ClusterError(f"--nodes {nodes}: a cluster has at most {MAX_NODES} real nodes; use --kwok for many.")
    with exclusive(where):
        old = where.read_shape()
        shape = wanted_shape(where.name, old, nodes, kwok, unthrottled)
        machine.install_packages(for_nodes=shape.nodes > 0)
        wanted = [*CONTROL_PLANE, *(NODES if shape.nodes else ()), *(["kwok"] if shape.kwok else []), *extra]
        binaries = Toolbox(where.cache).ensure(wanted)
        # Noted only now: what could not even be built leaves no cluster that would have to be taken down.
        if old is None:
            shape = _claim_slot(where, shape)
        elif shape != old:
            where.write_shape(shape)
        plan = Plan(
            where,
            Subnets(shape.slot),
            binaries,
            containerd=shutil.which("containerd") or "",
            cni_plugins=machine.cni_plugins() or "",
            unthrottled=shape.unthrottled,
        )
        cluster = Cluster(where, shape)
        changed = _Starter(cluster, plan).run()
    seconds = time.monotonic() - began
    say(f"The cluster '{where.name}' {'is ready' if changed else 'was already running'} ({seconds:.1f} s).")
    return cluster


def wanted_shape(
    name: str, old: Shape | None, nodes: int | None, kwok: int | None, unthrottled: str | None = None
) -> Shape:
    """What was asked for, with the recorded shape for what was not; a cluster grows but never shrinks."""
    if old is None:
        return Shape(slot=-1, nodes=1 if nodes is None else nodes, kwok=kwok or 0, unthrottled=unthrottled or "none")
    grown = Shape(
        old.slot,
        old.nodes if nodes is None else nodes,
        old.kwok if kwok is None else kwok,
        unthrottled or old.unthrottled,
    )
    if grown.nodes < old.nodes or grown.kwok < old.kwok:
        raise ClusterError(
            f"The cluster '{name}' has {old.nodes} real and {old.kwok} fake nodes; `up` only adds. "
            f"Run `hack/cluster/cluster down --name {name}` first for a smaller one."
        )
    return grown


def _claim_slot(where: Layout, shape: Shape) -> Shape:
    """The shape with a free slot, recorded before anyone else can take the same."""
    with open(where.cache / "clusters" / ".lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        others = (layout(name, where.cache).read_shape() for name in known_clusters(where.cache))
        slot = network.free_slot([one.slot for one in others if one], network.host_networks())
        claimed = replace(shape, slot=slot)
        where.write_shape(claimed)
    return claimed


class _Starter:
    """Brings one cluster from whatever state it is in to ready."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self.cluster = cluster
        self.plan = plan
        self.where = cluster.layout
        self.subnets = cluster.subnets
        self.registry = cluster.registry
        self.changed = False

    def run(self) -> bool:
        """True when something had to be started."""
        self._certificates()
        self._files()
        self._sandbox()
        self._run("etcd", components.etcd(self.plan))
        self._run("kube-apiserver", components.apiserver(self.plan))
        for number, node in enumerate(self.cluster.nodes, 1):
            self._node_runtime(node, number)
        self._wait("apiserver ready", self._apiserver_unready, ["etcd", "kube-apiserver"])
        self._run("kube-controller-manager", components.controller_manager(self.plan))
        self._run("kube-scheduler", components.scheduler(self.plan))
        for number, node in enumerate(self.cluster.nodes, 1):
            self._kubelet(node, number)
        if self.cluster.nodes:
            self._run("kube-proxy", components.kube_proxy(self.plan))
            self._dns_placeholder()
        if self.cluster.shape.kwok:
            self._run("kwok", components.kwok(self.plan))
            self._fake_nodes()
        watched = [name for name in self.cluster.components if name != SANDBOX]
        self._wait("nodes and service accounts ready", self._cluster_unready, watched)
        return self.changed

    # Files

    def _certificates(self) -> None:
        if (self.where.kubeconfig).exists():
            self._node_certificates()
            return
        with step("certificates"):
            authority = pki.Authority(self.where.pki, "ca")
            front = pki.Authority(self.where.pki, "front-proxy-ca")
            pki.service_account_key(self.where.pki)
            names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
            names += ["kubernetes.default.svc.cluster.local"]
            addresses = [self.subnets.api_ip, self.subnets.service_api_ip, "127.0.0.1"]
            alternatives = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
            authority.issue("apiserver", "/CN=kube-apiserver", alternatives)
            authority.issue("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client")
            front.issue("front-proxy", "/CN=front-proxy")
            for user in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
                self._user(authority, user, f"/CN=system:{user}")
            self._user(authority, "kwok", "/O=system:masters/CN=kwok")
            self._node_certificates()
            admin = authority.issue("admin", "/O=system:masters/CN=admin")
            # Last of all: where it is, everything else of this step is too.
            context = self.where.name if self.where.name.startswith("mabeam") else f"mabeam-{self.where.name}"
            content = pki.kubeconfig(authority, self.subnets.api_url, "admin", admin, context)
            write_atomically(self.where.kubeconfig, content)

    def _node_certificates(self) -> None:
        authority = pki.Authority(self.where.pki, "ca")
        for number, node in enumerate(self.cluster.nodes, 1):
            if not Path(self.plan.user(node)).exists():
                addresses = [f"IP:{self.subnets.node_ip(number)}", f"DNS:{node}"]
                self._user(authority, node, f"/O=system:nodes/CN=system:node:{node}", addresses)

    def _user(self, authority: pki.Authority, name: str, subject: str, addresses: Sequence[str] = ()) -> None:
        pem = authority.issue(name, subject, addresses)
        content = pki.kubeconfig(authority, self.subnets.api_url, name, pem, self.where.name)
        write_atomically(Path(self.plan.user(name)), content)

    def _files(self) -> None:
        for name, content in components.cluster_files(self.plan, SOURCE).items():
            _write_if_changed(self.where.config / name, content)
        if not self.cluster.nodes:
            return
        chosen = self.where.config / "snapshotter"
        if not chosen.exists():
            works = namespaces.overlay_works(self.where.state)
            write_atomically(chosen, "overlayfs" if works else "native")
        oom = machine.may_lower_oom_score()
        for number, node in enumerate(self.cluster.nodes, 1):
            files = components.node_files(node, number, self.plan, self.cluster.snapshotter(), oom)
            for name, content in files.items():
                _write_if_changed(self.where.config / name, content)

    # Processes

    def _daemon(self, component: str, argv: Sequence[str], cgroup: str) -> Daemon:
        return Daemon(component, tuple(argv), self.cluster.log(component), cgroup)

    def _keeper(self, component: str) -> list[str]:
        # The arguments are for people and for `down`: they tell in a process list whose sandbox this is.
        return [self.plan.binary("pause"), "mabeam-sandbox", str(self.where.state), component]

    def _sandbox(self) -> None:
        if self._keeps_running(SANDBOX, self._keeper(SANDBOX)):
            if network.link_exists(self.subnets.host_link, str(self.where.state)):
                return
        else:
            with step("network namespace, cgroups and link to the host"):
                # Nodes may have outlived the sandbox, but in its old network, where nobody can reach them.
                cgroups.kill(self.where.cgroup)
                cgroups.remove(self.where.cgroup)
                cgroups.create(self.where.cgroup)
                daemon = self._daemon(SANDBOX, self._keeper(SANDBOX), self.where.cgroup)
                start_sandbox(self.registry, daemon, lambda: None, network_of=None)
                self.changed = True
        inside = self._inside()
        network.connect(self.subnets, str(self.where.state), self._pid(SANDBOX), inside)
        for number, _ in enumerate(self.cluster.nodes, 1):
            network.add_node_address(self.subnets, number, inside)
        # Without a limit on refusals: each of a burst of look-ups must fail at once.
        for setting, value in (("ip_forward", 1), ("icmp_ratelimit", 0)):
            command = [*inside, "sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{setting}"]
            if subprocess.run(command, capture_output=True).returncode != 0:
                raise ClusterError(f"net.ipv4.{setting} cannot be set inside the cluster's network namespace.")

    def _inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._pid(SANDBOX)}/ns/net"]

    def _pid(self, component: str) -> int:
        record = self.registry.alive(component)
        if record is None:
            raise ClusterError(f"{component} died just after it was started. {self._log_tail(component)}")
        return record.pid

    def _node_runtime(self, node: str, number: int) -> None:
        component = f"node/{node}"
        cgroup = f"{self.where.cgroup}/{node}"
        keeper = self._keeper(component)
        network.add_node_address(self.subnets, number, self._inside())
        if not self._keeps_running(component, keeper):
            # As after a restart of a real machine: the kubelet would wait seconds for each cgroup of a dead pod.
            cgroups.kill(cgroup)
            cgroups.remove(cgroup)
            cgroups.create(cgroup)
            _make_mount_points(self.where)
            start_sandbox(
                self.registry,
                self._daemon(component, keeper, cgroup),
                lambda: _furnish_node(self.where.node(node)),
                network_of=self._pid(SANDBOX),
            )
            self.changed = True
        self._run(f"containerd/{node}", components.containerd(node, self.plan), self._pid(component), cgroup)

    def _kubelet(self, node: str, number: int) -> None:
        sandbox = self._pid(f"node/{node}")
        loaded = self.where.node(node) / "pause-image"
        key = self.plan.binary("pause")
        if not (loaded.exists() and loaded.read_text() == key):
            archive = self.where.state / "pause.tar"
            images.write_archive(archive, components.PAUSE_IMAGE, {"pause": Path(key)}, ["/pause"])
            self._wait(f"containerd of {node}", lambda: _socket_missing(sandbox), [f"containerd/{node}"], quiet=True)
            with step(f"pause image into {node}"), open(archive, "rb") as source:
                images.load(sandbox, source, self.cluster.snapshotter())
            write_atomically(loaded, key)
        cgroup = f"{self.where.cgroup}/{node}"
        self._run(f"kubelet/{node}", components.kubelet(node, number, self.plan), sandbox, cgroup)

    def _run(self, component: str, argv: list[str], sandbox: int | None = None, cgroup: str = "") -> None:
        if self._keeps_running(component, argv):
            return
        daemon = self._daemon(component, argv, cgroup or self.where.cgroup)
        start(self.registry, daemon, sandbox or self._pid(SANDBOX))
        self.changed = True

    def _keeps_running(self, component: str, argv: Sequence[str]) -> bool:
        """True when the daemon lives with these very arguments; one with others is ended, a halted one goes on."""
        record = self.registry.alive(component)
        if record is None:
            if self.registry.get(component) is not None:
                say(f"  {component} is not running: starting it again")
                self.registry.kill(component)
            return False
        if record.argv != tuple(argv):
            say(f"  {component} runs with other arguments: restarting it")
            self.registry.kill(component)
            return False
        if record.stopped:
            say(f"  {component} was halted by a signal: letting it go on")
            os.kill(record.pid, signal.SIGCONT)
        return True

    # Objects

    def _dns_placeholder(self) -> None:
        # There is no DNS server. A Service without endpoints makes look-ups fail at once instead of timing out.
        api = self.cluster.api()
        if api.exists("/api/v1/namespaces/kube-system/services/kube-dns"):
            return
        ports = [{"name": name.lower(), "port": 53, "protocol": name} for name in ("UDP", "TCP")]
        api.create(
            "/api/v1/namespaces/kube-system/services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns"},
                "spec": {"clusterIP": self.subnets.dns_ip, "ports": ports},
            },
        )

    def _fake_nodes(self) -> None:
        api = self.cluster.api()
        there = api.nodes() or {}
        wanted = [f"kwok-{number}" for number in range(1, self.cluster.shape.kwok + 1)]
        missing = [number for number, name in enumerate(wanted, 1) if name not in there]
        if not missing:
            return
        self.changed = True
        with step(f"{len(missing)} fake nodes") as running:
            for number in missing:
                if not api.create("/api/v1/nodes", components.kwok_node(number, KUBERNETES)):
                    raise ClusterError(f"The apiserver refused the node kwok-{number}; see {self.cluster.log('kwok')}.")
                running.tick(f"kwok-{number}")

    # Waiting

    def _apiserver_unready(self) -> str:
        return self.cluster.api().ready()

    def _cluster_unready(self) -> str:
        api = self.cluster.api()
        nodes = api.nodes()
        if nodes is None:
            return "the apiserver does not answer"
        fakes = [f"kwok-{number}" for number in range(1, self.cluster.shape.kwok + 1)]
        waiting = [name for name in [*self.cluster.nodes, *fakes] if not nodes.get(name)]
        waiting += [name for number, name in enumerate(self.cluster.nodes, 1) if self._kubelet_down(number)]
        if waiting:
            return f"not Ready: {', '.join(waiting[:5])}{' …' if len(waiting) > 5 else ''}"
        if not api.exists("/api/v1/namespaces/default/serviceaccounts/default"):
            return "the service account 'default' is not there yet"
        return ""

    def _kubelet_down(self, number: int) -> bool:
        # Asked itself: for a while the API goes on calling a dead node Ready.
        connection = http.client.HTTPConnection(self.subnets.node_ip(number), KUBELET_HEALTH_PORT, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status != 200
        except (OSError, http.client.HTTPException):
            return True
        finally:
            connection.close()

    def _wait(self, title: str, unready: Callable[[], str], watched: Sequence[str], quiet: bool = False) -> None:
        """Returns when `unready` says nothing; an error when a watched daemon dies or the time is up."""
        if not (why := unready()):
            return
        deadline = time.monotonic() + READY_TIMEOUT
        running = Step(title)
        while why:
            for component in watched:
                if self.registry.alive(component) is None and not self._started_again(component):
                    raise ClusterError(f"{component} ended while it was waited for. {self._log_tail(component)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"Not ready after {READY_TIMEOUT:.0f} s: {title}: {why}. Logs: {self.where.logs}. "
                    f"Try `up` again; if that does not help, `down --name {self.where.name}` and `up`."
                )
            running.tick(why)
            time.sleep(0.1)
            why = unready()
        if not quiet:
            running.done()

    def _started_again(self, component: str) -> bool:
        """True for a kubelet that came too early, as systemd starts it again on a real node."""
        kind, _, node = component.partition("/")
        log = self.cluster.log(component)
        if (
            kind != "kubelet"
            or _RUNTIME_NOT_YET not in (log.read_text(errors="replace") if log.exists() else "")[-1000:]
        ):
            return False
        self._kubelet(node, self.cluster.nodes.index(node) + 1)
        return True

    def _log_tail(self, component: str) -> str:
        path = self.cluster.log(component)
        try:
            lines = path.read_text(errors="replace").strip().splitlines()[-4:]
        except OSError:
            lines = []
        end = f"The end of {path}:\n  " + ("\n  ".join(line[:300] for line in lines) or "(empty)")
        return _advice(end) + end


def _make_mount_points(where: Layout) -> None:
    for place in (Path(one) for one in _MOUNT_POINTS):
        if not place.exists():
            # Noted before it is made: a kill in between must not leave it unknown.
            with open(made_mount_points(where), "a") as note:
                note.write(f"{place}\n")
            place.mkdir(parents=True)


def _furnish_node(directory: Path) -> None:
    """In a node's new mount namespace: the places whose paths are fixed in its programs, each the node's own."""
    namespaces.private_directory("/run")
    namespaces.private_directory("/var/log", directory / "log")
    for place in _MOUNT_POINTS:
        namespaces.private_directory(place)


def _advice(log: str) -> str:
    """A sentence on the failures that are the machine's and not the program's; empty for all others."""
    if "inotify_init: too many open files" in log:
        return (
            "The machine's limit of inotify instances is used up: take another cluster down, "
            "or raise it with `sysctl fs.inotify.max_user_instances=1024`. "
        )
    if "no space left on device" in log:
        return "The disk is full. "
    return ""


def _socket_missing(sandbox: int) -> str:
    socket = Path(f"/proc/{sandbox}/root{components.CONTAINERD_SOCKET}")
    return "" if socket.exists() else "its socket is not there yet"


def _write_if_changed(path: Path, content: str) -> None:
    try:
        if path.read_text() == content:
            return
    except OSError:
        pass
    write_atomically(path, content)
