"""The page, served by gradio: one component of ours, and the functions that it calls.

Nothing leaves the machine: no statistics, no fonts, no link through anybody's server; and unless the
user names another address, nobody else's machine is answered.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from impasto.error import UserError
from impasto.playing.player import Player
from impasto.report.page import colours

NEEDED = 'impasto play needs gradio: pip install "impasto[play]"'
FIRST_PORT, PORTS = 7860, 100  # where none is named, the first of these that is free


@dataclass(frozen=True, slots=True)
class Served:
    """A page that is there.

    Attributes:
        url: Its address.
        app: Gradio's page.
    """

    url: str
    app: Any


def needs_gradio() -> None:
    """Raise UserError where gradio is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read as gradio is imported
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError(NEEDED) from None


@contextmanager
def serve(player: Player, host: str = "127.0.0.1", port: int | None = None) -> Iterator[Served]:
    """Serve the page for the length of a block.

    Raises UserError where gradio is not installed, or nothing can be served at this host and port.
    """
    needs_gradio()
    import gradio

    app = _app(gradio, player)
    font = ["system-ui", "sans-serif"]
    theme = gradio.themes.Base(font=font, font_mono=["ui-monospace", "monospace"])
    try:
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
            theme=theme,
            head=_head(),
        )
    except OSError:
        where = f"port {port}" if port else f"any port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1}"
        raise UserError(
            f"nothing can be served at {host} on {where}: it is taken, or is not this machine's; "
            "choose another with --port or --host"
        ) from None
    try:
        yield Served(url, app)
    finally:
        app.close(verbose=False)


def _app(gradio: Any, player: Player) -> Any:
    def begin(value: Any) -> Any:
        return player.begin(value)

    def read(value: Any) -> Any:
        return player.read(value)

    def look(value: Any) -> Any:
        return player.look(value)

    def write(value: Any) -> Any:
        return player.write(value)

    with gradio.Blocks(
        title=f"impasto play: {player.model.name}", analytics_enabled=False
    ) as app:
        gradio.HTML(
            "",
            html_template=_asset("play.html"),
            js_on_load=_asset("play.js"),
            apply_default_css=False,
            server_functions=[begin, read, look, write],
        )
    return app


# Run before anything is painted, so that a dark page does not flash up light.
_THEME = """
let theme = null;
try { theme = localStorage.getItem("impasto-theme"); } catch { /* a browser may keep nothing */ }
document.documentElement.dataset.theme =
  theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
"""


def _head() -> str:
    return f"<style>{colours()}{_asset('play.css')}</style><script>(() => {{{_THEME}}})();</script>"


def _asset(name: str) -> str:
    return files("impasto.playing.assets").joinpath(name).read_text(encoding="utf-8")
