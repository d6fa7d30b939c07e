"""Download one image, politely: at most PER_HOST requests to a host at a time, a pause after each, waiting when a host says so, few tries.

Only whole files count: a body that ends before its Content-Length is asked for again. Redirects are followed by hand, so that every hop is checked
like the first URL. Nothing is sent but a plain GET: no cookies, no passwords (.netrc), and proxies of the environment are not used,
for a proxy would look names up itself, and the check of the addresses would be void.
"""

from __future__ import annotations

import contextlib
import email.utils
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import httpcore
import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from pipeline.data.fetch.addresses import CheckedNetwork, CheckedTransport, Resolve, resolve_host
from pipeline.data.fetch.compression import CUT_OFF, expand, too_large
from pipeline.data.fetch.deadline import TimeBudget, limit_timeout
from pipeline.data.fetch.failures import Busy, Dead, Failure, Later
from pipeline.data.fetch.urls import NO_URL, parse_cell, parse_url
from pipeline.data.images import MAX_BYTES, ImageError, decode_image

HEADERS = {"User-Agent": "ragar-fetch-images (fetches the images of one data set, once)", "Accept": "image/*", "Accept-Encoding": "identity"}
PER_HOST = 4  # requests at a time
PAUSE = 0.1  # seconds before the next request in the same place
FILE_SECONDS = 180.0  # for a file in all, redirects and further tries included, waiting not
TIMEOUT = httpx.Timeout(30.0, connect=10.0)  # seconds for a single read or write, and for connecting
TRIES = 3
MAX_WAIT = 60.0  # seconds; a host that asks for more is asked again in the next run
MAX_REDIRECTS = 5
MAX_FAILURES = 30  # of a host in a row; what else it has is left to the next run
MAX_DECODED = 2  # images at a time: a large one takes hundreds of megabytes
REDIRECTS = {301, 302, 303, 307, 308}
BUSY = {408, 425, 429, *range(500, 600)} - {501, 505, 510}  # and what stands before a host has numbers of its own: 520 to 530, 599
WHOLE = {200, 203}  # 203: a proxy has made it smaller
PAGES = ("text/html", "application/xhtml")


@dataclass
class Host:
    """How many requests a host may still get at once, how often in a row it failed, and what it asked for."""

    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(PER_HOST))
    failures: int = 0
    free_at: float = 0.0  # on the clock; until then it wants to be left alone


class Downloader:
    """Downloads images in many threads; `stop` ends them soon."""

    def __init__(
        self,
        allowed_hosts: Collection[str] = (),
        *,
        resolve: Resolve = resolve_host,
        network: httpcore.NetworkBackend | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport = CheckedTransport(CheckedNetwork(allowed_hosts, resolve=resolve, network=network or httpcore.SyncBackend()))
        self.stopped = threading.Event()
        self.sleep, self.clock = sleep or self.stopped.wait, clock
        self.hosts: dict[str, Host] = {}
        self.decoding = threading.Semaphore(MAX_DECODED)

    def stop(self) -> None:
        """Let every thread end with its next step."""
        self.stopped.set()

    def download(self, text: str) -> bytes:
        """Return the bytes of a usable image behind a URL; Failure says why there are none."""
        url = parse_cell(text)
        retrying = Retrying(
            retry=retry_if_exception_type(Busy),
            stop=stop_after_attempt(TRIES) | _asks_for_too_much,
            wait=_wait_as_asked,
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(self._follow, url, TimeBudget(FILE_SECONDS, self.clock))

    def _follow(self, url: httpx.URL, budget: TimeBudget) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            with self._take_slot(url.host), budget.count():
                answer = self._ask(url)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise Dead(f"the host redirects more than {MAX_REDIRECTS} times")

    @contextlib.contextmanager
    def _take_slot(self, name: str) -> Iterator[None]:
        host = self.hosts.setdefault(name, Host())
        with host.slots:
            if host.failures >= MAX_FAILURES:
                raise Later(f"its host failed {MAX_FAILURES} times in a row and was left alone")
            wait = host.free_at - self.clock()
            if wait > MAX_WAIT:
                raise Later("its host asked to be left alone for longer than a minute")
            if wait > 0:
                self.sleep(wait)
            if self.stopped.is_set():
                raise Later("it was interrupted")
            try:
                yield
                host.failures = 0
            except Busy as error:
                host.failures += 1
                host.free_at = max(host.free_at, self.clock() + error.wait)
                raise
            finally:
                self.sleep(PAUSE)

    def _ask(self, url: httpx.URL) -> bytes | httpx.URL:
        """Return the image, or where the host redirects to."""
        request = httpx.Request("GET", url, headers=HEADERS, extensions={"timeout": TIMEOUT.as_dict()})
        try:
            with contextlib.closing(self.transport.handle_request(request)) as response:
                location = response.headers.get("location")
                if response.status_code in REDIRECTS and location is not None:
                    return parse_url(location, base=url)
                _check_status(response)
                return self._check_image(_read_body(response), response)
        except Failure:
            raise
        except httpx.TimeoutException as error:
            limit_timeout(None)  # if it is the deadline of the file that has passed, this says so
            raise Busy("the host did not answer in time") from error
        except httpx.LocalProtocolError as error:
            raise Dead(NO_URL, str(error)) from error
        except httpx.ConnectError as error:
            if "CERTIFICATE" in str(error):
                raise Later("the host's certificate is not valid", str(error)) from error
            raise Busy("the host cannot be connected to", str(error)) from error
        except httpx.RemoteProtocolError as error:
            raise Busy(CUT_OFF if "complete" in str(error) else "what came is no proper HTTP", str(error)) from error
        except httpx.TransportError as error:
            raise Busy("the connection broke", str(error)) from error
        except ValueError as error:  # of a header that h11 lets pass
            raise Dead("what came is no proper HTTP", str(error)) from error

    def _check_image(self, data: bytes, response: httpx.Response) -> bytes:
        try:
            with self.decoding:
                decode_image(data)
        except ImageError as error:
            if response.headers.get("content-type", "").lower().startswith(PAGES):  # of a hotel's network, a login, a limit: an image may come later
                raise Later("a web page came instead of an image") from error
            is_whole = "content-length" in response.headers or "transfer-encoding" in response.headers
            raise (Dead if is_whole else Later)("what came is no usable image", str(error).rstrip(".")) from error
        return data


def parse_wait(text: str | None, now: float) -> float:
    """Return the seconds that a `Retry-After` header asks for, as a number or a date; 0 if it asks for none or cannot be read."""
    text = (text or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _wait_as_asked(state: RetryCallState) -> float:
    assert state.outcome is not None
    failure = state.outcome.exception()
    return max(wait_exponential()(state), failure.wait if isinstance(failure, Busy) else 0.0)


def _asks_for_too_much(state: RetryCallState) -> bool:
    return state.upcoming_sleep > MAX_WAIT


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if status in BUSY:
        raise Busy(f"the host answers {status}", wait=parse_wait(response.headers.get("retry-after"), time.time()))
    if status not in WHOLE:
        raise Dead(f"the host answers {status}")


def _read_body(response: httpx.Response) -> bytes:
    """Return the whole body, of which never more than MAX_BYTES are in memory."""
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BYTES:
        raise too_large(MAX_BYTES)
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > MAX_BYTES:
            raise too_large(MAX_BYTES)
    return expand(bytes(body), response.headers.get("content-encoding", ""), limit=MAX_BYTES)
