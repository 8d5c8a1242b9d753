"""The command line and configuration of every program of a cluster; rendering only, nothing is started here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded.layout import UNTHROTTLED, Layout
from embedded.network import API_PORT, Subnets

PAUSE_IMAGE = "mabeam.dev/pause:1"
ETCD_URL = "http://127.0.0.1:2379"
# Paths inside a node's own mount namespace; every node sees its own directory there.
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class Plan:
    """All that the rendering needs to know of one cluster."""

    layout: Layout
    subnets: Subnets
    binaries: dict[str, Path]
    containerd: str = "/usr/bin/containerd"
    cni_plugins: str = "/usr/lib/cni"
    unthrottled: str = "none"

    def binary(self, tool: str) -> str:
        return str(self.binaries[tool])

    def pem(self, name: str) -> str:
        return str(self.layout.pki / f"{name}.pem")

    @property
    def ca(self) -> str:
        return str(self.layout.pki / "ca.crt")

    def user(self, name: str) -> str:
        """The path of a component's kubeconfig."""
        return str(self.layout.config / f"{name}.kubeconfig")

    def rendered(self, name: str) -> str:
        return str(self.layout.config / name)

    def rate(self, component: str) -> list[str]:
        """The flags that lift the limit of requests per second; none where the stock limit holds.

        Priority and fairness, which shares the apiserver among its callers, is left on in any case.
        """
        free = component in UNTHROTTLED[self.unthrottled]
        return ["--kube-api-qps=5000", "--kube-api-burst=10000"] if free else []


def etcd(plan: Plan) -> list[str]:
    # Loopback of the cluster's own network: nothing on the host, and no pod, can reach it.
    return [
        plan.binary("etcd"),
        f"--data-dir={plan.layout.state / 'etcd'}",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--quota-backend-bytes=4294967296",
        "--auto-compaction-retention=10m",
    ]


def apiserver(plan: Plan) -> list[str]:
    service_account = str(plan.layout.pki / "service-account.key")
    return [
        plan.binary("kube-apiserver"),
        f"--etcd-servers={ETCD_URL}",
        f"--advertise-address={plan.subnets.api_ip}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={plan.subnets.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={plan.ca}",
        f"--tls-cert-file={plan.pem('apiserver')}",
        f"--tls-private-key-file={plan.pem('apiserver')}",
        f"--kubelet-certificate-authority={plan.ca}",
        f"--kubelet-client-certificate={plan.pem('apiserver-kubelet')}",
        f"--kubelet-client-key={plan.pem('apiserver-kubelet')}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={service_account}",
        f"--service-account-signing-key-file={service_account}",
        f"--proxy-client-cert-file={plan.pem('front-proxy')}",
        f"--proxy-client-key-file={plan.pem('front-proxy')}",
        f"--requestheader-client-ca-file={plan.layout.pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--enable-aggregator-routing=true",
        f"--audit-policy-file={plan.rendered('audit-policy.json')}",
        f"--audit-log-path={plan.layout.audit_log}",
        "--audit-log-maxsize=256",
        "--audit-log-maxbackup=4",
        "--profiling=false",
    ]


