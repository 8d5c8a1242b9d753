"""What the embedded cluster tells its programs, and how it reads the machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from embedded import cgroups, cli, components, current, images, processes, status
from embedded.components import Plan
from embedded.errors import ClusterError
from embedded.layout import Layout, Shape
from embedded.network import Subnets
from embedded.starter import _Starter
from embedded.tools import TOOLS


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(Layout("mabeam", tmp_path), Subnets(1), {tool: Path("/bin") / tool for tool in TOOLS})


@pytest.mark.parametrize("may_lower", [True, False])
def test_containerd_lowers_oom_scores_only_where_the_kernel_lets_it(plan: Plan, may_lower: bool) -> None:
    parsed = tomllib.loads(components.containerd_toml("node-2", plan, "overlayfs", may_lower))
    cri = parsed["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is not may_lower
    assert cri["sandbox_image"] == components.PAUSE_IMAGE
    assert cri["containerd"]["snapshotter"] == "overlayfs"
    assert parsed["root"] == str(plan.layout.node("node-2") / "containerd")


def test_nodes_share_nothing(plan: Plan) -> None:
    one, two = (components.kubelet_configuration(f"node-{number}", number, plan) for number in (1, 2))
    for field in ("address", "healthzBindAddress", "tlsCertFile", "cgroupRoot"):
        assert one[field] != two[field]
    networks = [components.cni_configuration(f"node-{n}", n, plan)["plugins"][0]["ipam"] for n in (1, 2)]
    assert networks[0]["ranges"] != networks[1]["ranges"]
    assert networks[0]["dataDir"] != networks[1]["dataDir"]


def test_kubelet_never_collects_images(plan: Plan) -> None:
    configuration = components.kubelet_configuration("node-1", 1, plan)
    assert configuration["imageGCHighThresholdPercent"] == 100
    assert configuration["evictionHard"]["imagefs.available"] == "0%"


def test_files_are_json(plan: Plan) -> None:
    files = components.node_files("node-1", 1, plan, "native", True)
    files |= components.cluster_files(plan, Path(components.__file__).parents[1])
    for name, content in files.items():
        if name.endswith((".json", ".conflist")):
            assert json.loads(content)


def test_apiserver_audits_without_bodies(plan: Plan) -> None:
    arguments = components.apiserver(plan)
    assert f"--audit-log-path={plan.layout.audit_log}" in arguments
    policy = json.loads(components.cluster_files(plan, Path(components.__file__).parents[1])["audit-policy.json"])
    assert policy["rules"] == [{"level": "Metadata"}]


@pytest.mark.parametrize(
    ("unthrottled", "free"),
    [("none", set()), ("scheduler", {"scheduler"}), ("all", {"scheduler", "controller_manager"})],
)
def test_limits_of_requests_are_lifted_only_of_whom_it_was_asked(plan: Plan, unthrottled: str, free: set[str]) -> None:
    asked = replace(plan, unthrottled=unthrottled)
    for name in ("scheduler", "controller_manager"):
        assert ("--kube-api-qps=5000" in getattr(components, name)(asked)) is (name in free)
    # A stock cluster starts kwok as ever: its command line is what `up` compares.
    assert any("kwok.json" in word for word in components.kwok(asked)) is bool(free)


def test_fake_nodes_attract_nobody() -> None:
    assert components.kwok_node(3, "v1")["spec"]["taints"][0]["effect"] == "NoSchedule"


V1 = """\
30 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
HYBRID = V1 + "34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
V2 = "30 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("text", "tracked", "pure"),
    [(V1, "systemd", False), (HYBRID, "unified", False), (V2, "cgroup", True)],
)
def test_cgroup_versions(text: str, tracked: str, pure: bool) -> None:
    found = cgroups.parse_mountinfo(text)
    assert cgroups.tracking(found).mount.name == tracked
    assert cgroups.pure_version_2(found) is pure


def test_archive_is_an_image_and_always_the_same(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    for name in ("one", "two"):
        images.write_archive(tmp_path / name, "x.dev/y:1", {"program": program}, ["/program"])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as tar:
        parts = {entry.name: (tar.extractfile(entry) or io.BytesIO()).read() for entry in tar}
    manifest = json.loads(parts["manifest.json"])[0]
    assert manifest["RepoTags"] == ["x.dev/y:1"]
    layer = "sha256:" + hashlib.sha256(parts[manifest["Layers"][0]]).hexdigest()
    assert json.loads(parts[manifest["Config"]])["rootfs"]["diff_ids"] == [layer]


def test_a_recycled_process_id_is_not_ours(tmp_path: Path) -> None:
    registry = processes.Registry(tmp_path)
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        registry.write("kubelet/node-1", sleeper.pid, ["kubelet"])
        assert registry.names() == ["kubelet/node-1"]
        record = registry.alive("kubelet/node-1")
        assert record is not None
        assert not processes.Record(record.pid, record.start - 1, ()).alive
        os.kill(sleeper.pid, signal.SIGSTOP)
        os.waitpid(sleeper.pid, os.WUNTRACED)
        assert record.stopped
        registry.kill("kubelet/node-1")
        assert registry.alive("kubelet/node-1") is None
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize("content", ["", "{}", '{"pid": "x", "start": 1, "argv": []}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "etcd.json").write_text(content)
    assert processes.Registry(tmp_path).alive("etcd") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.9, "59s"), (60, "1m00s"), (185, "3m05s"), (7800, "2h10m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text


def test_what_belongs_to_kubectl_is_left_alone() -> None:
    separated = cli._with_rest_separated
    assert separated(["kubectl", "get", "pods", "--name", "x"]) == ["kubectl", "--", "get", "pods", "--name", "x"]
    assert separated(["kubectl", "--name", "t", "get"]) == ["kubectl", "--name", "t", "--", "get"]
    assert separated(["kubectl", "--name=t", "--", "get"]) == ["kubectl", "--name=t", "--", "get"]
    assert separated(["kubectl", "--namespace", "x", "get"])[1] == "--"
    assert separated(["status", "--name", "t"]) == ["status", "--name", "t"]


def test_components_by_short_name(tmp_path: Path) -> None:
    cluster = cli.Cluster(Layout("mabeam", tmp_path), Shape(slot=0, nodes=2))
    assert cli._component(cluster, "apiserver") == "kube-apiserver"
    assert cli._component(cluster, "kubelet/node-2") == "kubelet/node-2"
    assert cli._component(cluster, "node-2") == "node/node-2"
    with pytest.raises(ClusterError, match="kubelet/node-1, kubelet/node-2"):
        cli._component(cluster, "kubelet")


def test_only_a_kubelet_that_came_before_its_runtime_is_started_again(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = cli.Cluster(plan.layout, Shape(slot=0, nodes=2))
    starter, started = _Starter(cluster, plan), []
    monkeypatch.setattr(starter, "_kubelet", lambda node, number: started.append((node, number)))
    cluster.layout.logs.mkdir(parents=True)
    said = {"kubelet/node-1": "a flag is wrong", "kubelet/node-2": "server is not initialized yet", "etcd": "no disk"}
    for component, words in said.items():
        cluster.log(component).write_text(f"E1126 run.go: {words}\n")
    assert [component for component in said if starter._started_again(component)] == ["kubelet/node-2"]
    assert started == [("node-2", 2)]


def test_only_current_selects_the_users_cluster() -> None:
    assert current.selected({"CLUSTER": "current"})
    assert not current.selected({})
    assert not current.selected({"CLUSTER": "embedded"})
    with pytest.raises(ClusterError, match="CLUSTER=kind"):
        current.selected({"CLUSTER": "kind"})
