"""The arena: one cluster, one operator, one observer, and the means to fill and clear it between the arms."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.arena.api import Api, Call, create, patch
from benchmarks.arena.arms import ARMS, BEFORE, FLOOR, POPULATIONS, Arm, failed, names
from benchmarks.arena.audit import AuditLog
from benchmarks.arena.cluster import BenchCluster, operator_token, prepare, write_operator_kubeconfig
from benchmarks.arena.operator_process import Floor, Operator, usage

COMPONENTS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "etcd")


def log(text: str) -> None:
    """Tell what is going on, at once, with the time since the program began."""
    elapsed = time.monotonic() - _BEGAN
    print(f"[{int(elapsed // 60):3}:{int(elapsed % 60):02}] {text}", file=sys.stderr, flush=True)


_BEGAN: Final = time.monotonic()


@dataclass
class Arena:
    """Everything a case needs; what is in the cluster is known by arm in `population`."""

    cluster: BenchCluster
    api: Api
    audit: AuditLog
    controllers: Mapping[str, Operator]  # by name; one of them runs at a time
    pids: dict[str, int] = field(default_factory=dict)
    population: dict[str, int] = field(default_factory=dict)

    def throttle(self, unthrottled: str) -> None:
        """Restart what has to run with other limits now."""
        self.cluster.up(unthrottled)
        self.pids = {component: self.cluster.pid(component) for component in COMPONENTS}

    def cpu(self) -> dict[str, float]:
        """The CPU seconds every process of the arena has used so far."""
        used = {component: usage(pid).cpu for component, pid in self.pids.items()}
        running = {name: one.usage().cpu for name, one in self.controllers.items() if one.runs}
        return used | running

    @property
    def operator(self) -> Operator:
        """The operator of this tree."""
        return self.controllers["operator"]

    def arms(self, among: Iterable[str] = ARMS, floor: bool = False) -> list[Arm]:
        """Those of the arms, the other checkout's operator when there is one, and the floor when it is asked for."""
        chosen = [ARMS[name] for name in among]
        if BEFORE.controller in self.controllers:
            chosen.insert(1, BEFORE)
        return [*chosen, FLOOR] if floor else chosen

    async def use(self, name: str) -> bool:
        """The controller of that name runs and leads, and no other does; True when it had to be started."""
        for other, controller in self.controllers.items():
            if other != name:
                controller.stop()
        chosen = self.controllers[name]
        if chosen.runs:
            return False
        chosen.start()
        await chosen.until_leading()
        return True

    async def running_operator(self) -> None:
        """The operator of this tree runs, and leads."""
        await self.use("operator")

    async def fresh_operator(self) -> None:
        """The operator runs, leads, and is a process that has not done anything yet."""
        self.operator.stop()
        await self.running_operator()

    async def post(self, arm: Arm, which: Iterable[str]) -> None:
        """Create those objects of the arm, as fast as the apiserver takes them."""
        # Written out beforehand: what is timed is the cluster, not the writing of JSON.
        calls = [create(arm.path, arm.body(name)) for name in which]
        await self.api.send_all(calls)

    async def populate(self, sizes: Mapping[str, int]) -> None:
        """Each arm has so many objects with a running pod each, and every one that is not named has none."""
        for arm in POPULATIONS.values():
            wanted, there = sizes.get(arm.name, 0), self.population.get(arm.name)
            if there is None or wanted < there:
                await self.clear(arm)
                there = 0
            if wanted > there:
                log(f"{wanted} {arm.name} wanted, {there} there")
                await self._grow(arm, there, wanted)

    async def _grow(self, arm: Arm, there: int, wanted: int) -> None:
        self.population.pop(arm.name, None)  # until it is done, nobody knows what is there
        await self.post(arm, names(wanted - there, there))
        await self.until_running(arm, wanted)
        await self.audit.until_idle(arm.client, deadline=120 + wanted / 10)
        self.population[arm.name] = wanted

    async def rest(self, *clients: str, seconds: float = 2.0) -> None:
        """The operator, and whoever else is named, has come to rest."""
        await self.audit.until_idle("operator", *clients, seconds=seconds, deadline=600)

    async def pods_of(self, arm: Arm) -> dict[str, str]:
        """The arm's running pods by their owners."""
        found = {}
        async for pod in self.api.pages(arm.pods, fieldSelector="status.phase=Running"):
            if "deletionTimestamp" not in pod["metadata"]:
                found[pod["metadata"]["ownerReferences"][0]["name"]] = pod["metadata"]["name"]
        return found

    def fail(self, arm: Arm, pod: str) -> Call:
        """The request by which a pod fails."""
        return patch(f"{arm.pods}/{pod}/status", failed(), "application/strategic-merge-patch+json")

    async def until_running(self, arm: Arm, wanted: int) -> None:
        """So many of the arm's pods are there, and none waits to run."""
        deadline = time.monotonic() + 120 + wanted / 20
        while True:
            there = await self.api.count(arm.pods)
            if there >= wanted and not await self.api.count(arm.pods, fieldSelector="status.phase=Pending"):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{there} of {wanted} pods of {arm.name} are there, or some of them do not run")
            await asyncio.sleep(0.5)

    async def clear(self, arm: Arm) -> None:
        """Nothing of the arm is left: no object, no pod."""
        self.population.pop(arm.name, None)
        deadline = time.monotonic() + 900
        await self.api.clear(arm.path)
        maps = {"labelSelector": "app.kubernetes.io/managed-by=mabeam"}
        while left := (
            await self.api.count(arm.path)
            + await self.api.count(arm.pods)
            + await self.api.count(f"/api/v1/namespaces/{arm.namespace}/configmaps", **maps)
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} objects of {arm.name} do not go away")
            await asyncio.sleep(0.3)
        self.population[arm.name] = 0


@asynccontextmanager
async def arena(cluster: BenchCluster, before: Path | None = None) -> AsyncIterator[Arena]:
    """The arena, with an empty cluster and a running operator; at the end it is gone. `before` is another checkout."""
    cluster.up()
    admin = cluster.kubeconfig
    async with Api(admin) as api:
        await prepare(api, before)
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "kubeconfig"
            write_operator_kubeconfig(admin, await operator_token(api), config)
            logs = admin.parent / "logs"
            controllers = {
                "operator": Operator(config, logs / "operator.log"),
                "floor": Floor(config, logs / "floor.log"),
            }
            if before:
                controllers["before"] = Operator(config, logs / "before.log", before)
            ours = Arena(cluster, api, AuditLog(cluster.audit_log), controllers)
            ours.throttle("all")
            try:
                await ours.running_operator()
                for arm in POPULATIONS.values():
                    await ours.clear(arm)
                yield ours
            finally:
                for controller in controllers.values():
                    with contextlib.suppress(RuntimeError):
                        controller.stop()
