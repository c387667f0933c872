"""The page, served by gradio: one component of ours, and the functions that it calls.

Nothing leaves the machine: no statistics, no fonts, no link through anybody's server; and unless
the user names another address, nobody else's machine is answered.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from impasto.error import UserError

if TYPE_CHECKING:
    from impasto.playing.player import Player

NEEDED = 'impasto play needs gradio: pip install "impasto[play]"'
FIRST_PORT, PORTS = 7860, 100  # where none is named, the first of these that is free


def needs_gradio() -> None:
    """Raise UserError where gradio is not installed."""
    if find_spec("gradio") is None:
        raise UserError(NEEDED)


def free_port(host: str, port: int | None = None) -> int:
    """Return the port to serve at: the one that is named, or the first that is free.

    Raises UserError where it is taken, or nothing can be served at this host.
    """
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    for one in ports:
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                host, one, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
            return one
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            where = f"port {one} of {host}"
            if error.errno == errno.EADDRINUSE:
                raise UserError(f"{where} is taken: choose another with --port") from None
            raise UserError(
                f"nothing can be served at {where}: {error.strerror}; --host is an address of this "
                "machine, and --port one that you may use"
            ) from None
    raise UserError(
        f"all ports of {host} from {ports[0]} to {ports[-1]} are taken: choose another with --port"
    )


@contextmanager
def serve(player: "Player", host: str = "127.0.0.1", port: int | None = None) -> Iterator[str]:
    """Serve the page for the length of a block, and give its address; see `free_port`.

    Raises UserError where gradio is not installed, or nothing can be served at this host and port.
    """
    needs_gradio()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read as gradio is imported
    import gradio
    from gradio.themes import Base

    app, port = _app(gradio, player), free_port(host, port)
    font = ["system-ui", "sans-serif"]
    _, url, _ = app.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        theme=Base(font=font, font_mono=["ui-monospace", "monospace"]),
        head=_head(),
    )
    try:
        yield url
    finally:
        app.close(verbose=False)


def _app(gradio: Any, player: "Player") -> Any:
    def begin(value: Any) -> Any:
        return player.begin(value)

    def read(value: Any) -> Any:
        return player.read(value)

    def look(value: Any) -> Any:
        return player.look(value)

    def write(value: Any) -> Any:
        return player.write(value)

    with gradio.Blocks(title=f"impasto play: {player.model.name}", analytics_enabled=False) as app:
        gradio.HTML(
            "",
            html_template=_asset("play.html"),
            js_on_load=_asset("play.js"),
            apply_default_css=False,
            server_functions=[begin, read, look, write],
        )
    return app


def _head() -> str:
    from impasto.report.page import colours, theme  # which imports all a report is made of

    return f"<style>{colours()}{_asset('play.css')}</style><script>{theme()}</script>"


def _asset(name: str) -> str:
    return files("impasto.playing.assets").joinpath(name).read_text(encoding="utf-8")
