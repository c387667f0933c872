"""Pictures: the papers' figures of a study, and what a model is like inside."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.completion import folders
from impasto.cli.options import (
    AllowCodeOption,
    DeviceOption,
    DtypeOption,
    LensOption,
    ModelOption,
    StudyOption,
    WithinOption,
    load_model,
    losses_of,
    tell_study,
)
from impasto.error import UserError

if TYPE_CHECKING:
    from impasto.figures import Found

TextsOption = Annotated[
    Path,
    typer.Option(
        "--texts", help="A .txt file (a text per line, or between blank lines), .jsonl, .csv, …"
    ),
]
ColumnOption = Annotated[
    str, typer.Option("--column", help="The column of texts, where the file has columns.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many texts.  [default: all]")
]


@app.command()
def figures(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="OUT...",
            help="The study's folder, such as runs/painters. Several folders, or one of several "
            "models, are drawn together.",
            autocompletion=folders,
        ),
    ],
    only: Annotated[
        str | None, typer.Option("--only", help="These figures: A2,B11.  [default: all]")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="png, svg, pdf: one or several.")
    ] = "png,svg",
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Where pictures go.  [default: figures/ in the first folder]"),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            "--width",
            help="How wide a picture is, in cm: 8.8, 17cm, 3.5in; letters keep their size.",
        ),
    ] = None,
    no_title: Annotated[
        bool, typer.Option("--no-title", help="No title; a caption will say it.")
    ] = False,
    style: Annotated[
        str, typer.Option("--style", help="paper, or slide: larger letters and lines.")
    ] = "paper",
    study: StudyOption = None,
) -> None:
    """Draw the papers' figures and tables that studies have data for, and say what others lack."""
    chosen = _formats(formats)
    from impasto.figures import Found, MissingError, entries_of, save_all, style_of

    entries, styled = entries_of(only), style_of(style, width, not no_title)
    founds = [found for folder in folders for found in Found.read_all(folder, study)]
    _tell_studies(founds, study)
    lacking, said = [], set()
    for entry, picture, paths in save_all(
        founds, entries, to or folders[0] / "figures", chosen, styled
    ):
        if isinstance(picture, MissingError):
            lacking.append((entry, picture))
            continue
        for path in paths:
            typer.echo(f"{entry.name:9} {path}")
        for note in picture.notes:
            if note not in said:
                said.add(note)
                typer.echo(f"{entry.name}: {note}", err=True)
    if only is None and lacking:
        names = ", ".join(entry.name for entry, _ in lacking)
        typer.echo(f"without data: {names}; --only NAME says what one lacks", err=True)
    elif lacking:
        for entry, missing in lacking:
            typer.echo(f"{entry.name} ({entry.about}) lacks data", err=True)
            for line in missing.told(founds[0]):
                typer.echo(f"  {line}", err=True)
        raise typer.Exit(1)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of studies or searches, as runs/attend_first; a block for each model.",
            autocompletion=folders,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the page goes.  [default: the first folder]")
    ] = None,
    study: StudyOption = None,
    within: WithinOption = None,
    lens: LensOption = True,
    allow_code: AllowCodeOption = False,
) -> None:
    """Write one page about studies and searches that opens anywhere: findings, figures, plans."""
    losses = losses_of(within)
    from impasto.figures import Found
    from impasto.report import write_report
    from impasto.study import check_writable

    place = folders[0] if out is None else out
    check_writable(place)
    founds = [found for folder in folders for found in Found.read_all(folder, study)]
    _tell_studies(founds, study)
    path = write_report(founds, place, losses, with_lens=lens)
    typer.echo(f"report   {path} ({path.stat().st_size / 1e6:.1f} MB)")


