"""The pinned programs, built from Go modules into the cache once per pin, whichever clone asks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from embedded.errors import ClusterError, cannot_run_here
from embedded.layout import SOURCE, cache_root
from embedded.locks import held
from embedded.owned import owned
from embedded.progress import Step, say, step

KUBERNETES = "v1.35.4"
ETCD = "v3.6.16"
KWOK = "v0.8.0"
HELM = "v3.22.0"

_MAJOR, _MINOR = KUBERNETES[1:].split(".")[:2]


@dataclass(frozen=True)
class Family:
    """One Go module directory and the programs built from it."""

    name: str
    packages: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return SOURCE / "go" / self.name

    @property
    def ldflags(self) -> str:
        return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in self.variables.items())])


def _kubernetes_variables() -> dict[str, str]:
    values = {"gitVersion": KUBERNETES, "gitMajor": _MAJOR, "gitMinor": _MINOR, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in values.items()}


def _helm_variables() -> dict[str, str]:
    # Without these, `helm template` and `helm lint` judge charts for Kubernetes 1.20.
    helm = "helm.sh/helm/v3"
    values = {f"{helm}/internal/version.version": HELM, f"{helm}/internal/version.metadata": ""}
    for package in ("pkg/chartutil", "pkg/lint/rules"):
        values[f"{helm}/{package}.k8sVersionMajor"] = _MAJOR
        values[f"{helm}/{package}.k8sVersionMinor"] = _MINOR
    return values


_KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
FAMILIES = (
    Family(
        "kubernetes", {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES_COMMANDS}, _kubernetes_variables()
    ),
    Family("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Family("pause", {"pause": "mabeam.dev/cluster/pause"}),
    Family("probe", {"probe": "mabeam.dev/cluster/probe"}),
    Family("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, {"sigs.k8s.io/kwok/pkg/consts.Version": KWOK}),
    Family("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}, _helm_variables()),
)
_FAMILY_OF = {tool: family for family in FAMILIES for tool in family.packages}
TOOLS = tuple(_FAMILY_OF)
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "pause")
NODES = ("kubelet", "kube-proxy")

# Static and without machine paths: what one clone built must serve every other.
_BUILD_FLAGS = ("-trimpath", "-buildvcs=false")
_BUILD_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}


def cache_key(family: Family, go_version: str) -> str:
    """Twelve hex digits that change whenever the binaries could: pins, sources, flags or the Go version."""
    digest = hashlib.sha256()
    for part in (go_version, *_BUILD_FLAGS, family.ldflags, *sorted(_BUILD_ENVIRONMENT.items())):
        digest.update(f"{part}\0".encode())
    for tool, package in sorted(family.packages.items()):
        digest.update(f"{tool}={package}\0".encode())
    for path in sorted(family.directory.iterdir()):
        if path.name in ("go.mod", "go.sum") or path.suffix == ".go":
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class Toolbox:
    """Finds built programs in the cache, and builds the ones that are missing."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache or cache_root()
        self._go_version = ""

    def path(self, tool: str) -> Path:
        """Where the tool is, or will be once built."""
        family = supervisors_by_name(tool)
        return self.cache / "bin" / f"{family.name}-{cache_key(family, self._version())}" / tool

    def ensure(self, tools: Iterable[str]) -> dict[str, Path]:
        """The path of each tool, every one of them built and runnable."""
        wanted = list(dict.fromkeys(tools))
        paths = {tool: self.path(tool) for tool in wanted}
        if all(path.exists() for path in paths.values()):
            return paths
        (self.cache / "bin").mkdir(parents=True, exist_ok=True)
        with _locked(self.cache / "bin" / ".lock"):
            # Another build may have made them while this one waited.
            missing = [tool for tool in wanted if not paths[tool].exists()]
            if missing:
                say(f"Building {', '.join(missing)} into {self.cache / 'bin'} (once; later runs reuse them)")
            done = 0
            for family in FAMILIES:
                batch = [tool for tool in missing if tool in family.packages]
                if batch:
                    self._build(family, batch, _place(done + 1, done + len(batch), len(missing)))
                    done += len(batch)
        return paths

    def _build(self, family: Family, tools: list[str], place: str) -> None:
        """All tools of one family in one go command, so that both cores stay busy while big programs are linked."""
        target = self.path(tools[0]).parent
        target.mkdir(parents=True, exist_ok=True)
        names = tools[0] if len(tools) == 1 else f"{len(tools)} tools of {family.name}"
        scratch_directory = tempfile.TemporaryDirectory(prefix=".build-", dir=self.cache / "bin")
        with step(f"build {names}, {place}") as running, scratch_directory as scratch:
            for package_tools in _by_output_name(family, tools):
                self._go_build(family, package_tools, Path(scratch), running)
            for tool in tools:
                (Path(scratch) / tool).replace(target / tool)

    def _go_build(self, family: Family, tools: list[str], scratch: Path, running: Step) -> None:
        output = f"{scratch}/" if len(tools) > 1 else str(scratch / tools[0])
        command = [go_command(), "build", "-v", *_BUILD_FLAGS, "-ldflags", family.ldflags, "-o", output]
        command += [family.packages[tool] for tool in tools]
        log = scratch / "log"
        environment = {**os.environ, **_BUILD_ENVIRONMENT}
        with (
            open(log, "wb") as out,
            owned(command, cwd=family.directory, env=environment, stdout=out, stderr=out) as process,
        ):
            while process.poll() is None:
                time.sleep(0.2)
                lines = log.read_bytes().splitlines()
                downloads = sum(1 for line in lines if line.startswith(b"go: downloading"))
                running.tick(f"{downloads} modules fetched, {len(lines) - downloads} packages compiled")
        if process.returncode != 0:
            tail = [line for line in log.read_text(errors="replace").splitlines() if ": " in line or "error" in line]
            raise ClusterError(
                f"go could not build {', '.join(tools)} (exit {process.returncode}): "
                + ("\n  ".join(tail[-6:]) or "no message; is the disk full?")
            )

    def _version(self) -> str:
        if not self._go_version:
            self._go_version = go_version()
        return self._go_version


