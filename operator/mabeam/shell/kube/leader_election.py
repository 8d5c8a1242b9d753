"""Leader election by a Lease (client-go's `leaderelection` package), timed by this process's own monotonic clock.

The holder writes only while its own last successful renewal is recent; a candidate waits until it has *seen* the Lease
unchanged for its whole duration. No wall clock is compared with another machine's, so a stepped clock changes nothing.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, error_text

log = logging.getLogger("mabeam.lease")

RELEASE_TRIES: Final = 3


@dataclass
class LeaderElector:
    """Holds the Lease: renews it every third of its duration, and stops writing without a renewal for two thirds of it."""

    client: Client
    namespace: str
    name: str
    identity: str
    seconds: float  # the duration of the Lease
    elected: asyncio.Event = field(default_factory=asyncio.Event)
    _renewed_at: float = float("-inf")  # when the last successful renewal was sent, by the loop's clock
    _seen_version: str = ""  # resourceVersion of another holder's Lease
    _held_until: float = float("-inf")  # until when that Lease counts as held

    def may_write(self) -> bool:
        """Whether the Lease is certainly still held: no more a third of its duration before another process may take it."""
        return asyncio.get_running_loop().time() < self._renewed_at + self.seconds * 2 / 3

    async def run(self) -> None:
        """Acquire the Lease and renew it; returns only when it is lost."""
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            renewed_at = await self._renew()
            if renewed_at is not None:
                if not self.elected.is_set():
                    log.info("%s leads (lease %s/%s)", self.identity, self.namespace, self.name)
                self._renewed_at, self._held_until = renewed_at, float("-inf")
                self.elected.set()
            elif self.elected.is_set() and not self.may_write():
                log.error("the lease is lost; this process stops so that it writes nothing more")
                return
            pause = 1.0 if renewed_at is None else self.seconds / 3 - (clock() - started)
            await asyncio.sleep(max(0.1, pause))

    async def _renew(self) -> float | None:
        """When the attempt that holds the Lease began; None when none does.

        A request may hang for longer than the Lease lasts, where an apiserver or load balancer died without a word. So a second
        attempt begins while the first is still waited for; the Lease's version lets only one of them write.
        """
        if not self.elected.is_set():
            return await self._attempt()  # a candidate has time
        attempts = {asyncio.create_task(self._attempt())}
        deadline = asyncio.get_running_loop().time() + self.seconds * 2 / 3
        try:
            done, _ = await asyncio.wait(attempts, timeout=self.seconds / 6)
            if not done:
                attempts.add(asyncio.create_task(self._attempt()))
            async with asyncio.timeout_at(deadline):
                for finished in asyncio.as_completed(attempts):
                    if (began := await finished) is not None:
                        return began
        except TimeoutError:
            log.warning("the lease could not be renewed: no answer within %g s", self.seconds * 2 / 3)
        finally:
            for attempt in attempts:
                attempt.cancel()
        return None

    async def _attempt(self) -> float | None:
        began = asyncio.get_running_loop().time()
        return began if await self._try() else None

    async def release(self) -> None:
        """Release the Lease at a graceful stop, so that the next process need not wait until it expires."""
        if not self.elected.is_set() or not self.may_write():
            return
        try:
            for _ in range(RELEASE_TRIES):
                if await self._give_away():
                    return
        except REQUEST_ERRORS as problem:
            log.warning("the lease was not released: %s", error_text(problem))
        finally:
            self._renewed_at = float("-inf")

    async def _give_away(self) -> bool:
        """Whether this process no longer holds the Lease; False when a renewal that was cancelled arrived in between."""
        lease = await self.client.get("Lease", self.namespace, self.name)
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self.identity:
            return True
        body = {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": {"holderIdentity": ""}}
        try:
            await self.client.patch("Lease", self.namespace, self.name, body)
        except ApiError as problem:
            if problem.status != 409:
                raise
            return False
        return True

    async def _try(self) -> bool:
        try:
            lease = await self.client.get("Lease", self.namespace, self.name)
            now = asyncio.get_running_loop().time()  # after the answer: the Lease was seen no earlier than that
            if lease is None:
                if now <= self._held_until:
                    return False  # somebody deleted it, and its holder may not have noticed yet
                await self.client.create("Lease", self.namespace, self._body(0))
                return True
            spec: JsonDict = lease.get("spec") or {}
            holder, version = str(spec.get("holderIdentity") or ""), str(lease["metadata"]["resourceVersion"])
            if self.elected.is_set() and holder != self.identity:
                # Another process took it over: what this one knows may be stale, however recent its own renewal.
                self._renewed_at = float("-inf")
                return False
            if holder not in ("", self.identity) and not self._expired(version, spec, now):
                return False
            transitions = int(spec.get("leaseTransitions") or 0) + (holder != self.identity)
            body = self._body(transitions)
            body["metadata"]["resourceVersion"] = version
            if holder == self.identity:
                del body["spec"]["acquireTime"]
            await self.client.patch("Lease", self.namespace, self.name, body)
        except ApiError as problem:
            if problem.status != 409:
                log.warning("the lease could not be renewed: %s", problem)
            return False
        except REQUEST_ERRORS as problem:
            log.warning("the lease could not be renewed: %s", error_text(problem))
            return False
        return True

    def _expired(self, version: str, spec: JsonDict, now: float) -> bool:
        if self._seen_version != version:
            self._seen_version = version
            self._held_until = now + float(spec.get("leaseDurationSeconds") or 15)
        return now > self._held_until

    def _body(self, transitions: int) -> JsonDict:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": int(self.seconds),
                "acquireTime": stamp,
                "renewTime": stamp,
                "leaseTransitions": transitions,
            },
        }
