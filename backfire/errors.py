"""How Backfire ends: every exit code, and what is said for every error.

    0    the command did what it was asked to
    2    ScenarioError, UsageError, and the command line's own usage errors: change the input
    3    PlayError, RunFolderError and everything unforeseen: the game could not be played
    130  KeyboardInterrupt: stopped by Ctrl-C; the run folder is a valid unfinished one, and
         `backfire resume` goes on with it
    143  Terminated: likewise, stopped by SIGTERM
    141  nobody reads the standard output any more, as after `| head`; nothing is said

Nobody sees a traceback unless they ask for it with ``--debug``.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

import click
import typer

from backfire.interrupt import Terminated
from backfire.terminal import say
from scenarios.text.errors import ScenarioError
from scenarios.text.quoting import printable

OK: Final = 0
USAGE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130
READER_GONE: Final = 141
TERMINATED: Final = 143

# What these say is written for users; anything else is a defect and is called by its type.
_TOLD: Final = (
    "PlayError",
    "RunFolderError",
    "DataError",
    "FleetError",
    "AgentFileError",
    "DeployError",
    "TrackerMissingError",
    "FiguresMissingError",
)


class DeployError(RuntimeError):
    """A deployment cannot do what it was asked to; one line."""


class UsageError(Exception):
    """A command was given something that it cannot work with; one line."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    return USAGE if isinstance(error, ScenarioError | UsageError) else FAILED


def lines(error: BaseException) -> tuple[str, ...]:
    """Return what is said for an error: printable lines, one for each thing to mend."""
    if isinstance(error, ScenarioError):
        return error.lines
    if isinstance(error, KeyboardInterrupt):
        folder = printable(str(error), 500) or "RUN"
        return (
            "stopped; the run folder is unfinished; go on with:  backfire resume "
            f"{shlex.quote(folder)}",
        )
    text = printable(" ".join(str(error).split()), 2000)
    if isinstance(error, UsageError) or type(error).__name__ in _TOLD:
        return (f"error: {text}",)
    name = type(error).__name__
    return (f"error: {name}: {text} (--debug shows where)",)


def as_json(error: BaseException) -> dict[str, Any]:
    """Return the same as JSON values."""
    problems = error.problems if isinstance(error, ScenarioError) else ()
    return {
        "error": type(error).__name__,
        "exit_code": exit_code(error),
        "messages": list(lines(error)),
        "problems": [asdict(problem) for problem in problems],
    }


@contextmanager
def told(*, debug: bool, json_output: bool) -> Iterator[None]:
    """Turn whatever goes wrong inside into its lines and its exit code.

    Args:
        debug: Let the exception through, with its traceback.
        json_output: Print the error as JSON to the standard output instead.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.exceptions.Abort):
        raise
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            raise typer.Exit(READER_GONE) from None
        if debug:
            raise
        if json_output:
            say(json.dumps(as_json(error), indent=2))
        else:
            for line in lines(error):
                say(line, err=True)
        raise typer.Exit(exit_code(error)) from None


def reader_is_gone() -> bool:
    """Return whether nobody reads the standard output any more; then write it to nowhere."""
    try:
        output = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # not a file at all
        return False
    watch = select.poll()
    watch.register(output, select.POLLERR)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0)):
        return False
    # What is still in the buffer would raise again at the interpreter's end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True