def go_command() -> str:
    """The go program, or an empty text; also found where Go's own installer puts it, which sudo's PATH leaves out."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin") or ""


def go_version() -> str:
    """What `go env GOVERSION` says, for example go1.26.8."""
    if not go_command():
        raise cannot_run_here(
            "The `go` command is missing: the embedded Kubernetes is built from pinned Go modules. "
            "Install Go 1.26 or newer and put it on PATH."
        )
    # The answer must not depend on the directory: a go.mod there may ask for another toolchain.
    ran = subprocess.run([go_command(), "env", "GOVERSION"], cwd="/", capture_output=True, text=True)
    if ran.returncode != 0 or not ran.stdout.strip():
        raise cannot_run_here(f"`go env GOVERSION` failed: {ran.stderr.strip() or 'no message'}.")
    return ran.stdout.strip()


def supervisors_by_name(tool: str) -> Family:
    try:
        return _FAMILY_OF[tool]
    except KeyError:
        raise ClusterError(f"There is no tool '{tool}'. Known: {', '.join(TOOLS)}.") from None


def _place(first: int, last: int, total: int) -> str:
    """For example `3 of 9` or `1 to 6 of 9`."""
    return f"{first} of {total}" if first == last else f"{first} to {last} of {total}"


def _by_output_name(family: Family, tools: list[str]) -> list[list[str]]:
    """Tools that one go command can build: go names each output after its package's last element."""
    plain = [tool for tool in tools if family.packages[tool].rsplit("/", 1)[-1] == tool]
    odd = [[tool] for tool in tools if tool not in plain]
    return ([plain] if plain else []) + odd


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The lock held, and what builds that were killed left behind taken away: nobody else can be building."""
    with held(path):
        for stale in path.parent.glob(".build-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield
