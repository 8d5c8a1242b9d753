"""The connection to the apiserver: the official client reads the kubeconfig (with its plug-ins) or the service account."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.configuration import Configuration

from mabeam import __version__


class NoCluster(Exception):
    """There is neither a service account nor a kubeconfig that can be used."""


@dataclass(frozen=True)
class Connection:
    """The address of the apiserver and the credentials for it."""

    server: str
    ssl_context: ssl.SSLContext
    configuration: Configuration
    in_cluster: bool
    description: str

    def session(self, *, authenticated: bool = True) -> aiohttp.ClientSession:
        """A new HTTP session that authenticates every request with the credentials of that moment.

        Without `authenticated` the caller adds `authorization` itself, which saves the price of a middleware for each request.
        """
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.ssl_context),
            # Compressed answers cost the apiserver more than they save on the network, as for Kubernetes' own controllers.
            headers={
                "User-Agent": f"mabeam/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            middlewares=(self._authenticate,) if authenticated else (),
        )

    async def authorization(self) -> dict[str, str]:
        """The Authorization header for the next request: a service account's token rotates, and that of a plug-in expires."""
        token = await self.configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token} if token else {}

    async def _authenticate(
        self,
        request: aiohttp.ClientRequest,
        handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        request.headers.update(await self.authorization())
        return await handler(request)


async def connect(context: str | None = None) -> Connection:
    """The connection from the service account when there is one, else from the kubeconfig; raises NoCluster."""
    configuration = Configuration()
    in_cluster = False
    try:
        if context:
            raise kube_config.ConfigException("a context was asked for")
        kube_config.load_incluster_config(client_configuration=configuration)
        in_cluster = True
    except kube_config.ConfigException:
        try:
            await kube_config.load_kube_config(client_configuration=configuration, context=context or None)
        except kube_config.ConfigException as problem:
            raise NoCluster(f"no cluster: not in a pod, and the kubeconfig cannot be used: {problem}") from None
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    # Hand-made and older clusters have CA certificates that RFC 5280's strict reading refuses.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    where = "the service account" if in_cluster else "the kubeconfig"
    return Connection(configuration.host.rstrip("/"), tls, configuration, in_cluster, f"{configuration.host} ({where})")
