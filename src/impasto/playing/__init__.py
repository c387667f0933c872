"""A local page to try plans on: type a prompt, move layers about, see what the model makes of it.

The browser holds a plan as its steps and moves them about; what they are called, what they cost and
what a model answers is asked here. So there is one notation, one parser and one engine, and the
page is a view of them. `chips` turns a plan into what the page shows and back; `asked` is what a
page asks, as its address and as a command; `player` answers it on a model; `examples` are plans to
begin with; `page` serves it all with gradio, from this machine alone: the page loads nothing from
any other. The page itself is in `assets`, and sets whatever comes from data as text.
"""

from impasto.playing.page import free_port, needs_gradio, serve

__all__ = ["free_port", "needs_gradio", "serve"]
