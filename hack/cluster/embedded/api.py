"""A very small client for the cluster's own API: a request costs milliseconds, starting kubectl costs far more."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from embedded.network import API_PORT


class Api:
    """Speaks to the apiserver as the cluster's administrator."""

    def __init__(self, address: str, ca: Path, pem: Path) -> None:
        self.address = address
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.load_cert_chain(str(pem))

    def call(self, method: str, path: str, body: object = None, timeout: float = 5.0) -> tuple[int, Any]:
        """The status and the decoded answer; status 0 and the reason when nobody answers."""
        connection = http.client.HTTPSConnection(self.address, API_PORT, timeout=timeout, context=self._context)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json", "User-Agent": "mabeam-cluster"}
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text
        except (OSError, http.client.HTTPException) as failed:
            return 0, str(failed) or type(failed).__name__
        finally:
            connection.close()

    def ready(self) -> str:
        """An empty text when the apiserver is ready, else why not."""
        status, answer = self.call("GET", "/readyz?verbose")
        if status == 200:
            return ""
        if status == 0:
            return str(answer)
        failing = [line for line in str(answer).splitlines() if line.startswith("[-]")]
        return f"{status}: {', '.join(failing) or answer}"

    def nodes(self) -> dict[str, bool] | None:
        """Each node's name and whether it is Ready; None when the API does not answer."""
        status, answer = self.call("GET", "/api/v1/nodes?resourceVersion=0")
        if status != 200:
            return None
        return {node["metadata"]["name"]: _is_ready(node) for node in answer["items"]}

    def exists(self, path: str) -> bool:
        return self.call("GET", path)[0] == 200

    def create(self, path: str, body: object) -> bool:
        """True when the object is there afterwards, whoever made it."""
        return self.call("POST", path, body)[0] in (200, 201, 202, 409)


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
