"""What an author may add to the pod that the operator makes for a `module`: environment, volumes, and what they refer to.

The fields are those of a PodSpec, in its spelling, and no more of them than Kubernetes' restricted Pod Security allows.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from mabeam.api.base import DNS_LABEL, KubeModel, ObjectName, Quantity, Rule
from mabeam.api.names import DIRECTIVES_DIR, DIRECTIVES_VOLUME, RESERVED_ENV_PREFIX

KeyName = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
RelativePath = Annotated[str, Field(pattern=r"^[^/:][^:]*$", max_length=256)]
_Optional = Annotated[
    bool | None, Field(description="Whether the pod starts without it when it does not exist; default false.")
]
Mode = Annotated[int | None, Field(ge=0, le=0o777, description="Permission bits of the files, as a decimal number.")]


class KeyReference(KubeModel):
    """One key of a Secret or ConfigMap in the Agent's namespace."""

    name: Annotated[ObjectName, Field(description="Name of the object.")]
    key: Annotated[KeyName, Field(description="Its key.")]
    optional: _Optional = None


class FieldReference(KubeModel):
    """A field of the pod itself."""

    field_path: Annotated[
        str, Field(max_length=317, min_length=1, description="Path of the field, such as status.hostIP.")
    ]


class EnvSource(KubeModel):
    """Where the value of an environment variable comes from."""

    secret_key_ref: Annotated[KeyReference | None, Field(description="A key of a Secret.")] = None
    config_map_key_ref: Annotated[KeyReference | None, Field(description="A key of a ConfigMap.")] = None
    field_ref: Annotated[FieldReference | None, Field(description="A field of the pod.")] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(x, x).size() == 1",
            "exactly one of `secretKeyRef`, `configMapKeyRef` or `fieldRef` must be set",
            lambda source: (
                sum(x is not None for x in (source.secret_key_ref, source.config_map_key_ref, source.field_ref)) == 1
            ),
        ),
    )


class EnvVar(KubeModel):
    """An environment variable of the process."""

    name: Annotated[
        str,
        Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=253),
        Field(description=f"Name of the variable; {RESERVED_ENV_PREFIX}* are the operator's."),
    ]
    value: Annotated[str | None, Field(max_length=4096, description="Its value.")] = None
    value_from: Annotated[EnvSource | None, Field(description="Where its value comes from, instead of `value`.")] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!self.name.startsWith('{RESERVED_ENV_PREFIX}')",
            f"`name` must not begin with {RESERVED_ENV_PREFIX}: the operator sets those variables",
            lambda env: not env.name.startswith(RESERVED_ENV_PREFIX),
        ),
        Rule(
            "!has(self.value) || !has(self.valueFrom)",
            "only one of `value` and `valueFrom` may be set",
            lambda env: env.value is None or env.value_from is None,
        ),
    )


class ObjectReference(KubeModel):
    """A Secret or ConfigMap in the Agent's namespace."""

    name: Annotated[ObjectName, Field(description="Name of the object.")]
    optional: _Optional = None


class EnvFrom(KubeModel):
    """All keys of a Secret or ConfigMap as environment variables."""

    prefix: Annotated[
        str | None, Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=63, description="Put before every name.")
    ] = None
    secret_ref: Annotated[ObjectReference | None, Field(description="The Secret.")] = None
    config_map_ref: Annotated[ObjectReference | None, Field(description="The ConfigMap.")] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretRef) != has(self.configMapRef)",
            "exactly one of `secretRef` or `configMapRef` must be set",
            lambda source: (source.secret_ref is None) != (source.config_map_ref is None),
        ),
    )


class KeyToPath(KubeModel):
    """One key of a volume's object, and the file that it becomes."""

    key: Annotated[KeyName, Field(description="The key.")]
    path: Annotated[RelativePath, Field(description="Path of the file in the volume.")]


_Items = Annotated[
    tuple[KeyToPath, ...] | None, Field(max_length=32, description="The keys that become files; default: all of them.")
]


class SecretVolume(KubeModel):
    """The keys of a Secret as files."""

    secret_name: Annotated[ObjectName, Field(description="Name of the Secret.")]
    items: _Items = None
    optional: _Optional = None
    default_mode: Mode = None


class ConfigMapVolume(KubeModel):
    """The keys of a ConfigMap as files."""

    name: Annotated[ObjectName, Field(description="Name of the ConfigMap.")]
    items: _Items = None
    optional: _Optional = None
    default_mode: Mode = None


class EmptyDirVolume(KubeModel):
    """A directory that is empty at the start and ends with the pod."""

    medium: Annotated[Literal["", "Memory"] | None, Field(description="Memory: not on the node's disk.")] = None
    size_limit: Annotated[Quantity | None, Field(description="The most that it may hold.")] = None


class ClaimVolume(KubeModel):
    """A PersistentVolumeClaim in the Agent's namespace; all replicas use the same one."""

    claim_name: Annotated[ObjectName, Field(description="Name of the claim.")]
    read_only: Annotated[bool | None, Field(description="Whether it is only read.")] = None


_SOURCES: Final = ("secret", "config_map", "empty_dir", "persistent_volume_claim")


class Volume(KubeModel):
    """A volume of the pod."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=63), Field(description="Name of the volume.")]
    secret: Annotated[SecretVolume | None, Field(description="The keys of a Secret as files.")] = None
    config_map: Annotated[ConfigMapVolume | None, Field(description="The keys of a ConfigMap as files.")] = None
    empty_dir: Annotated[EmptyDirVolume | None, Field(description="A directory that is empty at the start.")] = None
    persistent_volume_claim: Annotated[ClaimVolume | None, Field(description="A PersistentVolumeClaim.")] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.secret), has(self.configMap), has(self.emptyDir), has(self.persistentVolumeClaim)]"
            ".filter(x, x).size() == 1",
            "exactly one of `secret`, `configMap`, `emptyDir` or `persistentVolumeClaim` must be set",
            lambda volume: sum(getattr(volume, source) is not None for source in _SOURCES) == 1,
        ),
        Rule(
            f"self.name != '{DIRECTIVES_VOLUME}'",
            f"`name` must not be {DIRECTIVES_VOLUME}: the operator adds that volume",
            lambda volume: volume.name != DIRECTIVES_VOLUME,
        ),
    )


class VolumeMount(KubeModel):
    """Where a volume appears in the process's files."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=63), Field(description="Name of one of the `volumes`.")]
    mount_path: Annotated[
        str,
        Field(pattern=r"^/[^:]*$", max_length=512, description="Where it appears, an absolute path."),
    ]
    read_only: Annotated[bool | None, Field(description="Whether it is only read.")] = None
    sub_path: Annotated[RelativePath | None, Field(description="The part of the volume that appears there.")] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.mountPath != '{DIRECTIVES_DIR}' && !self.mountPath.startsWith('{DIRECTIVES_DIR}/')",
            f"`mountPath` must be neither {DIRECTIVES_DIR} nor below it: the operator mounts the directives there",
            lambda mount: mount.mount_path != DIRECTIVES_DIR and not mount.mount_path.startswith(f"{DIRECTIVES_DIR}/"),
        ),
    )
