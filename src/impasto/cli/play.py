"""Playing: a local page on which plans are built by hand."""

import threading
import webbrowser
from typing import Annotated

import typer

from impasto.cli.app import app
from impasto.cli.generate import tell_appending
from impasto.cli.options import DeviceOption, DtypeOption, load_model

LOCAL = ("127.0.0.1", "localhost", "::1")


@app.command()
def play(
    model: Annotated[
        str, typer.Argument(help="demo (bundled), a hub id, or a folder with a decoder.")
    ] = "demo",
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=1, max=65535, help="Where to serve.  [default: the first free from 7860]"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Whom to answer; 0.0.0.0 is any machine.")
    ] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    tokens: Annotated[
        int, typer.Option("--tokens", min=1, help="The longest answer that the page asks for.")
    ] = 24,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Build plans by hand on a local page, and see at once what they do."""
    from impasto.playing import free_port, needs_gradio, serve

    needs_gradio()
    port = free_port(host, port)
    from impasto.playing.player import Player

    opened = load_model(model, device, dtype)
    tell_appending(opened)
    loading = {"--device": device, "--dtype": dtype}
    words = [word for name, value in loading.items() if value for word in (name, value)]
    with serve(Player(opened, words, tokens), host, port) as url:
        typer.echo(f"play     {url}")
        if host not in LOCAL:
            typer.echo(
                f"impasto: whoever reaches {host} can use this page, and the model; nobody is "
                "asked for a password",
                err=True,
            )
        typer.echo("end it with Ctrl-C")
        if browser:
            webbrowser.open(url)
        _wait()


def _wait() -> None:
    """Return once the user ends it."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        typer.echo("")
