"""The command of `make demo`: `python -m pipeline.demo [--host 127.0.0.1] [--port 7860]`; needs the extra `demo` and a finished run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from pipeline.draw.command import run_app
from pipeline.draw.finished_run import FinishedRun
from pipeline.terminal import say

KEPT = "finished pictures are kept; the same command opens the page again"

app = typer.Typer(add_completion=False)
Host = Annotated[str, typer.Option(help="Address to listen at; the default is reached from this machine only.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen at.")]


@app.command()
def main(host: Host = "127.0.0.1", port: Port = 7860) -> None:
    """Open a page on which the finished run in this folder is asked for pictures."""
    if find_spec("gradio") is None:
        raise ValueError("the demo needs the package gradio, which is not installed; `make setup EXTRAS=demo` installs it.")
    run = FinishedRun()
    run.check()
    from pipeline.demo.server import bind, build_server, is_local, keep_uploads  # late: they load torch and Gradio
    from pipeline.demo.studio import Studio

    studio = Studio(run)
    studio.check()
    with bind(host, port) as taken, keep_uploads():
        server = build_server(studio, host)
        if not is_local(host):
            say(f"demo: note: {host} can be reached from other machines, and everybody who reaches it can draw and upload")
        say(f"demo: http://{host}:{port} (Ctrl-C ends it)")
        server.run(sockets=[taken])


if __name__ == "__main__":
    run_app(app, "demo", KEPT)