@app.command()
def similarity(
    texts: TextsOption,
    model: ModelOption = "demo",
    out: Annotated[
        Path, typer.Option("--out", help="Where the matrices and their figures go.")
    ] = Path("runs/similarity"),
    column: ColumnOption = "text",
    limit: LimitOption = None,
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Also how widely each head looks.")
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Compare a model's hidden states at all depths (paper B, figure 3; paper C, figure 1)."""
    from itertools import islice

    from impasto.analysis.inside import (
        attention_entropy,
        layer_groups,
        read_states,
        read_texts,
        similarities,
    )
    from impasto.analysis.inside.saved import Inside
    from impasto.figures.matrix import spelled
    from impasto.run import Model
    from impasto.study import check_writable

    check_writable(out)
    next(read_texts(texts, column))  # what cannot be read is said before a model is loaded
    opened = load_model(model, device, dtype)
    if entropy and not isinstance(opened, Model):
        raise UserError(f"--entropy is measured on decoders; {model} is an encoder")
    read = lambda: islice(read_texts(texts, column), limit)  # noqa: E731
    found = similarities(read_states(opened, read()))
    heads = attention_entropy(opened, read()) if entropy and isinstance(opened, Model) else None
    inside = Inside(model, opened.num_layers, texts.name, found, heads)
    _write(inside, out, "B3,C1" + (",entropy" if entropy else ""))
    per_token = found["tokens"]
    groups = layer_groups(per_token.mean)
    typer.echo(
        f"- {per_token.texts:,} texts, {per_token.tokens:,} tokens besides BOS"
        + (f"; {per_token.cut:,} texts were longer than the model reads" if per_token.cut else "")
    )
    if groups is not None:
        runs = ", ".join(f"{name} {spelled(run)}" for name, run in groups.runs.items())
        typer.echo(
            f"- depths fall into {runs}: similarity {groups.within:.2f} within them, "
            f"{groups.between:.2f} between"
        )


@app.command()
def probe(
    texts: TextsOption,
    label: Annotated[str, typer.Option("--label", help="The column of labels.")],
    model: ModelOption = "demo",
    out: Annotated[Path, typer.Option("--out", help="Where the numbers and the figure go.")] = Path(
        "runs/probe"
    ),
    column: ColumnOption = "text",
    limit: LimitOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Say what linear probes read off a model's hidden states at each depth."""
    from itertools import islice

    from impasto.analysis.inside import last_states, read_labelled, read_states
    from impasto.analysis.inside import probe as probed_by
    from impasto.analysis.inside.saved import Inside
    from impasto.study import check_writable

    check_writable(out)
    pairs = list(islice(read_labelled(texts, column, label), limit))
    opened = load_model(model, device, dtype)
    states = last_states(read_states(opened, (text for text, _ in pairs)))
    try:
        found = probed_by(states, [of_text for _, of_text in pairs])
    except ValueError as error:
        raise UserError(f"{texts}: {error}") from None
    _write(Inside(model, opened.num_layers, texts.name, probed=found), out, "probes")
    best = max(range(len(found.accuracy)), key=found.accuracy.__getitem__)
    typer.echo(
        f"- {found.labels} labels are read off best at depth {best}: "
        f"{100 * found.accuracy[best]:.1f} % of {found.texts:,} texts "
        f"({100 * found.low[best]:.1f} to {100 * found.high[best]:.1f}), "
        f"chance {100 * found.chance:.1f} %"
    )


def _tell_studies(founds: "Sequence[Found]", study: str | None) -> None:
    """Say which studies of folders are meant, where that is not plain."""
    for folder in dict.fromkeys(found.folder for found in founds if found.results is not None):
        if folder is not None:
            tell_study(folder, study)


def _formats(text: str) -> list[str]:
    """Read which formats are asked for."""
    from impasto.figures import FORMATS, check_formats

    chosen = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not chosen:
        raise UserError(f"--format takes {', '.join(FORMATS)}")
    check_formats(chosen)
    return list(dict.fromkeys(chosen))


def _write(inside: object, out: Path, only: str) -> None:
    """Write what was found inside a model, with its figures."""
    from impasto.analysis.inside.saved import Inside, read_inside
    from impasto.figures import USUAL, Found, entries_of, save_all
    from impasto.study.folder.files import write_files

    assert isinstance(inside, Inside)
    files = inside.files()
    write_files(out, files)
    for name in files:
        typer.echo(f"numbers   {out / name}")
    found = Found(out, None, read_inside(out))
    for _, _, paths in save_all([found], entries_of(only), out / "figures", USUAL):
        for path in paths:
            typer.echo(f"figure    {path}")
