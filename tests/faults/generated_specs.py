"""Anything a CRD's schema admits, and the pods, ConfigMaps and reports that go badly with it, drawn from a seed.

A drawer of its own: structural schemas hold int-or-string, preserved unknown fields and keyed lists, which JSON Schema has
not, and ten thousand worlds must cost seconds. Edges are drawn more often than the middle, few optional fields at a time.
"""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from faults.schema import INT_OR_STRING, LIST_KEYS, LIST_TYPE, PRESERVE, JsonDict, Schema

T = TypeVar("T")

FEW: Final = 6
INT64: Final = (-(2**63), -(2**53) - 1, -(2**31), -1, 0, 1, 2**31 - 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1)
NUMBERS: Final = (*INT64, 0.5, -0.0, 1e-300, 1e12, 1e300, -1e300, 2, 3, 5)
# Text that has broken something somewhere: bidi marks, combining marks, NUL, what looks like a key, a number, a path.
ODD_TEXT: Final = (
    "", " ", "a", "²", "٣", "İ", "ß", "\x00", "\n", "a\r\nb", "\u202eevil", "e\u0301" * 20, "👩‍👩‍👧‍👦", "\ufeff", "\U0010ffff",
    "null", "NaN", "1e999", "-0", "0x10", "true", "{}", "[]", "../../etc/passwd", "__class__", "{0.__class__}", "%s%n",
    "${jndi:x}", "9" * 400, "x" * 2000, "ä" * 1024,
)  # fmt: skip
TIMES: Final = (
    "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2025-12-31T23:59:30Z", "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:20Z", "2026-01-01T00:00:59Z", "2026-01-01T01:00:00Z", "2026-01-01T00:00:10+14:00", "2100-02-28T00:00:00Z",
    "9000-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00",
)  # fmt: skip
# For each pattern in the CRDs some texts that match it, and are as odd as it lets them be.
MATCHING: Final = (
    "a", "a" * 63, "a" * 253, "a-b.c-d", "x--y", "0", "1" * 31, "100m", "+.5e-3", "1Gi", "9E", "0.000001u", "t", "Critic", "_",
    "A.b_c-9", "/", "/metrics", "/%00/../x", "/" + "a" * 255, "/é", "team.work:Worker", "_:_", "A" * 120 + ":B", "https://x", "https://[::1]:1/é",
)  # fmt: skip


