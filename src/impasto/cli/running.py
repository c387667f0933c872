"""What commands that run for long have in common: clusters, going on, throwing results away."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from impasto.cli.app import INTERRUPTED
from impasto.error import UserError
from impasto.tasks.harness.code import about_code, folder_with_code

if TYPE_CHECKING:
    from impasto.study import Cluster

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="[ADDRESS]",
        help="Run on a Ray cluster: ray://host:10001, host:6379, auto; without an address on "
        "this machine's cores or GPUs.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="How many workers.  [default: as many as have room]")
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker", help="GPUs of each worker, or a share of one.  [default: 1 if any]"
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option("--cpus-per-worker", help="CPUs of each worker, and threads.  [default: 1]"),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Throw away what the folder holds; asks first.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Print where the results are, and nothing else but errors.")
]
SaveEveryOption = Annotated[
    float | None,
    typer.Option(
        "--save-every", min=1, help="Seconds of work that are saved at once.  [default: 45]"
    ),
]


class OnCluster(TyperCommand):
    """A command with an option whose value may be left out: `--cluster`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; what stands behind `--cluster` and is no address is another word."""
        from impasto.study.cluster.wanted import LOCAL, is_address

        read = []
        for word, behind in pairwise([*args, ""]):
            meant = is_address(behind) or (":" in behind and not Path(behind).exists())
            read += [word] if word != "--cluster" or meant else [word, LOCAL]
        return super().parse_args(ctx, read)


def cluster_of(
    address: str | None, workers: int | None, gpus: float | None, cpus: int | None
) -> "Cluster | None":
    """Return the cluster that is meant; raises UserError for what is none."""
    from impasto.study import Cluster

    if address is None:
        given = {"--workers": workers, "--gpus-per-worker": gpus, "--cpus-per-worker": cpus}
        for name, value in given.items():
            if value is not None:
                raise UserError(f"{name} is of a cluster's workers; add --cluster")
        return None
    return Cluster(address, workers, gpus, 1 if cpus is None else cpus)


def command_of(words: list[str], options: dict[str, object]) -> str:
    """Return the command that goes on with what was begun, as it is typed."""
    for name, value in options.items():
        if value is not None:
            words += [name] if value is True else [name, str(value)]
    return shlex.join(words)


@contextmanager
def going_on(command: str, folder: Path) -> Iterator[None]:
    """Say how to go on where somebody interrupts the block, and end."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        typer.echo(f"impasto: interrupted{f'; {stopped}' if str(stopped) else ''}", err=True)
        if folder.exists():
            typer.echo(f"to go on:  {command}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def may_throw_away(folder: Path, yes: bool) -> bool:
    """Say whether a folder's results may go; asks, unless the answer was given.

    Raises UserError where it was not and nobody can be asked, or the answer is no.
    """
    from impasto.study.following.status import held

    holds = held(folder)
    if holds is None or yes:
        return holds is not None
    if not _can_ask():
        raise UserError(f"--fresh would throw away {holds}; say --yes to do so without being asked")
    if not typer.confirm(f"--fresh throws away {holds}. Go on?", err=True):
        raise UserError("nothing was thrown away and nothing run")
    return True


def may_run_code(tasks: "Iterable[Mapping[str, Any]]") -> bool:
    """Say whether the user allows the code of task files that tasks name; asks, where there are.

    Raises UserError where the answer is no. Where nobody can be asked, it is not allowed, and the
    task says so.
    """
    folders = {folder_with_code(options) for options in tasks} - {None}
    if not folders or not _can_ask():
        return False
    about = "; ".join(about_code(str(folder)) for folder in sorted(map(str, folders)))
    if not typer.confirm(f"{about}. Run it?", err=True):
        raise UserError("nothing was run; --allow-code allows it without being asked")
    return True


def _can_ask() -> bool:
    return typer.get_text_stream("stdin").isatty()
