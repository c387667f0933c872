"""What follows a run: its figures, and one page of all its models."""

from dataclasses import dataclass
from pathlib import Path

from impasto.figures import ENTRIES, USUAL, Found, save_all
from impasto.report.content import Content, content_of
from impasto.report.page import figures_for, searches_of, write_page
from impasto.study import Results


@dataclass(frozen=True)
class Shown:
    """The files of figures, the page (None: not asked for) and what the page says of each model."""

    figures: list[Path]
    page: Path | None
    contents: list[Content]


def show_run(
    results: Results,
    folder: Path,
    *,
    figures: bool = True,
    report: bool = True,
    with_lens: bool = False,
) -> Shown:
    """Draw what a run came to into `folder`/figures, and write its page into `folder`.

    `with_lens` opens the study's models, for what they would say at each depth. Raises UserError
    where files cannot be written.
    """
    founds = Found.all_of(results, folder)
    drawn: list[Path] = []
    if figures:
        every = save_all(founds, list(ENTRIES.values()), folder / "figures", USUAL)
        drawn = [path for *_, paths in every for path in paths]
    if not report:
        return Shown(drawn, None, [])
    contents = [content_of(found, with_lens=with_lens) for found in founds]
    page = write_page(contents, folder, searches_of(founds), figures_for(founds))
    return Shown(drawn, page, contents)
