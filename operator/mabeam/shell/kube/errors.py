"""What a request to the cluster, a pod or Prometheus can raise, and how such an error is worded in a log or a status."""

from typing import Final

import aiohttp


class ApiError(Exception):
    """An error answer of the apiserver: its status code, reason and message."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after

    @property
    def namespace_terminating(self) -> bool:
        """Whether the namespace is being terminated: final, whatever is retried."""
        return self.status == 403 and "because it is being terminated" in self.message

    @property
    def of_server(self) -> bool:
        """Whether the server failed, or something that it asks, such as a webhook: not the fault of the object."""
        # plugin/pkg/admission: each admission plugin says so until its informers have synced.
        return self.status >= 500 or (self.status == 403 and "not yet ready to handle request" in self.message)


class NotLeading(Exception):
    """A write was about to happen without the Lease; it did not."""


class UnreadableAnswer(Exception):
    """A successful answer whose JSON cannot be parsed, such as an object that nests deeper than the parser goes."""


# Every failure of one request that is not a mistake of the operator's own; OSError includes TimeoutError and connection errors.
REQUEST_ERRORS: Final = (ApiError, UnreadableAnswer, aiohttp.ClientError, OSError)


def error_text(problem: BaseException) -> str:
    """The error's message, or the name of its class when it has none."""
    return str(problem) or type(problem).__name__
