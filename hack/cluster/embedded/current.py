"""CLUSTER=current: the user's own cluster and kubeconfig, which are only ever looked at."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedded.errors import ClusterError
from embedded.tools import Toolbox


def selected(environ: Mapping[str, str] | None = None) -> bool:
    """True when the environment says that the user's current cluster is to be used."""
    value = (os.environ if environ is None else environ).get("CLUSTER", "")
    if value not in ("", "current", "embedded"):
        raise ClusterError(f"CLUSTER={value}: set it to 'current' (your kubeconfig's context) or leave it unset.")
    return value == "current"


def kubectl() -> str:
    """The user's own kubectl if there is one, else the built one."""
    return shutil.which("kubectl") or str(Toolbox().ensure(["kubectl"])["kubectl"])


def kubeconfig() -> str:
    """What KUBECONFIG holds, or the file that kubectl reads without it."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def context() -> str:
    """The name of the current context."""
    ran = _run(["config", "current-context"])
    if ran.returncode != 0:
        raise ClusterError(
            f"CLUSTER=current, but {kubeconfig()} has no current context. Choose one with "
            "`kubectl config use-context NAME`, set KUBECONFIG, or unset CLUSTER for the embedded cluster."
        )
    return ran.stdout.strip()


def verify() -> str:
    """One line that says which context is used; an error when its apiserver does not answer."""
    name = context()
    ran = _run(["version", "--request-timeout=10s", "--output=json"])
    if ran.returncode != 0:
        reason = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise ClusterError(f"CLUSTER=current: the apiserver of context '{name}' does not answer: {reason}")
    return f"Using your current context '{name}' ({kubeconfig()}); nothing was started."


def load_images(archives: Sequence[str]) -> None:
    """The images in the current cluster's nodes, if it is a kind cluster; else the error that says what to do."""
    name = context()
    kind = shutil.which("kind")
    if not name.startswith("kind-") or kind is None:
        extra = " (`kind` is not on PATH)" if name.startswith("kind-") else ""
        raise ClusterError(
            f"CLUSTER=current: images cannot be put into the nodes of context '{name}'{extra}. Push the image to a "
            "registry that the cluster can pull from, or for kind run `kind load image-archive FILE`."
        )
    for archive in archives:
        ran = subprocess.run([kind, "load", "image-archive", "--name", name.removeprefix("kind-"), archive])
        if ran.returncode != 0:
            raise ClusterError(f"`kind load image-archive {archive}` failed with exit {ran.returncode}.")


def _run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([kubectl(), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
