"""URLs as people write them. Run: python -m pytest tests/pipeline/data/fetch/test_urls.py"""

from __future__ import annotations

import pytest

from pipeline.data.fetch.failures import Dead
from pipeline.data.fetch.urls import normalise_host, parse_cell, parse_url


@pytest.mark.parametrize(
    ("text", "host", "target"),
    [
        ("http://h/a b.jpg", "h", "/a%20b.jpg"),
        ("http://h/a%20b.jpg", "h", "/a%20b.jpg"),
        ("http://h/niño 新.jpg?q=ä b", "h", "/ni%C3%B1o%20%E6%96%B0.jpg?q=%C3%A4%20b"),
        ("http://h/50%.jpg?x=%zz%C3%B1", "h", "/50%25.jpg?x=%25zz%C3%B1"),
        ("  HTTPS://Example.ORG:8443/a.jpg#part \n", "example.org", "/a.jpg"),
        ("http://bücher.de/x", "xn--bcher-kva.de", "/x"),
        ("http://BÜCHER.de", "xn--bcher-kva.de", "/"),
        ("http://h/\u202egpj.exe\x85", "h", "/%E2%80%AEgpj.exe"),
        ("http://[2606:4700::1111]:80/x", "2606:4700::1111", "/x"),
        ("http://h/a?b=1&c=%2F", "h", "/a?b=1&c=%2F"),
    ],
)
def test_what_people_write_becomes_what_can_be_asked(text: str, host: str, target: str) -> None:
    url = parse_url(text)
    assert (url.raw_host.decode(), url.raw_path.decode()) == (host, target)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://[::1", "no valid URL"),
        ("http://", "no valid URL .it names no host"),
        ("http:///a.jpg", "it names no host"),
        ("http:h/a.jpg", "it names no host"),
        (r"http:\\h\a.jpg", "it names no host"),
        ("http://a b/", "no valid URL"),
        ("http://h:99999/", "there is no port 99999"),
        ("http://h:0/", "there is no port 0"),
        ("http://h:x/", "no valid URL"),
        ("http://h/\x1b[2J", "no valid URL"),
        ("http://h\x00/", "no valid URL"),
        ("http://h/a\nb", "no valid URL"),
        ("http://h/\udc80", "no valid URL"),
        ("http://xn--a/", "no valid URL"),
        ("http://①②⑦.0.0.1/", "no valid URL"),
        ("http://[fe80::1%25eth0]/", "no valid URL"),
        ("http://me:secret@h/", "names a user or a password, which is sent to nobody"),
        ("http://h/" + "x" * 70_000, "no valid URL"),
        ("file:///etc/passwd", "only http and https URLs are fetched .this one begins with file:"),
        ("ftp://h/a.jpg", "only http and https"),
        ("data:image/png;base64,xx", "only http and https"),
        ("javascript:alert(1)", "only http and https"),
        ("a.jpg", "only http and https URLs are fetched$"),
        ("//h/a.jpg", "only http and https"),
        ("", "only http and https"),
    ],
)
def test_what_can_never_be_asked_is_dead_and_says_why(text: str, words: str) -> None:
    with pytest.raises(Dead, match=words):
        parse_url(text)


@pytest.mark.parametrize(
    ("cell", "url"),
    [
        ("//img.shop.com/a.jpg", "https://img.shop.com/a.jpg"),
        ("www.shop.com/a b.jpg", "https://www.shop.com/a%20b.jpg"),
        ("shop.com:8443/a.jpg?x=1", "https://shop.com:8443/a.jpg?x=1"),
        ("http://h/a.jpg|http://h/b.jpg", "http://h/a.jpg"),
        ("http://h/a.jpg, https://h/b.jpg", "http://h/a.jpg"),
        ("http://h/a.jpg;http://h/b.jpg", "http://h/a.jpg"),
        ("http://h/a.jpg\nhttp://h/b.jpg", "http://h/a.jpg"),
        ("http://h/a.jpg?u=http://g/b,c.jpg", "http://h/a.jpg?u=http://g/b,c.jpg"),
        ("http://h/a?x=1&amp;y=2", "http://h/a?x=1&y=2"),
        ("\ufeff<http://h/a.jpg>", "http://h/a.jpg"),
        ('"http://h/a.jpg"', "http://h/a.jpg"),
        (r"http:\\h\a\b.jpg?c:\d", r"http://h/a/b.jpg?c:\d"),
    ],
)
def test_a_cell_is_read_as_a_browser_or_a_page_would(cell: str, url: str) -> None:
    assert str(parse_cell(cell)) == url


@pytest.mark.parametrize("cell", ["nan", "-", "a.jpg", "images/a.jpg", "v1.0/a.jpg", "ftp://h/a.jpg", "http://", "file:///etc/passwd"])
def test_a_cell_without_a_url_stays_one(cell: str) -> None:
    with pytest.raises(Dead):
        parse_cell(cell)


def test_a_redirect_is_taken_relative_to_where_it_came_from() -> None:
    base = parse_url("https://h:8443/a/b.jpg?x")
    assert str(parse_url("c d.jpg", base)) == "https://h:8443/a/c%20d.jpg"
    assert str(parse_url("//other/ñ", base)) == "https://other/%C3%B1"
    with pytest.raises(Dead, match="begins with file:"):
        parse_url("file:///etc/passwd", base)


@pytest.mark.parametrize(("name", "host"), [("Images.Intra", "images.intra"), ("::1", "::1"), ("[::1]", "::1"), ("bücher.de", "xn--bcher-kva.de")])
def test_an_allowed_host_is_named_like_in_urls(name: str, host: str) -> None:
    assert normalise_host(name) == host


@pytest.mark.parametrize("name", ["", "h:8080", "http://h", "h/x", "a b", "me@h", "*"])
def test_what_is_no_hosts_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no host's name"):
        normalise_host(name)
