"""Where everything lives: the cache, the clusters' state, and the names derived from a cluster's name."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from embedded.errors import ClusterError

SOURCE = Path(__file__).resolve().parent.parent
DEFAULT_NAME = "mabeam"
MAX_NODES = 8
# Which of Kubernetes' own programs run without their stock limits of requests per second.
UNTHROTTLED = {
    "none": frozenset[str](),
    "scheduler": frozenset({"kube-scheduler"}),
    "all": frozenset({"kube-scheduler", "kube-controller-manager"}),
}
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")


def cache_root(environ: Mapping[str, str] | None = None) -> Path:
    """The directory outside the checkout that outlives clones: binaries, images and the state of clusters."""
    env = os.environ if environ is None else environ
    if chosen := env.get("MABEAM_CACHE"):
        return Path(chosen).expanduser().absolute()
    if xdg := env.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser().absolute() / "mabeam"
    home = env.get("HOME")
    return (Path(home) if home else Path.home()) / ".cache" / "mabeam"


def checked_name(name: str) -> str:
    """The name itself when it can be a directory, a cgroup and part of a node's certificate; else an error."""
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"'{name}' cannot name a cluster: use at most 30 lower case letters, digits and '-', "
            "beginning and ending with a letter or digit."
        )
    return name


@dataclass(frozen=True)
class Shape:
    """What a cluster was asked to be; kept in its state so that a later `up` repairs the same thing."""

    slot: int
    nodes: int = 1
    kwok: int = 0
    unthrottled: str = "none"

    @property
    def control_plane_only(self) -> bool:
        """True when there is nothing that could run a pod."""
        return self.nodes == 0


@dataclass(frozen=True)
class Layout:
    """Paths and kernel-visible names of one cluster."""

    name: str
    cache: Path

    @property
    def state(self) -> Path:
        return self.cache / "clusters" / self.name

    @property
    def lock(self) -> Path:
        """Held by `up` and `down`; beside the state, because `down` removes the state."""
        return self.cache / "clusters" / f".{self.name}.lock"

    @property
    def shape_file(self) -> Path:
        return self.state / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """One small file for every process that was started."""
        return self.state / "run"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"

    @property
    def cgroup(self) -> str:
        """The cgroup, relative to the root of every hierarchy, under which all processes of the cluster are."""
        if self.cache == cache_root({"HOME": os.environ.get("HOME", "")}):
            return f"/mabeam.{self.name}"
        # Another cache may hold a cluster of the same name, and it must not be taken for this one.
        return f"/mabeam.{self.name}.{hashlib.sha256(str(self.cache).encode()).hexdigest()[:8]}"

    def node(self, name: str) -> Path:
        return self.state / "nodes" / name

    def read_shape(self) -> Shape | None:
        """What the cluster was asked to be, or None when there is no such cluster."""
        try:
            data = json.loads(self.shape_file.read_text())
            return Shape(**data)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as broken:
            raise ClusterError(
                f"{self.shape_file} is damaged ({broken}): run `cluster down --name {self.name}`, then `up`."
            ) from broken

    def write_shape(self, shape: Shape) -> None:
        write_atomically(self.shape_file, json.dumps(asdict(shape)) + "\n")


def layout(name: str, cache: Path | None = None) -> Layout:
    """The layout of the cluster of that name in the user's cache."""
    return Layout(checked_name(name), cache or cache_root())


def known_clusters(cache: Path) -> list[str]:
    """The names of all clusters that have state, sorted."""
    try:
        entries = list((cache / "clusters").iterdir())
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def node_names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(1, count + 1)]


def write_atomically(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """The file with its whole new content or its whole old one, whatever kills the writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
        out.write(data)
    temporary.replace(path)
