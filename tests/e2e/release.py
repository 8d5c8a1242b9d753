"""helm, as a user runs it: install, upgrade and uninstall the chart of this tree with the tests' image."""

import json
import subprocess
from pathlib import Path

from support.kube import Kube, Refused, required, until

CHART = Path(__file__).resolve().parents[2] / "charts/mabeam"
NAMESPACE = "mabeam-system"
RELEASE = "mabeam"
SELECTOR = "app.kubernetes.io/component=operator,app.kubernetes.io/part-of=mabeam"


def helm(*arguments: str) -> str:
    """What helm printed; raises Refused with its words when it failed."""
    done = subprocess.run(
        [required("MABEAM_TEST_HELM"), "--namespace", NAMESPACE, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise Refused(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def install(*values: str) -> None:
    """Install or upgrade, and wait until the operator is ready."""
    repository, _, tag = required("MABEAM_TEST_IMAGE").rpartition(":")
    settings = (f"image.repository={repository}", *values)
    # CRDs that other tests applied by hand become the release's own.
    helm(
        "upgrade",
        "--install",
        RELEASE,
        str(CHART),
        "--take-ownership",
        "--wait",
        "--timeout=180s",
        *("--set-string", f"image.tag={tag}"),  # a tag of twelve decimal digits would be a number
        *(word for value in settings for word in ("--set", value)),
    )
    Kube(NAMESPACE).run("rollout", "status", f"deployment/{RELEASE}", "--timeout=180s", timeout=200)
    until("somebody leads", leader, 60)


def uninstall() -> None:
    """Uninstall, if it is installed."""
    if RELEASE in [release["name"] for release in json.loads(helm("list", "--output", "json"))]:
        helm("uninstall", RELEASE, "--wait", "--timeout=120s")


def operator_pods() -> list[str]:
    """The names of the operator's pods that are not going."""
    pods = Kube(NAMESPACE).list("pod", SELECTOR)
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def leader() -> str | None:
    """The pod that holds the Lease, if it is there."""
    lease = Kube(NAMESPACE).find("lease", RELEASE)
    holder = (lease or {}).get("spec", {}).get("holderIdentity")
    return holder if holder in operator_pods() else None
