"""The embedded cluster of the benchmark, and what the operator needs in it: CRDs, rights, an account, namespaces."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from benchmarks.arena.api import Api, Call, create
from benchmarks.arena.arms import NODES, POPULATIONS
from support.async_api import JsonDict

ROOT: Final = Path(__file__).resolve().parents[2]
TOOL: Final = ROOT / "hack/cluster/cluster"
OPERATOR_NAMESPACE: Final = "mabeam-system"
PROBE_NAMESPACE: Final = "bench-probes"
_ACCOUNTS: Final = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/serviceaccounts"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


@dataclass(frozen=True)
class BenchCluster:
    """One embedded cluster: control plane and fake nodes only."""

    name: str

    def _run(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [TOOL, command, "--name", self.name, *arguments], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"cluster {command} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def up(self, unthrottled: str = "all") -> None:
        """It runs, with the limits of requests lifted from those programs (see hack/cluster/README.md)."""
        self._run("up", "--control-plane-only", "--kwok", str(NODES), "--unthrottled", unthrottled)

    def down(self) -> None:
        """Nothing of it is left."""
        self._run("down")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return Path(self._run("kubeconfig"))

    @property
    def audit_log(self) -> Path:
        """The apiserver's log of who asked what."""
        return self.kubeconfig.parent / "logs/audit.log"

    def pid(self, component: str) -> int:
        """The component's process."""
        return int(self._run("pid", component))


async def prepare(api: Api, before: Path | None = None) -> None:
    """The cluster has the CRDs, the operator's rights and account, and a namespace for each arm.

    With another checkout the account has the rights of its operator too; the CRDs are this tree's.
    """
    for file in sorted((ROOT / "crds").glob("*mabeam.dev.yaml")):
        definition = yaml.safe_load(file.read_text())
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
        body = json.dumps(definition).encode()
        apply = Call("PATCH", path, body, "application/apply-patch+yaml")
        await api.send(apply, {"fieldManager": "benchmark", "force": "true"})
    for namespace in (OPERATOR_NAMESPACE, PROBE_NAMESPACE, *(arm.namespace for arm in POPULATIONS.values())):
        await api.ensure(create("/api/v1/namespaces", {"metadata": {"name": namespace}}))
    await api.ensure(create(_ACCOUNTS, {"metadata": {"name": "mabeam"}}))
    subject = {"kind": "ServiceAccount", "name": "mabeam", "namespace": OPERATOR_NAMESPACE}
    for scope in ("workload", "nodes", "lease"):
        name = f"mabeam-{scope}"
        rules = []
        for checkout in (ROOT, *([before] if before else [])):
            rules += yaml.safe_load((checkout / f"charts/mabeam/files/rbac-{scope}.yaml").read_text())["rules"]
        role = {"kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
        await api.send(
            Call(
                "PATCH",
                f"{_RBAC}/clusterroles/{name}",
                json.dumps({**role, "rules": rules}).encode(),
                "application/apply-patch+yaml",
            ),
            {"fieldManager": "benchmark", "force": "true"},
        )
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        binding: JsonDict = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        await api.ensure(create(f"{_RBAC}/clusterrolebindings", binding))


async def operator_token(api: Api) -> str:
    """A token of the operator's account, good for a day."""
    answer = await api.send(create(f"{_ACCOUNTS}/mabeam/token", {"spec": {"expirationSeconds": 86_400}}))
    return str(answer["status"]["token"])


def write_operator_kubeconfig(admin: Path, token: str, path: Path) -> None:
    """A kubeconfig with the operator's own account: only so do its rights, and priority and fairness, apply to it."""
    config = yaml.safe_load(admin.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
