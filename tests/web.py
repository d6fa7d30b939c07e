"""A web server of this machine and a fake network, for tests of downloads; no test asks anybody else, and none sleeps."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore

from pipeline.data.fetch.download import Downloader

Answer = Callable[[BaseHTTPRequestHandler], None]


class FakeTime:
    """A clock that sleeping moves, and that notes every sleep."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


class FakeNetwork(httpcore.NetworkBackend):
    """Notes which addresses are connected to, and answers each connection with bytes; a number among them are seconds that pass."""

    def __init__(self, *answers: list[bytes | float], time: FakeTime | None = None) -> None:
        self.answers, self.time, self.connected, self.sent, self.tls_names = list(answers), time or FakeTime(), [], b"", []

    def connect_tcp(self, host: str, port: int, **_: Any) -> httpcore.NetworkStream:
        self.connected.append((host, port))
        answer = self.answers.pop(0) if self.answers else []
        if answer == ["refuse"]:
            raise httpcore.ConnectError("Connection refused")
        return FakeStream(self, answer)


class FakeStream(httpcore.NetworkStream):
    """One connection of a FakeNetwork."""

    def __init__(self, network: FakeNetwork, answer: list[bytes | float]) -> None:
        self.network, self.answer = network, list(answer)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while self.answer:
            part = self.answer.pop(0)
            if isinstance(part, bytes):
                return part
            self.network.time.now += min(part, timeout)
            if part > timeout:
                raise httpcore.ReadTimeout
        return b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.network.sent += buffer

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> httpcore.NetworkStream:
        self.network.tls_names.append(server_hostname)
        return self

    def close(self) -> None:
        pass

    def get_extra_info(self, info: str) -> None:
        return None


def ok(body: bytes, *headers: str) -> list[bytes | float]:
    """Return what a host sends for a whole file."""
    head = "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers))
    return [f"{head}\r\n".encode("latin-1") + body]


def status(code: int, *headers: str) -> list[bytes | float]:
    """Return what a host sends without a body."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {code} x", "Content-Length: 0", "Connection: close", *headers))
    return [f"{head}\r\n".encode("latin-1")]


def make_downloader(network: FakeNetwork, *addresses: str, allowed: tuple[str, ...] = ()) -> Downloader:
    """Return a downloader whose hosts all have these addresses, one public one by default."""
    found = list(addresses or ("93.184.216.34",))
    return Downloader(allowed, resolve=lambda host, port: found, network=network, sleep=network.time.sleep, clock=network.time.clock)


class Web:
    """What the server answers by path, and the requests that it got."""

    def __init__(self, url: str) -> None:
        self.url, self.answers, self.asked = url, {}, []

    def serve(self, path: str, body: bytes, *, code: int = 200, length: int | None = None, **headers: str) -> str:
        """Answer a path with a body, of which `length` is claimed; return the URL."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(code)
            handler.send_header("Content-Length", str(len(body) if length is None else length))
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)
            handler.close_connection = length is not None

        return self.answer(path, answer)

    def answer(self, path: str, answer: Answer) -> str:
        self.answers.setdefault(path, []).append(answer)
        return f"{self.url}{path}"


@contextlib.contextmanager
def run_web() -> Iterator[Web]:
    """Run a server on a free port of this machine; a path's answers are given in order, the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.asked.append(self.path)
            answers = web.answers.get(self.path)
            if answers is None:
                self.send_error(404)
            else:
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
