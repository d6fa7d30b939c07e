"""Serve the page from this machine: nothing is asked of any other one, nothing is told to any other one, and by default no other one is answered.

Gradio's own `launch` can share a page, count its users and ask for newer versions; the page is mounted in a server of our own instead, whose
content security policy lets a browser fetch nothing from elsewhere.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator

os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")  # before Gradio is imported

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware

from pipeline.data.image_policy import MAX_BYTES
from pipeline.demo.page import build_page
from pipeline.demo.studio import Studio
from pipeline.demo.view import read_style
from pipeline.work import work_dir

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; frame-ancestors 'none'"
FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]
MONO = ["ui-monospace", "monospace"]
PATIENCE = 1  # seconds that an open page is waited for at the end


def build_app(studio: Studio, host: str) -> FastAPI:
    """Return the page as an application; one that is bound to this machine answers to its names only."""
    app = FastAPI(openapi_url=None)

    @app.middleware("http")
    async def forbid_elsewhere(request: Request, call_next) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    if is_local(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost", "127.0.0.1"])
    theme = gr.themes.Default(font=FONTS, font_mono=MONO, primary_hue="orange")
    options = {"ssr_mode": False, "pwa": False, "mcp_server": False, "enable_monitoring": False, "footer_links": []}
    return gr.mount_gradio_app(app, build_page(studio), path="/", theme=theme, css=read_style(), max_file_size=MAX_BYTES, **options)


def is_local(host: str) -> bool:
    """Say whether an address is one that only this machine reaches."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """Take a port; ValueError if that cannot be done."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen()
    except OSError as error:
        raise ValueError(f"the demo cannot listen at {host}:{port} ({error.strerror}); choose another --port, or another --host.") from error
    return taken


@contextlib.contextmanager
def keep_uploads() -> Iterator[None]:
    """Let uploaded files lie in a folder that is gone at the end."""
    work_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work_dir(), prefix=".demo-uploads-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield


def build_server(studio: Studio, host: str) -> uvicorn.Server:
    """Return a server of the page, which says nothing but errors."""
    return uvicorn.Server(uvicorn.Config(build_app(studio, host), log_level="error", timeout_graceful_shutdown=PATIENCE))
