"""One page that shows a study and lets the reader ask: a single HTML file that needs no network.

`content` is what the page knows of a model, as plain values; `flips` which items a plan changed, of
bounded size, and `questions` what these asked; `pictures` are the figures in it, `lens` what the
model would say at each depth, and `commands` what to do next; `searched` is the section about a
search; `page` puts them into the template in `assets`, and `after_run` is what a run ends in. The
page is written by hand, in SVG and a few hundred lines of JavaScript: it is a fortieth of the size
of a charting library, draws ten thousand plans at once, and every point can be reached by the
keyboard.

Whatever comes from data is text: escaped in HTML and in the JSON within it, set by `textContent`
where the page writes it. A content security policy lets no other script run and nothing be loaded.
"""

from impasto.report.after_run import show_run
from impasto.report.content import Content, content_of
from impasto.report.page import REPORT, figures_for, searches_of, write_page, write_report

__all__ = [
    "REPORT",
    "Content",
    "content_of",
    "figures_for",
    "searches_of",
    "show_run",
    "write_page",
    "write_report",
]
