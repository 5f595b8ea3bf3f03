"""Connections to one server: made when needed, kept alive, used last in first out.

The name is resolved once, and the first address that answers is kept: looking it up a request would cost a thread.
"""

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

from harness.client.connection import Connection
from harness.errors import UsageError

PATHS = {"completions": "/completions", "chat": "/chat/completions"}


class Address:
    """Where a URL leads, and the head of a request to it."""

    def __init__(self, url: str, api: str, headers: tuple[tuple[str, str], ...]) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise UsageError(f"{url!r}: must be http(s)://host[:port][/v1]; give the server's base URL")
        self.host, self.is_tls = parts.hostname, parts.scheme == "https"
        self.port = port or (443 if self.is_tls else 80)
        base = parts.path.rstrip("/")
        path = (base if base.endswith("/v1") else base + "/v1") + PATHS[api]
        lines = [f"POST {path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}", "Content-Type: application/json"]
        lines += ["Accept: text/event-stream", "Connection: keep-alive"]
        for name, value in headers:
            if any(c in name + value for c in "\r\n"):
                raise UsageError(f"header {name!r}: must be one line; remove the line break")
            lines.append(f"{name}: {value}")
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1", "replace")

    def request(self, body: bytes) -> bytes:
        """Head and body, ready for the socket."""
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)


class Pool:
    """Idle connections of one owner."""

    def __init__(self, address: Address, owner, timeout_s: float) -> None:
        self.address, self._owner, self._timeout_s = address, owner, timeout_s
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._ip: str | None = None
        self._ssl = ssl.create_default_context() if address.is_tls else None

    def take(self) -> Connection | None:
        """An open idle connection, or None."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                return connection
        return None

    def give_back(self, connection: Connection) -> None:
        """The connection is idle again."""
        self._idle.append(connection)

    async def connect(self) -> Connection:
        """A new connection; OSError or TimeoutError when there is none to be had."""
        if self._ip is None:
            return await self._connect_first()
        return await self._connect_to(self._ip)

    async def open(self, count: int) -> None:
        """Open connections ahead of time; one that cannot be opened is left for the request to find out."""
        for _ in range(count):
            try:
                self.give_back(await self.connect())
            except OSError:
                return

    def busy(self) -> list[Connection]:
        """Connections that wait for an answer."""
        return [connection for connection in self._all if connection.call is not None]

    def close(self) -> None:
        """Drop every connection."""
        for connection in list(self._all):
            connection.close()

    async def _connect_first(self) -> Connection:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM)
        error: OSError = OSError(f"no address for {self.address.host}")
        for ip in dict.fromkeys(item[4][0] for item in found):
            try:
                connection = await self._connect_to(ip)
            except OSError as caught:
                error = caught
                continue
            self._ip = ip
            return connection
        raise error

    async def _connect_to(self, ip: str) -> Connection:
        loop, address = asyncio.get_running_loop(), self.address
        name = address.host if self._ssl else None
        making = loop.create_connection(lambda: Connection(self._owner), ip, address.port, ssl=self._ssl, server_hostname=name)
        try:
            _, connection = await asyncio.wait_for(making, self._timeout_s)
        except TimeoutError:
            raise TimeoutError(f"no connection to {address.host}:{address.port} within {self._timeout_s:g} s") from None
        self._all = {c for c in self._all if not c.is_closed} if len(self._all) % 512 == 511 else self._all
        self._all.add(connection)
        return connection
