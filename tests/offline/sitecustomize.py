"""Refuse every network connection of a Python process that has this folder on PYTHONPATH, and trace it; the tests run whole pipelines under it."""

import socket


def _refuse(self: socket.socket, address: object, *_: object) -> None:
    if self.family != socket.AF_UNIX:
        raise OSError(f"network call to {address!r} refused by the offline test")
    return _connect(self, address)


_connect = socket.socket.connect
socket.socket.connect = _refuse
socket.socket.connect_ex = _refuse
socket.getaddrinfo = lambda *args, **_: _refuse(socket.socket(), args[:2])

import key_trace  # noqa: E402

key_trace.install()