def controller_manager(plan: Plan) -> list[str]:
    kubeconfig = plan.user("kube-controller-manager")
    return [
        plan.binary("kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        # One copy only, and a restarted one must not wait for its own old lease.
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={plan.ca}",
        f"--cluster-signing-cert-file={plan.ca}",
        f"--cluster-signing-key-file={plan.layout.pki / 'ca.key'}",
        f"--service-account-private-key-file={plan.layout.pki / 'service-account.key'}",
        f"--service-cluster-ip-range={plan.subnets.services}",
        f"--cluster-cidr={plan.subnets.pods}",
        "--profiling=false",
        *plan.rate("kube-controller-manager"),
    ]


def scheduler(plan: Plan) -> list[str]:
    kubeconfig = plan.user("kube-scheduler")
    return [
        plan.binary("kube-scheduler"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
        *plan.rate("kube-scheduler"),
    ]


def kube_proxy(plan: Plan) -> list[str]:
    return [plan.binary("kube-proxy"), f"--config={plan.rendered('kube-proxy.json')}", "--hostname-override=node-1"]


def kwok(plan: Plan) -> list[str]:
    return [
        plan.binary("kwok"),
        f"--kubeconfig={plan.user('kwok')}",
        f"--config={plan.rendered('kwok-stages.yaml')}",
        *([] if plan.unthrottled == "none" else [f"--config={plan.rendered('kwok.json')}"]),
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--cidr={plan.subnets.kwok_pods}",
        f"--node-ip={plan.subnets.api_ip}",
        "--node-lease-duration-seconds=40",
        "--server-address=127.0.0.1:10247",
    ]


def containerd(node: str, plan: Plan) -> list[str]:
    return [plan.containerd, f"--config={plan.rendered(f'{node}-containerd.toml')}"]


def kubelet(node: str, number: int, plan: Plan) -> list[str]:
    return [
        plan.binary("kubelet"),
        f"--config={plan.rendered(f'{node}-kubelet.json')}",
        f"--kubeconfig={plan.user(node)}",
        f"--hostname-override={node}",
        f"--node-ip={plan.subnets.node_ip(number)}",
        f"--root-dir={plan.layout.node(node) / 'kubelet'}",
        f"--node-labels=topology.kubernetes.io/zone=zone-{number}",
    ]


def kwok_configuration(plan: Plan) -> str:
    """For unthrottled clusters: kwok's client has no limit, but playing four stages at a time would be one of its own."""
    kind = {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration"}
    # Given one number, kwok wants them all: what is left out here is 0 to it and not its default.
    options = {
        "podPlayStageParallelism": 16,
        "nodePlayStageParallelism": 16,
        "nodeLeaseParallelism": 4,
        "podsOnNodeSyncParallelism": 1,
        "enablePodsOnNodeSyncListPager": True,
        "enablePodsOnNodeSyncStreamWatch": False,
    }
    return _json({**kind, "options": options})


def cluster_files(plan: Plan, source: Path) -> dict[str, str]:
    """The configuration files that belong to no single node, by name; `source` holds the ones not rendered here."""
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": plan.user("kube-proxy")},
        "mode": "iptables",
        "clusterCIDR": plan.subnets.pods,
        "detectLocalMode": "ClusterCIDR",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        # Limits of the machine's connection table belong to the machine.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        # The default of 1 s would be the slowest part of reaching a new Service.
        "iptables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }
    return {
        "audit-policy.json": _json(_AUDIT_POLICY),
        "kube-proxy.json": _json(proxy),
        # Copied, so that a second clone with the same pins starts the same command line.
        "kwok-stages.yaml": (source / "kwok" / "stages.yaml").read_text(),
        "kwok.json": kwok_configuration(plan),
        "resolv.conf": f"nameserver {plan.subnets.dns_ip}\n",
    }


def node_files(node: str, number: int, plan: Plan, snapshotter: str, may_lower_oom_score: bool) -> dict[str, str]:
    """The configuration files of one node, by name."""
    return {
        f"{node}-containerd.toml": containerd_toml(node, plan, snapshotter, may_lower_oom_score),
        f"{node}-kubelet.json": _json(kubelet_configuration(node, number, plan)),
        f"{node}-cni/10-mabeam.conflist": _json(cni_configuration(node, number, plan)),
    }


def containerd_toml(node: str, plan: Plan, snapshotter: str, may_lower_oom_score: bool) -> str:
    # Without CAP_SYS_RESOURCE the kernel refuses a lower OOM score, and runc would die of that.
    restrict = "false" if may_lower_oom_score else "true"
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = {_toml(plan.layout.node(node) / "containerd")}
state = "/run/containerd"
oom_score = 0

[grpc]
  address = "{CONTAINERD_SOCKET}"

[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = {restrict}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [{cri}.cni]
    bin_dir = "{plan.cni_plugins}"
    conf_dir = {_toml(plan.layout.config / f"{node}-cni")}
  [{cri}.containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def kubelet_configuration(node: str, number: int, plan: Plan) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.subnets.node_ip(number),
        "healthzBindAddress": plan.subnets.node_ip(number),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": plan.ca},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": plan.pem(node),
        "tlsPrivateKeyFile": plan.pem(node),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [plan.subnets.dns_ip],
        "clusterDomain": "cluster.local",
        "resolvConf": plan.rendered("resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"{plan.layout.cgroup}/{node}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        # Images come from nowhere but `load-image`: none may be collected, and a full disk evicts nothing.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "maxPods": 200,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "serializeImagePulls": False,
        "rotateCertificates": False,
    }


def cni_configuration(node: str, number: int, plan: Plan) -> dict[str, Any]:
    # A routed pair per pod needs no bridge, and so none of a bridge's filter switches for Services to work.
    return {
        "cniVersion": "0.4.0",
        "name": "mabeam",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(plan.layout.node(node) / "cni"),
                    "ranges": [[{"subnet": plan.subnets.node_pods(number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def kwok_node(number: int, version: str) -> dict[str, Any]:
    """A fake node; its taint keeps away every pod that does not ask for it."""
    name = f"kwok-{number}"
    size = {"cpu": "32", "memory": "256Gi", "pods": "1000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "type": "kwok",
            },
        },
        "spec": {"taints": [{"effect": "NoSchedule", "key": "kwok.x-k8s.io/node", "value": "fake"}]},
        "status": {"allocatable": size, "capacity": size, "nodeInfo": {"kubeletVersion": version}, "phase": "Running"},
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


def _toml(value: Path) -> str:
    # A TOML basic string is written like a JSON string.
    return json.dumps(str(value))
