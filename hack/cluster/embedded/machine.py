"""What the machine must be able to do, and the Debian packages that are installed when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from embedded import cgroups, namespaces
from embedded.errors import ClusterError, cannot_run_here
from embedded.layout import cache_root
from embedded.locks import held
from embedded.owned import owned
from embedded.progress import Step, step

_CAP_NET_ADMIN = 12
_CAP_SYS_RESOURCE = 24
_CNI_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")

# The command that shows that the package is there, and the package.
_CONTROL_PLANE_PACKAGES = (("openssl", "openssl"), ("ip", "iproute2"), ("mount", "mount"), ("nsenter", "util-linux"))
_NODE_PACKAGES = (
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
)


def check() -> None:
    """Nothing when the embedded cluster can run here; else the one error that says what is missing."""
    if sys.platform != "linux":
        raise cannot_run_here(f"The embedded Kubernetes needs Linux; this is {sys.platform}.")
    if os.geteuid() != 0:
        raise cannot_run_here(
            "The embedded Kubernetes needs root: it makes network namespaces, mounts and cgroups. Run it with sudo."
        )
    _check_namespaces()
    _check_cgroups()


def _check_namespaces() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            namespaces.unshare(namespaces.NEWNET | namespaces.NEWNS | namespaces.NEWPID)
        except OSError as refused:
            os.write(writer, str(refused).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as pipe:
        refusal = pipe.read().decode()
    if not refusal and not _has_capability(_CAP_NET_ADMIN):
        refusal = "CAP_NET_ADMIN is missing"
    if refusal:
        raise cannot_run_here(
            f"The kernel refuses namespaces with a network of their own ({refusal}). "
            "Inside a container, give it the capabilities SYS_ADMIN and NET_ADMIN (for Docker: --privileged)."
        )


def _check_cgroups() -> None:
    found = cgroups.hierarchies()
    probe = cgroups.tracking(found).mount / f"mabeam-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as refused:
        raise cannot_run_here(f"cgroups cannot be made below {probe.parent} ({refused.strerror}).") from refused
    if not cgroups.pure_version_2(found):
        have = {controller for hierarchy in found for controller in hierarchy.controllers}
        missing = cgroups.NEEDED - have
        if missing:
            raise cannot_run_here(f"These cgroup controllers are not mounted: {', '.join(sorted(missing))}.")


def install_packages(for_nodes: bool) -> None:
    """Every needed command present; missing ones are installed from Debian, and the user is told."""
    missing = missing_packages(for_nodes)
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise cannot_run_here(
            f"These programs are missing: {', '.join(missing)} (Debian's package names), and there is no apt-get here. "
            "Install them with this system's package manager."
        )
    with step(f"install Debian packages: {' '.join(missing)}") as running:
        install_from_debian(missing, running)
    still = missing_packages(for_nodes)
    if still:
        raise cannot_run_here(f"Installed, but still not usable: {', '.join(still)}.")


def install_from_debian(packages: Sequence[str], running: Step) -> None:
    """Nothing when the packages are installed; raises ClusterError with apt's own words."""
    patient = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    # An installation that was killed half-way refuses every later one until it is gone on with (dpkg(1), --configure).
    apt_get(["dpkg", "--configure", "-a"], running)
    apt_get(["apt-get", *patient, "update"], running)
    apt_get(["apt-get", *patient, "install", "--yes", "--no-install-recommends", *packages], running)


def missing_packages(for_nodes: bool) -> list[str]:
    wanted = _CONTROL_PLANE_PACKAGES + (_NODE_PACKAGES if for_nodes else ())
    missing = {package: None for command, package in wanted if not shutil.which(command)}
    if for_nodes and cni_plugins() is None:
        missing["containernetworking-plugins"] = None
    return list(missing)


def cni_plugins() -> str | None:
    """The directory with the network plugins, or None."""
    return next((one for one in _CNI_DIRECTORIES if (Path(one) / "ptp").exists()), None)


def may_lower_oom_score() -> bool:
    """Whether the kernel lets this process set any OOM score."""
    return _has_capability(_CAP_SYS_RESOURCE)


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def apt_get(command: list[str], running: Step, directory: Path | None = None) -> None:
    """Run it (in that directory); raises ClusterError with apt's own words."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    action = next((word for word in command if word in ("update", "install", "download")), command[0])
    with tempfile.TemporaryFile("w+") as output:
        with (
            held(cache_root() / ".apt.lock", "another run installs packages"),
            owned(command, cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
        ):
            while process.poll() is None:
                time.sleep(0.2)
                running.tick(action)
        output.seek(0)
        lines = [line.strip() for line in output if line.startswith(("E:", "W:"))]
    if process.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed: {'; '.join(lines[:4]) or f'exit {process.returncode}'}")
