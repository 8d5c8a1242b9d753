"""The operator's settings, from `MABEAM_…` environment variables; only this module reads them. docs/install.md lists them."""

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from mabeam import __version__


class BadSetting(ValueError):
    """A setting has a value that is not allowed; the message names the setting and says what is allowed."""


def _flag(text: str) -> bool:
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
    except KeyError:
        raise ValueError("true or false") from None


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(" or ".join(allowed))
        return text

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 9) or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "@" in parts.netloc or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError("an http or https URL without a user, a query or a fragment")
    return text.rstrip("/")


# The value of `service_endpoint` that says that there is no Service.
NO_ENDPOINT = "none"


def _endpoint(text: str) -> str:
    if text != NO_ENDPOINT and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
        raise ValueError("an http or https URL, or none")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _setting(parse: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True)
class Settings:
    """All settings of the operator, with their defaults. A field `x_y` is read from `MABEAM_X_Y`."""

    log_level: str = _setting(_one_of("debug", "info", "warning", "error"), "info")
    log_format: str = _setting(_one_of("plain", "json"), "plain")
    watch_namespaces: tuple[str, ...] = _setting(_names, ())  # empty: all namespaces
    runner_image: str = _setting(str, f"mabeam:{__version__}")  # image of agents with `module` and no `image`
    runner_image_pull_policy: str = _setting(_one_of("Always", "IfNotPresent", "Never"), "IfNotPresent")
    http_port: int = _setting(_whole(0, 65_535), 8080)  # 0: any free port
    leader_election: bool = _setting(_flag, True)
    lease_namespace: str = _setting(str, "default")
    lease_name: str = _setting(str, "mabeam")
    lease_seconds: int = _setting(_whole(3, 600), 15)  # a leader without a renewal for so long is replaced
    identity: str = _setting(str, "")  # empty: host name and process id
    resync_seconds: int = _setting(_whole(5, 3600), 30)  # period of the relist
    max_in_flight: int = _setting(_whole(1, 1024), 64)  # concurrent requests to the API server
    workers: int = _setting(_whole(1, 256), 5)  # concurrent passes
    scrape: str = _setting(
        _one_of("auto", "direct", "proxy"), "auto"
    )  # how reports are read: from the pod, or by the API server's proxy
    context: str = _setting(str, "")  # of the kubeconfig; empty: the current one
    prometheus_url: str = _setting(_url, "")  # empty: no Prometheus
    prometheus_token_file: str = _setting(str, "")  # read for each query
    prometheus_queries: str = _setting(_one_of("default", "any"), "default")  # any: also queries of authors of Agents
    otel: bool = _setting(_flag, False)  # send spans
    service_endpoint: str = _setting(_endpoint, "")  # empty: made from Lease namespace and port

    @property
    def endpoint(self) -> str:
        """URL of /v1 and /metrics inside the cluster; empty without a Service."""
        if self.service_endpoint == NO_ENDPOINT:
            return ""
        return self.service_endpoint or f"http://mabeam.{self.lease_namespace}.svc:{self.http_port}"

    @property
    def holder(self) -> str:
        """The identity under which this process holds the Lease."""
        return self.identity or f"{socket.gethostname()}-{os.getpid()}"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from `MABEAM_…` variables; raises `BadSetting` naming the variable and what is allowed."""
    source = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        variable = f"MABEAM_{setting.name.upper()}"
        text = source.get(variable)
        if text is None or text == "":
            continue
        try:
            values[setting.name] = setting.metadata["parse"](text)
        except ValueError as problem:
            raise BadSetting(f"{variable} must be {problem}, not {text!r}") from None
    return Settings(**values)
