"""No address of a private network is asked. Run: python -m pytest tests/pipeline/data/fetch/test_addresses.py"""

from __future__ import annotations

import socket

import pytest

from pipeline.data.fetch.addresses import is_public, resolve_host
from pipeline.data.fetch.download import Downloader
from pipeline.data.fetch.failures import Busy, Dead, Later
from tests.broken_items import draw_halves, save_image
from tests.web import FakeNetwork, make_downloader, ok, status

GOOD = save_image(draw_halves("red"))
PUBLIC = "93.184.216.34"
PRIVATE = [
    "127.0.0.1", "127.255.0.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255",
    "224.0.0.1", "239.1.2.3", "240.0.0.1", "198.18.0.1", "192.0.2.1", "192.0.0.8", "203.0.113.5", "192.88.99.1",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "3fff::1", "100::1",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:4136::1",
    "x", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_no_machine_of_the_internet_is_not_asked(address: str) -> None:
    assert not is_public(address)
    network = FakeNetwork(ok(GOOD))
    with pytest.raises(Later, match=r"the host's address is not public .*only `--allow-host a\.org` would ask it"):
        make_downloader(network, address).download("http://a.org/a.png")
    assert network.connected == []
    assert network.time.slept == [0.1]  # no waiting, no second try


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::5"])
def test_a_public_address_is_asked(address: str) -> None:
    assert is_public(address)
    network = FakeNetwork(ok(GOOD))
    assert make_downloader(network, address).download("http://a.org/a.png") == GOOD
    assert network.connected == [(address, 80)]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1."])
def test_no_spelling_of_this_machine_is_asked(host: str) -> None:
    network = FakeNetwork(ok(GOOD))
    with pytest.raises(Later, match="not public|nobody knows"):
        Downloader(resolve=resolve_host, network=network, sleep=network.time.sleep).download(f"http://{host}/a.png")
    assert network.connected == []


def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """DNS rebinding: the address that was checked is the one that is connected to, and the name is looked up once for it."""
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return [PUBLIC if len(looked_up) == 1 else "127.0.0.1"]

    network = FakeNetwork(ok(GOOD), ok(GOOD))
    downloader = Downloader(resolve=resolve, network=network, sleep=network.time.sleep)
    assert downloader.download("http://rebind.org/a.png") == GOOD
    assert (looked_up, network.connected) == (["rebind.org"], [(PUBLIC, 80)])
    with pytest.raises(Later, match="rebind.org is 127.0.0.1"):
        downloader.download("http://rebind.org/b.png")
    assert network.connected == [(PUBLIC, 80)]


def test_host_header_and_tls_name_are_the_hosts_own() -> None:
    network = FakeNetwork(ok(GOOD))
    assert make_downloader(network).download("https://bücher.de:8443/a.png") == GOOD
    assert network.connected == [(PUBLIC, 8443)]
    assert network.tls_names == ["xn--bcher-kva.de"]
    assert b"\r\nHost: xn--bcher-kva.de:8443\r\n" in network.sent


@pytest.mark.parametrize("target", ["http://127.0.0.1/", "https://169.254.169.254/latest/meta-data", "http://[::1]/", "//10.0.0.1/"])
def test_a_redirect_to_a_private_address_is_not_followed(target: str) -> None:
    def resolve(host: str, port: int) -> list[str]:
        return [PUBLIC] if host == "a.org" else [host]

    network = FakeNetwork(status(302, f"Location: {target}"), ok(GOOD))
    with pytest.raises(Later, match="the host's address is not public"):
        Downloader(resolve=resolve, network=network, sleep=network.time.sleep).download("http://a.org/a.png")
    assert network.connected == [(PUBLIC, 80)]


def test_only_the_public_ones_of_several_addresses_are_asked_in_turn() -> None:
    network = FakeNetwork(["refuse"], ok(GOOD))
    assert make_downloader(network, "10.0.0.1", "8.8.8.8", "::1", "1.1.1.1").download("http://a.org/a.png") == GOOD
    assert network.connected == [("8.8.8.8", 80), ("1.1.1.1", 80)]


def test_an_allowed_host_may_be_private_and_no_other_one_with_it() -> None:
    network = FakeNetwork(ok(GOOD), ok(GOOD))
    downloader = make_downloader(network, "10.0.0.7", allowed=("images.intra",))
    assert downloader.download("http://Images.Intra:8080/a.png") == GOOD
    assert network.connected == [("10.0.0.7", 8080)]
    for other in ("other.intra", "x.images.intra", "10.0.0.7", "images.intra.evil.org"):
        with pytest.raises(Later, match="not public"):
            downloader.download(f"http://{other}/a.png")
    assert len(network.connected) == 1


@pytest.mark.parametrize(
    ("error", "kind", "tries", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), Later, 1, "nobody knows the host's name .gone.org"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Busy, 3, "cannot be looked up now"),
        (UnicodeError("label too long"), Dead, 1, "is no host's name"),
    ],
)
def test_a_name_that_cannot_be_looked_up(error: Exception, kind: type, tries: int, words: str) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        raise error

    network = FakeNetwork()
    with pytest.raises(kind, match=words):
        Downloader(resolve=resolve, network=network, sleep=network.time.sleep).download("http://gone.org/a.png")
    assert asked == ["gone.org"] * tries


def test_proxies_and_passwords_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine a.org login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    network = FakeNetwork(ok(GOOD))
    assert make_downloader(network).download("http://a.org/a.png") == GOOD
    assert network.connected == [(PUBLIC, 80)]
    assert b"authorization" not in network.sent.lower()