@dataclass
class Draw:
    """A seeded source of odd things."""

    rng: random.Random

    def rarely(self, one_in: int = 3) -> bool:
        return self.rng.randrange(one_in) == 0

    def of(self, *choices: T) -> T:
        return self.rng.choice(choices)

    def some(self, choices: Sequence[T], most: int) -> list[T]:
        return self.rng.sample(choices, self.rng.randint(0, min(most, len(choices))))

    def text(self) -> str:
        return (
            self.of(*ODD_TEXT)
            if self.rng.random() < 0.9
            else chr(self.rng.choice((0x7F, 0x600, 0x2028, 0xFFFF, 0x1F4A9)))
        )

    def leaf(self) -> Any:
        return self.of(None, True, False, self.of(*NUMBERS), self.of(*NUMBERS), self.text(), self.text())

    def value(self) -> Any:
        """Any JSON value but null."""
        shapes: tuple[Callable[[], Any], ...] = (
            lambda: self.of(*NUMBERS),
            self.text,
            lambda: self.of(True, 0.5, 1, "small", "a"),
            lambda: [self.leaf() for _ in range(self.rng.randrange(3))],
            lambda: {self.text(): self.leaf() for _ in range(self.rng.randrange(3))},
            lambda: self.of([[[[[]]]]], {"a": {"b": {"c": {"d": {}}}}}),
        )
        return self.of(*shapes)()

    def maybe(self, fields: Mapping[str, Callable[[], Any]]) -> JsonDict:
        """Some of the fields."""
        return {name: make() for name, make in fields.items() if self.rng.random() < 0.5}

    # --- from a schema ------------------------------------------------------------------------------------------------

    def admitted(self, schema: Schema, special: Mapping[str, Callable[[], Any]] | None = None, name: str = "") -> Any:
        """What the schema admits; `special` draws the fields of that name."""
        special = special or {}
        if name in special:
            return special[name]()
        if schema.get(INT_OR_STRING):
            return self.of(*INT64) if self.rarely() else self._text(schema)
        if schema.get(PRESERVE) and schema.get("type") != "object":
            return self.value()
        match schema.get("type"):
            case "object":
                return self._object(schema, special)
            case "array":
                return self._list(schema, special)
            case "string":
                return self._text(schema)
            case "boolean":
                return self.of(True, False)
            case kind:
                low, high = schema["minimum"], schema["maximum"]
                edges = [low, low + 1, 0, 1, 2, 3, high - 1, high, self.rng.randint(int(low), int(high))]
                edges += [0.1, 0.3, 1e-9, 1e-300, 0.5] if kind == "number" else []
                return self.of(*(number for number in edges if low <= number <= high))

    def _object(self, schema: Schema, special: Mapping[str, Callable[[], Any]]) -> JsonDict:
        if "properties" not in schema:
            if schema.get(PRESERVE):
                return {self.text(): self.value() for _ in range(self.rng.randrange(3))}
            values = schema["additionalProperties"]
            keys = self.some(
                ("a", "cpu", "memory", "example.com/x", "team", "mabeam.dev/agent", "ä" * 300, "", "\x00"), 3
            )
            return {key: self.admitted(values, special) for key in keys}
        fields = schema["properties"]
        required = [name for name in schema.get("required", ()) if name in fields]
        optional = [name for name in fields if name not in required]
        names = (*required, *self.some(optional, FEW))
        return {name: self.admitted(fields[name], special, name) for name in names}

    def _list(self, schema: Schema, special: Mapping[str, Callable[[], Any]]) -> list[Any]:
        least, most = schema.get("minItems", 0), min(schema.get("maxItems", 3), 3)
        found = [self.admitted(schema["items"], special) for _ in range(self.rng.randint(least, most))]
        if schema.get(LIST_TYPE) not in ("set", "map"):
            return found
        keys = schema.get(LIST_KEYS, ())
        return list({repr([item.get(key) for key in keys] if keys else item): item for item in found}.values())

    def _text(self, schema: Schema) -> str:
        if "enum" in schema:
            return str(self.of(*schema["enum"]))
        if schema.get("format") == "date-time":
            return self.of(*TIMES)
        least, most = schema.get("minLength", 0), schema.get("maxLength", 1024)
        if "pattern" in schema:
            pattern = re.compile(re.sub(r"\$$", r"\\Z", schema["pattern"]), re.ASCII)
            return str(self.of(*(text for text in MATCHING if least <= len(text) <= most and pattern.search(text))))
        edges = (*ODD_TEXT, *(letter * most for letter in 'äx\U0001f600"'))
        return str(self.of(*(text for text in edges if least <= len(text) <= most)))

    # --- what goes badly with it --------------------------------------------------------------------------------------

    def pod_template(self) -> JsonDict:
        """A pod template, in whose `spec` the CRD's schema admits anything: a pod, a pod with nonsense in it, or nonsense."""
        if self.rarely(10):
            return {"spec": {key: self.value() for key in self.some(("containers", *POD_FIELDS), 4)}}
        containers = json.loads(json.dumps(self.of(*CONTAINERS)))
        spec = {"containers": containers}
        for _ in range(self.rng.randrange(3)):
            self.of(spec, *containers)[self.of(*POD_FIELDS)] = self.of(None, self.value(), self.value())
        template: JsonDict = {"spec": spec}
        if self.rarely():
            keys = self.some(
                ("team", "example.com/x", "mabeam.dev/agent", "app.kubernetes.io/managed-by", "a" * 317), 2
            )
            template["metadata"] = {self.of("labels", "annotations"): dict.fromkeys(keys, "x")}
        return template

    def annotations(self) -> dict[str, str]:
        """Annotations of an Agent, up to the 256 KiB that the apiserver takes in all."""
        keys = self.some(
            ("mabeam.dev/release", "mabeam.dev/migrate", "note", "kubectl.kubernetes.io/last-applied-configuration"), 2
        )
        return {key: self.of(self.text(), self.text(), "r" * 120_000) for key in keys}

    def pod(self, agent: str, uid: str) -> JsonDict:
        """A pod of the agent as an apiserver could hand it out, whatever its status claims."""
        ordinal, incarnation = (
            self.of(0, 0, 0, 1, 2, 99, 1000, 1001),
            self.of(1, 1, 2, 3, 10**9, 2**31 - 2, 2**31 - 1, 2**31),
        )
        marks = {
            "mabeam.dev/directives-generation": lambda: self.of(self.text(), "1", "9" * 18),
            "mabeam.dev/spec-hash": self.text,
            "mabeam.dev/directives-nudge": self.text,
        }
        meta: JsonDict = {
            "name": f"{agent}-{ordinal}-{incarnation}",
            "namespace": "team",
            "uid": f"pod-{ordinal}-{incarnation}",
            "creationTimestamp": self.of(*TIMES),
            "labels": {"mabeam.dev/agent": self.of(agent, agent, "b")},
            "annotations": self.maybe(marks),
            "ownerReferences": [
                {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": agent, "uid": uid, "controller": True}
            ],
        }
        if self.rarely(4):
            meta["deletionTimestamp"] = self.of(*TIMES)
            meta["deletionGracePeriodSeconds"] = self.of(0, 1, 30, 2**31 - 1)
        status = self.maybe(
            {
                "phase": lambda: self.of("Pending", "Running", "Succeeded", "Failed", "Unknown", "Sleeping"),
                "reason": self._reason,
                "message": self.text,
                "podIP": lambda: self.of("10.0.0.1", "::1", "nonsense", ""),
                "startTime": lambda: self.of(*TIMES),
                "conditions": lambda: [
                    self._condition(t) for t in self.some(("Ready", "PodScheduled", "DisruptionTarget", "x"), 3)
                ],
                "containerStatuses": lambda: [self._container(name) for name in self.some(("agent", "a", "b"), 2)],
                "initContainerStatuses": lambda: [self._container("i")],
            }
        )
        spec = self.maybe({"nodeName": lambda: self.of("node1", "gone", ""), "hostNetwork": lambda: True})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": spec | {"containers": [{"name": "agent"}]},
            "status": status,
        }

    def _reason(self) -> str:
        known = (
            "ImagePullBackOff",
            "CreateContainerConfigError",
            "OOMKilled",
            "Error",
            "Completed",
            "Evicted",
            "NodeLost",
            "",
        )
        return self.of(*known) if self.rng.random() < 0.8 else self.text()

    def _condition(self, type_: str) -> JsonDict:
        reasons = ("Unschedulable", "EvictionByEvictionAPI", "DeletionByTaintManager", "PreemptionByScheduler")
        optional = {
            "reason": lambda: self.of(*reasons, self.text()),
            "message": self.text,
            "lastTransitionTime": lambda: self.of(*TIMES),
        }
        return {"type": type_, "status": self.of("True", "False", "Unknown")} | self.maybe(optional)

    def _container(self, name: str) -> JsonDict:
        stated = {"reason": self._reason, "message": self.text}
        ran = {"startedAt": lambda: self.of(*TIMES), "finishedAt": lambda: self.of(*TIMES)}
        state = self.of(
            {},
            {"waiting": self.maybe(stated)},
            {"running": self.maybe({"startedAt": ran["startedAt"]})},
            {
                "terminated": {"exitCode": self.of(0, 1, 137, 255, -1, 256, 2**31 - 1, -(2**31))}
                | self.maybe(stated | ran)
            },
        )
        return {"name": name, "state": state, "ready": self.of(True, False)}

    def config_map(self, agent: str, uid: str) -> JsonDict:
        """The agent's ConfigMap after somebody edited it."""
        fields = {
            "generation": lambda: self.of(*NUMBERS, 1, 1, True, self.text()),
            "role": self.value,
            "active": self.value,
            "parameters": lambda: self.of(self.value(), {"t": self.leaf()}),
        }
        texts = (
            json.dumps(self.maybe(fields)),
            json.dumps(self.maybe(fields)),
            "[]",
            "{",
            "NaN",
            '{"generation": 1e999}',
            "",
        )
        meta: JsonDict = {"name": f"{agent}-mabeam", "namespace": "team", "uid": "c", "resourceVersion": "7"}
        if not self.rarely():
            owner = {
                "apiVersion": "mabeam.dev/v1alpha1",
                "kind": "Agent",
                "name": agent,
                "uid": uid,
                "controller": True,
            }
            meta["ownerReferences"] = [owner]
        data = {self.of("directives.json", "directives.json", "x"): self.of(*texts)}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    def report(self) -> bytes:
        """What an agent's process may answer when it is asked for its report."""
        lines = []
        for _ in range(self.rng.randrange(8)):
            keys = self.some(("variable", "metric", "value", "proposal", "choice", "generation", "reason"), 3)
            pairs = ",".join(f'{key}="{self.of("t", "1", self.text())}"' for key in keys)
            lines.append(f"{self.of(*METRICS)}{{{pairs}}} {self.of(*SAMPLES)}")
        raw = "\n".join(lines).encode()
        return raw + self.of(b"", b"\n", b"\xff\xfe\x00", b"\x1f\x8b\x08", b"{" * 4000, b"# EOF\n", b"\n" * 70_000)


CONTAINERS: Final = (
    [{"name": "agent", "image": "i"}],
    [{"name": "a", "image": "i", "env": [], "ports": [], "volumeMounts": [], "resources": {}}],
    [{"name": "b", "image": "i"}, {"name": "agent", "image": "i"}],
)
POD_FIELDS: Final = (
    "volumes", "env", "ports", "volumeMounts", "resources", "restartPolicy", "automountServiceAccountToken", "name", "image",
    "terminationGracePeriodSeconds", "initContainers", "nodeSelector", "tolerations", "securityContext", "hostNetwork",
    "nodeName",
)  # fmt: skip
METRICS: Final = (
    "mabeam_performance", "mabeam_preference", "mabeam_preference_weight", "mabeam_bid", "mabeam_vote", "other",
    "mabeam_applied_generation", "mabeam_refused", "mabeam_progress_total", "mabeam_waiting_until_seconds",
)  # fmt: skip
SAMPLES: Final = (
    "0.7", "1", "1", "NaN", "+Inf", "-Inf", "1e308", "1e309", "-1", "9" * 400, "1e-400", "0x1p3", "١", "", "1_0", "1 2 3",
    "1e" + "9" * 50, "9007199254740992", "9007199254740993", "2",
)  # fmt: skip
