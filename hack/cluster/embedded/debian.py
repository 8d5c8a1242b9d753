"""Programs taken out of Debian's packages into the cache: unpacked, never installed, so that no service starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from embedded.errors import ClusterError, cannot_run_here
from embedded.layout import cache_root
from embedded.locks import held
from embedded.machine import apt_get
from embedded.progress import step

# The program, and the package that has it in usr/bin.
UNPACKED = {"prometheus": "prometheus"}


def ensure(program: str, cache: Path | None = None) -> Path:
    """The path of the program, its package fetched and unpacked when it is not in the cache yet."""
    package = UNPACKED[program]
    folder = (cache or cache_root()) / "debian"
    path = folder / package / "usr" / "bin" / program
    if path.exists():
        return path
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise cannot_run_here(f"'{program}' is taken from Debian's package {package}, and there is no apt-get here.")
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / ".lock"):
        # Another run may have fetched it while this one waited.
        if not path.exists():
            _unpack(package, folder)
    if not path.exists():
        raise ClusterError(f"Debian's package {package} has no program usr/bin/{program}.")
    return path


def _unpack(package: str, folder: Path) -> None:
    with step(f"fetch Debian's package {package}") as running, tempfile.TemporaryDirectory(dir=folder) as scratch:
        download = ["apt-get", "-o", "Acquire::Retries=3", "download", package]
        try:
            apt_get(download, running, Path(scratch))
        except ClusterError:
            if os.geteuid() != 0:
                raise
            # A machine that is new has no lists of packages, or old ones.
            apt_get(["apt-get", "-o", "Acquire::Retries=3", "update"], running)
            apt_get(download, running, Path(scratch))
        (archive,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(archive), f"{scratch}/tree"], check=True)
        (Path(scratch) / "tree").replace(folder / package)
