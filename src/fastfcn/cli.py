"""How the scripts end: a user's mistake in one sentence, a fault of the program with its traceback."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from fastfcn import circumstances, incident, launch, signals
from fastfcn.errors import UserError

#: Set in the environment, and so in the processes that DDP starts, while mistakes are told in one sentence.
ONE_SENTENCE = "FASTFCN_ONE_SENTENCE"

#: What gloo says in a process whose neighbour has ended.
CONNECTION_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")

#: By which Hydra is told to sweep, or to do something else than to run.
_MODES = ("-m", "--multirun", "-c", "--cfg", "-i", "--info", "-h", "--help", "--hydra-help")

P = ParamSpec("P")
T = TypeVar("T")


def run(main: Callable[[], object]) -> None:
    """Run a script's Hydra main: a mistake in the configuration ends with one sentence and exit code 2.

    With ``HYDRA_FULL_ERROR=1`` in the environment every error keeps its traceback.
    """
    plain = os.environ.get("HYDRA_FULL_ERROR") == "1" and not os.environ.get(ONE_SENTENCE)
    if not plain:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises to here instead of printing its own version
        os.environ[ONE_SENTENCE] = "1"
    one_sentence(launch.agree)()
    sys.argv[1:] = one_sentence(incident.arguments)(sys.argv[1:])
    arguments = sys.argv[1:]
    sweeps = any(item.startswith("sweep=") and item != "sweep=null" for item in arguments)
    if sweeps and not any(item in _MODES or item.startswith("hydra.mode=") for item in arguments):
        # The sweep's file says so too; but where something else is wrong, Hydra would complain of commas instead.
        sys.argv.append("--multirun")
    with contextlib.nullcontext() if plain else _no_usage():
        (main if plain else one_sentence(main))()


@contextlib.contextmanager
def _no_usage() -> Iterator[None]:
    """Have argparse, by which Hydra reads its own flags, tell a mistake as all others are told."""

    def error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        raise UserError(f"{message}: --help lists the flags; everything else is given as key=value.")

    theirs = argparse.ArgumentParser.error
    argparse.ArgumentParser.error = error  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = theirs  # type: ignore[method-assign]


def one_sentence(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate what a user starts: a mistake ends the process with one sentence and exit code 2.

    It stands under ``hydra.main`` too, which would put a line of its own before the sentence.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt:
            sys.exit(signals.INTERRUPTED)
        except signals.Stopped as stopped:
            sys.exit(stopped.code)
        except Exception as error:
            sentence = explain(error) if os.environ.get(ONE_SENTENCE) else None
            if sentence is not None:
                line = f"error: {sentence}"
            elif "LOCAL_RANK" in os.environ and any(words in str(error) for words in CONNECTION_LOST):
                line = "stopped: another process of this run has ended, its own message says why."
                if signals.asked():  # this one would have ended too
                    sys.exit(signals.exit_code(signals.asked()))
            else:
                raise
            sys.stdout.flush()
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
            _leave_nothing(*args)
            mistake = next((link for link in _chain(error) if isinstance(link, UserError)), None)
            sys.exit((mistake or UserError).exit_code)

    return wrapper


def _leave_nothing(config: Any = None, *_: object) -> None:
    """Clear away the run directory that Hydra has made for a script that was refused before it left anything there.

    A run that keeps a status does so itself, when the status is written (`job` of the sweeper).
    """
    paths = getattr(config, "paths", None)
    if paths is not None and isinstance(paths.get("run_dir"), str):
        from fastfcn import refused  # it reads the status, which reads this

        refused.clear_away(Path(paths.run_dir), with_status=False)


def explain(error: BaseException) -> str | None:
    """The sentence for a user's mistake; None for a fault of the program.

    A mistake is a UserError anywhere in the chain, or an error of Hydra or OmegaConf about the configuration: a group's
    option that does not exist, a key that does not exist, a value of the wrong type. What the machine refuses, or
    Lightning before it has begun, is told so too.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, UserError):
            return " ".join(str(link).split())
    for link in chain:
        if (sentence := circumstances.told(link)) is not None:
            return sentence
    for link in chain:
        if type(link).__name__ == "MisconfigurationException":
            return f"{_first_line(link)}: correct the options of trainer and callbacks."
        if "Config group override must be" in str(link):
            return _no_option()
        if type(link).__module__.split(".")[0] not in ("hydra", "omegaconf"):
            continue
        if type(link).__name__ == "InstantiationException" and link.__cause__ is not None:
            return _instantiation(link, link.__cause__)
        return _configuration(chain)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".!") if lines else type(error).__name__


def _instantiation(error: BaseException, cause: BaseException) -> str:
    """What a target refused, with its key and a remedy: a library's words name no key of ours."""
    lines = str(error).splitlines()
    target = next((name for name in lines[0].split("'")[1:2]), "")
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "") or target
    if isinstance(cause, ImportError | AttributeError) and "locat" in lines[0]:
        return f"{key}: there is no {target}; correct the name, or install the package that has it."
    remedy = f"correct {key}; HYDRA_FULL_ERROR=1 shows where"
    if target.endswith(".Trainer"):
        remedy = "correct the trainer's options, or choose trainer=default, which takes what the machine has"
    return f"{key}: {_told(cause)} (in {target}): {remedy}."


def _no_option() -> str:
    """A group that was given a number or null, which Hydra tells without its name."""
    given = [item for item in sys.argv[1:] if re.fullmatch(r"[\w/@]*=(null|true|false|[-+.\d]*)", item)]
    return f"{' '.join(given)}: a group takes the name of one of its options, which --help lists; ~group leaves it out."


def _told(error: BaseException) -> str:
    """A library's message in a line; the first line alone may only announce what follows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:300].rstrip(".!:") if lines else type(error).__name__


def _configuration(chain: list[BaseException]) -> str:
    """Hydra's several lines as one: what is wrong, then what there is to choose from."""
    missing = next((link for link in chain if type(link).__name__ == "MissingMandatoryValue"), None)
    if missing is not None:
        key = getattr(missing, "full_key", None) or _first_line(missing).rpartition(" ")[2]
        return f"{key} has no value: give one by {key}=... on the command line."
    lines = [line.strip() for line in str(chain[0]).splitlines() if line.strip()]
    text = lines[0].rstrip(".")
    options: list[str] = []
    for line in lines[1:]:
        if line.startswith(("Config search path", "Set the environment", "full_key", "object_type", "reference_type")):
            break
        if line.startswith("Available options"):
            continue
        options.append(line)
    if "Could not find" in text or "Could not load" in text or "You must specify" in text:
        return f"{text}: choose one of {', '.join(options) or 'those that --help lists'}."
    if "is not in struct" in str(chain[0]) or any("is not in struct" in str(link) for link in chain):
        return f"{text}: there is no such key; `--cfg job` prints the whole configuration."
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "")
    told = " ".join([text, *options]).rstrip(".")
    return f"{key and f'{key}: '}{told}: correct it on the command line; `--cfg job` prints the whole configuration."
