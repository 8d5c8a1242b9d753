"""Images without a registry: written as an archive by hand, and imported into every node's containerd."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from embedded import namespaces
from embedded.components import CONTAINERD_SOCKET
from embedded.errors import ClusterError

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_archive(target: Path, tag: str, files: Mapping[str, Path], entrypoint: list[str]) -> None:
    """An image archive as `docker save` writes it, holding just those static files; the same bytes every time."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, source in sorted(files.items()):
            _add(tar, name.lstrip("/"), source.read_bytes(), 0o755)
    content = layer.getvalue()
    config: dict[str, Any] = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": "65532", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
    }
    config_bytes = json.dumps(config).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    with tarfile.open(temporary, mode="w") as tar:
        _add(tar, config_name, config_bytes, 0o644)
        _add(tar, "layer.tar", content, 0o644)
        _add(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)
    temporary.replace(target)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def load(sandbox: int, archive: BinaryIO, snapshotter: str) -> list[str]:
    """The names of the images that are in that node's containerd now."""
    ran = _ctr(sandbox, ["images", "import", "--snapshotter", snapshotter, "-"], stdin=archive)
    if ran.returncode != 0:
        raise ClusterError(f"The import failed: {ran.stderr.strip().splitlines()[-1:] or ['no message']}")
    return [line.split()[1] for line in ran.stdout.splitlines() if line.startswith("unpacking ")]


def present(sandbox: int, tag: str) -> bool:
    """Whether the node has that image."""
    ran = _ctr(sandbox, ["images", "list", "-q", f"name=={tag}"])
    return ran.returncode == 0 and tag in ran.stdout.split()


def _ctr(sandbox: int, arguments: list[str], stdin: BinaryIO | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", *arguments],
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=namespaces.entering(sandbox),
    )
