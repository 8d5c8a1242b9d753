"""A real Prometheus in a process of its own, which scrapes agents as the Prometheus operator would have it scrape pods."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.rendered import tool

DEADLINE = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class PrometheusProcess:
    """Debian's Prometheus, scraping twice a second these ports of this machine, each under the name of its pod."""

    def __init__(self, directory: Path, namespace: str, ports: Mapping[str, int]) -> None:
        self._log = directory / "prometheus.log"
        scraped = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": namespace, "pod": pod, "container": "agent"}}
            for pod, port in ports.items()
        ]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{"job_name": "agents", "static_configs": scraped}],
        }
        # JSON is YAML.
        (directory / "prometheus.yml").write_text(json.dumps(config))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    tool("prometheus"),
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The series that it has for the query now."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
        with urllib.request.urlopen(url, timeout=DEADLINE) as response:
            answer = json.load(response)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def waits_until(self, promql: str, count: int) -> None:
        """Wait until the query has that many series."""
        end = time.monotonic() + DEADLINE
        found: object = None
        while True:
            try:
                found = self.query(promql)
                if len(found) == count:
                    return
            except urllib.error.URLError as problem:  # not up yet
                found = problem
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, f"{promql} never had {count} series, but: {found}\n{self._log.read_text()}"
            time.sleep(0.1)

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE)
