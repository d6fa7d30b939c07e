"""Which addresses may be asked: public ones, and those of hosts that the user has named. Everything that connects does it here.

A table of somebody else's URLs must not reach the machines of our own network, neither directly nor by a redirect nor by a name that
resolves to them. A host is resolved once per connection, its addresses are checked, and one of these very addresses is connected to (a
second look-up could answer differently: "DNS rebinding"). The name still is what the Host header and TLS (SNI, certificate) say.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection
from typing import Any

import httpcore
import httpx

from pipeline.data.fetch.deadline import limit_timeout
from pipeline.data.fetch.failures import Busy, Dead, Later

Resolve = Callable[[str, int], list[str]]

MAX_ADDRESSES = 3  # of a host that are tried
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all other IPv6: local, mapped IPv4 (::ffff:0:0/96), NAT64 (64:ff9b::/96), multicast, reserved
POOL = {"max_connections": None, "max_keepalive_connections": 32, "keepalive_expiry": 10.0}  # the first is bounded by the threads
# not all of them are private to Python: addresses of protocols, relays and 6to4, which stand for another address, documentation
NOT_ASKED = [ipaddress.ip_network(network) for network in ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20")]


def is_public(address: str) -> bool:
    """Say whether an address is one of the public internet's single machines."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.is_multicast or not ip.is_global or any(ip in network for network in NOT_ASKED):
        return False
    return ip.version == 4 or ip in GLOBAL_UNICAST


def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a host in the system's order."""
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


class CheckedNetwork(httpcore.NetworkBackend):
    """Connects to public addresses and to `allowed_hosts`; Later and Dead say why a host is not asked."""

    def __init__(self, allowed_hosts: Collection[str], *, resolve: Resolve, network: httpcore.NetworkBackend) -> None:
        self.allowed_hosts, self.resolve, self.network = frozenset(allowed_hosts), resolve, network

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> httpcore.NetworkStream:
        """Connect to the first of the host's checked addresses that answers."""
        *others, last = self.find_addresses(host, port)[:MAX_ADDRESSES]
        for address in others:
            try:
                return self._connect(address, port, timeout, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(last, port, timeout, options)

    def find_addresses(self, host: str, port: int) -> list[str]:
        """Return those of a host's addresses that may be asked, at least one."""
        try:
            found = self.resolve(host, port)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise Busy("the host's name cannot be looked up now", host) from error
            raise Later("nobody knows the host's name", host) from error
        except UnicodeError as error:
            raise Dead("the URL is no valid URL", f"{host} is no host's name") from error
        addresses = found if host in self.allowed_hosts else [address for address in found if is_public(address)]
        if not addresses:
            where = f"{host} is {found[0]}, and" if found and found[0] != host else f"{host}:"
            raise Later("the host's address is not public", f"{where} only `--allow-host {host}` would ask it")
        return addresses

    def _connect(self, address: str, port: int, timeout: float | None, options: dict[str, Any]) -> httpcore.NetworkStream:
        return TimedStream(self.network.connect_tcp(address, port, timeout=limit_timeout(timeout), **options))


class TimedStream(httpcore.NetworkStream):
    """A connection of which no single read or write waits beyond the deadline of the file."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self.stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has come."""
        return self.stream.read(max_bytes, timeout=limit_timeout(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        self.stream.write(buffer, timeout=limit_timeout(timeout))

    def close(self) -> None:
        """End the connection."""
        self.stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> httpcore.NetworkStream:
        """Go on encrypted."""
        return TimedStream(self.stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=limit_timeout(timeout)))

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection knows of itself."""
        return self.stream.get_extra_info(info)


class CheckedTransport(httpx.HTTPTransport):
    """httpx's transport over a CheckedNetwork; it has no argument for the network, so its connection pool is replaced. No proxy is used."""

    def __init__(self, network: CheckedNetwork) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        self._pool = httpcore.ConnectionPool(ssl_context=context, network_backend=network, **POOL)
