"""A URL as people write it into a table, or as a host sends it in a redirect: made one that can be asked, or refused.

Spaces, `ñ` and the like are percent-encoded, what is encoded stays as it is, and a name beyond ASCII becomes its IDNA form. Of a cell with
several URLs the first is taken; quotes around it, `&amp;`, backslashes and a missing `https:` are what a browser or a web page would allow.
"""

from __future__ import annotations

import re

import httpx

from pipeline.data.fetch.failures import Dead

SCHEMES = ("http", "https")
HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f.:]+")  # a name in its IDNA form, IPv4; IPv6 without a zone
STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
WRAPPING = " \t\r\n\ufeff\u200b\"'<>"  # around a URL, of a web page or of an export
NEXT_URL = re.compile(r"(?:\s*[|;,]\s*|\s+)(?=https?://)", re.IGNORECASE)
NO_SCHEME = re.compile(r"(?:[\w-]+\.)+[a-z]{2,}(?::\d+)?/", re.IGNORECASE)
NO_URL = "the URL is no valid URL"


def parse_cell(text: str) -> httpx.URL:
    """Return the URL in a cell of a table; Dead says why it can never be asked."""
    first = NEXT_URL.split(text.strip(WRAPPING), maxsplit=1)[0].strip(WRAPPING).replace("&amp;", "&")
    place, mark, query = first.partition("?")
    place = place.replace("\\", "/")
    if place.startswith("//"):
        place = f"https:{place}"
    elif NO_SCHEME.match(place):
        place = f"https://{place}"
    return parse_url(place + mark + query)


def parse_url(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """Return the URL, relative to `base` if there is one; Dead says why it can never be asked."""
    try:
        url = httpx.URL(STRAY_PERCENT.sub("%25", text.strip()))
        url = base.join(url) if base else url
        name = url.host
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: of the host's IDNA form, or a lone surrogate
        raise Dead(NO_URL, str(error)) from error
    if url.scheme not in SCHEMES:
        raise Dead("only http and https URLs are fetched", f"this one begins with {url.scheme}:" if url.scheme else "")
    if not HOST.fullmatch(url.raw_host.decode("ascii")):
        raise Dead(NO_URL, f"{name} is no host's name" if name else "it names no host")
    if url.port is not None and not 0 < url.port < 2**16:
        raise Dead(NO_URL, f"there is no port {url.port}")
    if url.userinfo:
        raise Dead("the URL names a user or a password, which is sent to nobody")
    return url


def normalise_host(name: str) -> str:
    """Return a host's name as URLs have it; ValueError if it is none."""
    try:
        url = parse_url(f"http://[{name}]/" if name.count(":") > 1 and not name.startswith("[") else f"http://{name}/")
    except Dead as error:
        raise ValueError(f"{name!r} is no host's name ({error}).") from error
    if url.port is not None or url.raw_path != b"/":
        raise ValueError(f"{name!r} is no host's name: leave out the port and the path; all ports of an allowed host may be asked.")
    return url.raw_host.decode("ascii")
