"""The command line: `hack/cluster/cluster COMMAND`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from embedded import current, debian, images, status, teardown
from embedded.cluster import Cluster
from embedded.errors import ClusterError
from embedded.layout import DEFAULT_NAME, MAX_NODES, UNTHROTTLED, cache_root, known_clusters, layout
from embedded.progress import say, step
from embedded.starter import up
from embedded.tools import TOOLS, Toolbox

_DESCRIPTION = """\
A real Kubernetes on this Linux machine, without a container engine and without an image registry: built from pinned
Go modules, run in a network namespace of its own, and taken away without a trace.
"""
_EPILOG = """\
CLUSTER=current   use the cluster of your current kubeconfig context; `up` and `down` then start and stop nothing
MABEAM_CACHE=DIR  where binaries and clusters are kept (default: ~/.cache/mabeam)

Components, for `pid` and `logs`: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kwok,
kubelet/node-1, containerd/node-1, node/node-1 (kill that one, and the whole node is gone) and sandbox (all of it).
"""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 failed or not healthy, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(_with_rest_separated(arguments))
    try:
        return int(options.run(options))
    except ClusterError as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("cluster", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")

    one = commands.add_parser("build", help="build the pinned programs into the cache (all, or the named ones)")
    one.add_argument("tool", nargs="*", help=f"one of: {', '.join(TOOLS)}")
    one.set_defaults(run=_build)

    one = commands.add_parser("up", parents=[named], help="start the cluster, or repair what has died of it")
    one.add_argument("--nodes", type=int, help=f"real nodes, 1 to {MAX_NODES} (default: 1, or as it was)")
    one.add_argument("--kwok", type=int, metavar="N", help="fake nodes for tests of scale (default: 0, or as it was)")
    one.add_argument(
        "--with", dest="extra", nargs="+", default=[], choices=TOOLS, metavar="TOOL",
        help="build these tools too, before the cluster starts (helm, for example)",
    )  # fmt: skip
    one.add_argument("--control-plane-only", action="store_true", help="no real nodes: an API to talk to")
    one.add_argument(
        "--unthrottled",
        nargs="?",
        const="all",
        choices=UNTHROTTLED,
        help="lift the limits of requests per second, for benchmarks: of all, the scheduler, none (default: as it was)",
    )
    one.set_defaults(run=_up)

    one = commands.add_parser("down", parents=[named], help="stop the cluster and remove every trace of it")
    one.add_argument("--all", action="store_true", help="every cluster")
    one.set_defaults(run=_down)

    one = commands.add_parser("status", parents=[named], help="show what runs; exit 0 only when all is healthy")
    one.set_defaults(run=_status)

    one = commands.add_parser("kubectl", parents=[named], help="run kubectl against the cluster")
    one.add_argument("rest", nargs=argparse.REMAINDER, help="kubectl's own arguments")
    one.set_defaults(run=_kubectl)

    one = commands.add_parser("kubeconfig", parents=[named], help="print the path of the kubeconfig")
    one.set_defaults(run=_kubeconfig)

    one = commands.add_parser("load-image", parents=[named], help="import image archives into every node")
    one.add_argument("archive", nargs="+", help="a tar file as `docker save` writes it")
    one.set_defaults(run=_load_image)

    one = commands.add_parser("bin", help="print the path of a tool, building or fetching it if needed")
    one.add_argument("tool", help=f"one of: {', '.join((*TOOLS, *debian.UNPACKED))}")
    one.set_defaults(run=_bin)

    one = commands.add_parser("pid", parents=[named], help="print a component's process id, for tests of faults")
    one.add_argument("component")
    one.set_defaults(run=_pid)

    one = commands.add_parser("logs", parents=[named], help="print a component's log")
    one.add_argument("component")
    one.set_defaults(run=_logs)

    one = commands.add_parser("exec", parents=[named], help="run a command inside the cluster's network (or a node)")
    one.add_argument("--node", help="inside this node's mounts too, for example node-1")
    one.add_argument("rest", nargs=argparse.REMAINDER, help="the command")
    one.set_defaults(run=_exec)
    return parser


def _with_rest_separated(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--` before what belongs to kubectl or a command, so that argparse leaves that alone."""
    given = list(arguments)
    if not given or given[0] not in ("kubectl", "exec"):
        return given
    position = 1
    while position < len(given) and given[position].split("=")[0] in ("--name", "--node"):
        position += 1 if "=" in given[position] else 2
    if given[position : position + 1] == ["--"] or (given[0] == "exec" and given[position:] == ["--help"]):
        return given
    return [*given[:position], "--", *given[position:]]


def _build(options: argparse.Namespace) -> int:
    for tool, path in Toolbox().ensure(options.tool or TOOLS).items():
        print(f"{tool:26}{path}")
    return 0


