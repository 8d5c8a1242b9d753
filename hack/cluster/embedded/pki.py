"""The cluster's own certificate authority, certificates and kubeconfigs, made with the openssl command."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from embedded.errors import ClusterError
from embedded.layout import write_atomically

_DAYS = "3650"
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """Issues certificates into one directory; what is there already is used again."""

    def __init__(self, directory: Path, common_name: str) -> None:
        self.directory = directory
        self.certificate = directory / f"{common_name}.crt"
        self.key = directory / f"{common_name}.key"
        if not self.certificate.exists():
            # The certificate is written last: if it is there, so is its key.
            with tempfile.TemporaryDirectory() as scratch:
                key, crt = Path(scratch) / "key", Path(scratch) / "crt"
                _openssl(["req", "-x509", *_KEY, "-keyout", str(key), "-out", str(crt), "-days", _DAYS,
                          "-subj", f"/CN=mabeam {common_name}",
                          "-addext", "keyUsage=critical,digitalSignature,keyCertSign"])  # fmt: skip
                write_atomically(self.key, key.read_bytes())
                write_atomically(self.certificate, crt.read_bytes(), mode=0o644)

    def issue(self, name: str, subject: str, addresses: Sequence[str] = ()) -> Path:
        """A file with a certificate and its key for that subject, good for clients, and for servers at `addresses`."""
        target = self.directory / f"{name}.pem"
        if target.exists():
            return target
        usage = "clientAuth,serverAuth" if addresses else "clientAuth"
        extensions = ["keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        if addresses:
            extensions.append("subjectAltName=" + ",".join(addresses))
        with tempfile.TemporaryDirectory() as scratch:
            key, csr, crt, ext = (Path(scratch) / part for part in ("key", "csr", "crt", "ext"))
            ext.write_text("\n".join(extensions) + "\n")
            _openssl(["req", "-new", *_KEY, "-keyout", str(key), "-out", str(csr), "-subj", subject])
            _openssl(["x509", "-req", "-in", str(csr), "-CA", str(self.certificate), "-CAkey", str(self.key),
                      "-CAserial", str(Path(scratch) / "serial"), "-CAcreateserial", "-days", _DAYS,
                      "-extfile", str(ext), "-out", str(crt)])  # fmt: skip
            write_atomically(target, crt.read_bytes() + key.read_bytes())
        return target


def service_account_key(directory: Path) -> Path:
    """The key that signs service account tokens; its public half is read from the same file."""
    target = directory / "service-account.key"
    if not target.exists():
        with tempfile.TemporaryDirectory() as scratch:
            key = Path(scratch) / "key"
            # Not `genpkey`: the apiserver reads public halves from the older encoding only.
            _openssl(["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key)])
            write_atomically(target, key.read_bytes())
    return target


def kubeconfig(authority: Authority, server: str, user: str, pem: Path, cluster: str) -> str:
    """A kubeconfig with everything inside it, so that it can be copied anywhere; JSON, which is YAML too."""
    certificate, marker, key = pem.read_text().partition("-----BEGIN PRIVATE KEY-----")
    context = {"cluster": cluster, "user": user}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": _encoded(authority.certificate.read_text()),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _encoded(certificate),
                        "client-key-data": _encoded(marker + key),
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": context}],
            "current-context": cluster,
        },
        indent=1,
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _openssl(arguments: list[str]) -> None:
    ran = subprocess.run(["openssl", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ran.returncode != 0:
        raise ClusterError(f"`openssl {arguments[0]}` failed: {ran.stderr.strip()[-300:]}")
