"""Namespaces by system call: Python 3.11 has no `os.setns`, and the util-linux commands would stay as parents."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

NEWNS = 0x00020000
NEWPID = 0x20000000
NEWNET = 0x40000000

_KINDS = {"pid": NEWPID, "net": NEWNET, "mnt": NEWNS}
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        _fail("unshare")


def enter(pid: int, kinds: Iterable[str]) -> None:
    """This process in the namespaces of `pid`; the process namespace counts for its next children only."""
    handles = [(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), _KINDS[kind]) for kind in kinds]
    for handle, flag in handles:
        if _libc.setns(ctypes.c_int(handle), ctypes.c_int(flag)) != 0:
            _fail("setns")
        os.close(handle)


def entering(pid: int, kinds: Iterable[str] = ("net", "mnt")) -> Callable[[], None]:
    """A `preexec_fn` that puts a short-lived command into the namespaces of `pid`."""
    chosen = tuple(kinds)
    return lambda: enter(pid, chosen)


def private_mounts() -> None:
    """In a new mount namespace: nothing that is mounted from now on is seen outside, or outlives the namespace."""
    mount("--make-rprivate", "/")
    # Shared again, but among this namespace's own descendants only: volumes must reach running containers.
    mount("--make-rshared", "/")
    mount("-t", "proc", "proc", "/proc")


def private_directory(path: str, backing: Path | None = None) -> None:
    """`path` empty, or showing `backing`, for this mount namespace alone."""
    if backing is None:
        mount("-t", "tmpfs", "-o", "mode=755", "mabeam", path)
    else:
        backing.mkdir(parents=True, exist_ok=True)
        mount("--bind", str(backing), path)


def mount(*arguments: str) -> None:
    ran = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if ran.returncode != 0:
        raise OSError(f"mount {' '.join(arguments)}: {ran.stderr.strip()}")


def overlay_works(directory: Path) -> bool:
    """Whether overlay can be mounted with its layers below `directory`; tried in a namespace that then ends."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            unshare(NEWNS)
            mount("--make-rprivate", "/")
            scratch = directory / f".overlay-{os.getpid()}"
            layers = {name: scratch / name for name in ("lower", "upper", "work", "merged")}
            for layer in layers.values():
                layer.mkdir(parents=True, exist_ok=True)
            options = f"lowerdir={layers['lower']},upperdir={layers['upper']},workdir={layers['work']}"
            mount("-t", "overlay", "overlay", "-o", options, str(layers["merged"]))
            (layers["merged"] / "written").write_text("")
            code = 0
        except BaseException:
            code = 1
        finally:
            os._exit(code)
    works = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for left in directory.glob(f".overlay-{pid}"):
        subprocess.run(["rm", "-rf", str(left)], check=False)
    return works


def _fail(call: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{call}: {os.strerror(number)}")