def _up(options: argparse.Namespace) -> int:
    if current.selected():
        say(current.verify())
        return 0
    if options.control_plane_only and options.nodes:
        raise ClusterError("--control-plane-only means no real nodes; leave out --nodes.")
    nodes = 0 if options.control_plane_only else options.nodes
    cluster = up(layout(options.name), nodes, options.kwok, options.unthrottled, options.extra)
    name = "" if options.name == DEFAULT_NAME else f" --name {options.name}"
    say(f"  hack/cluster/cluster kubectl{name} get nodes")
    say(f"  export KUBECONFIG={cluster.layout.kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    if current.selected():
        say("CLUSTER=current: your own cluster is left as it is.")
        return 0
    names = known_clusters(cache_root()) if options.all else [options.name]
    if not names:
        say("There is no cluster.")
    failed = False
    for name in names:
        for leftover in teardown.down(layout(name)):
            failed = True
            print(f"left over from '{name}': {leftover}", file=sys.stderr)
    return 1 if failed else 0


def _status(options: argparse.Namespace) -> int:
    if current.selected():
        print(current.verify())
        return 0
    text, healthy = status.report(_existing(options.name))
    print(text)
    return 0 if healthy else 1


def _kubectl(options: argparse.Namespace) -> int:
    environment = dict(os.environ)
    if current.selected():
        binary = current.kubectl()
    else:
        environment["KUBECONFIG"] = str(_existing(options.name).layout.kubeconfig)
        binary = str(Toolbox().ensure(["kubectl"])["kubectl"])
    os.execve(binary, ["kubectl", *_rest(options)], environment)


def _kubeconfig(options: argparse.Namespace) -> int:
    print(current.kubeconfig() if current.selected() else _existing(options.name).layout.kubeconfig)
    return 0


def _load_image(options: argparse.Namespace) -> int:
    for archive in options.archive:
        if not Path(archive).is_file():
            raise ClusterError(f"There is no file '{archive}'.")
    if current.selected():
        current.load_images(options.archive)
        return 0
    cluster = _existing(options.name)
    if not cluster.nodes:
        raise ClusterError(f"The cluster '{options.name}' has no real nodes that could hold an image.")
    for node in cluster.nodes:
        sandbox = cluster.node_sandbox(node)
        if sandbox is None or not cluster.registry.alive(f"containerd/{node}"):
            raise ClusterError(f"{node} is not running: `hack/cluster/cluster up --name {options.name}` repairs it.")
        for archive in options.archive:
            with step(f"{Path(archive).name} into {node}") as running, open(archive, "rb") as source:
                running.note = ", ".join(images.load(sandbox, source, cluster.snapshotter()))
    return 0


def _bin(options: argparse.Namespace) -> int:
    if options.tool in debian.UNPACKED:
        print(debian.ensure(options.tool))
        return 0
    print(Toolbox().ensure([options.tool])[options.tool])
    return 0


def _pid(options: argparse.Namespace) -> int:
    cluster = _existing(options.name)
    record = cluster.registry.alive(_component(cluster, options.component))
    if record is None:
        raise ClusterError(f"{options.component} is not running.")
    print(record.pid)
    return 0


def _logs(options: argparse.Namespace) -> int:
    cluster = _existing(options.name)
    path = cluster.log(_component(cluster, options.component))
    try:
        with open(path, errors="replace") as log:
            for line in log:
                sys.stdout.write(line)
    except FileNotFoundError:
        raise ClusterError(f"{options.component} has not written a log yet ({path}).") from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _exec(options: argparse.Namespace) -> int:
    cluster = _existing(options.name)
    component = f"node/{options.node}" if options.node else "sandbox"
    record = cluster.registry.alive(_component(cluster, component))
    if record is None:
        raise ClusterError(f"{component} is not running: `hack/cluster/cluster up --name {options.name}` repairs it.")
    command = _rest(options)
    if not command:
        raise ClusterError("Say which command to run, for example: cluster exec -- ip address")
    kinds = ["--net", "--mount"] if options.node else ["--net"]
    os.execvp("nsenter", ["nsenter", "--target", str(record.pid), *kinds, "--", *command])


def _existing(name: str) -> Cluster:
    if current.selected():
        raise ClusterError("CLUSTER=current: this command is about the embedded cluster only; unset CLUSTER for it.")
    where = layout(name)
    shape = where.read_shape()
    if shape is None or not where.kubeconfig.exists():
        suffix = "" if name == DEFAULT_NAME else f" --name {name}"
        raise ClusterError(f"There is no cluster '{name}': start it with `hack/cluster/cluster up{suffix}`.")
    return Cluster(where, shape)


def _component(cluster: Cluster, given: str) -> str:
    """The component's full name; `apiserver`, `kubelet` or `node-1` will do when they are unambiguous."""
    names = cluster.components
    matches = [name for name in names if given in (name, name.removeprefix("kube-"))]
    matches = matches or [name for name in names if name.split("/")[0] == given]
    matches = matches or [name for name in names if name == f"node/{given}"]
    if len(matches) == 1:
        return matches[0]
    raise ClusterError(f"'{given}' is not one component; say one of: {', '.join(matches or names)}.")


def _rest(options: argparse.Namespace) -> list[str]:
    rest: list[str] = options.rest
    return rest[1:] if rest[:1] == ["--"] else rest
