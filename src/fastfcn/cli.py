"""How the scripts end: a user's mistake in one sentence, a fault of the program with its traceback."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from fastfcn import incident, launch, signals
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
    (main if plain else one_sentence(main))()


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
            mistake = next((link for link in _chain(error) if isinstance(link, UserError)), None)
            sys.exit((mistake or UserError).exit_code)

    return wrapper


def explain(error: BaseException) -> str | None:
    """The sentence for a user's mistake; None for a fault of the program.

    A mistake is a UserError anywhere in the chain, or an error of Hydra or OmegaConf about the configuration: a group's
    option that does not exist, a key that does not exist, a value of the wrong type.
    """
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, UserError):
            return " ".join(str(link).split())
    for link in chain:
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
    """What a target refused, with a remedy: a library's words name no key of ours."""
    target = str(error).splitlines()[0].partition("'")[2].rstrip("':")
    remedy = "HYDRA_FULL_ERROR=1 shows where"
    if target.endswith(".Trainer"):
        remedy = "correct the trainer's options, or choose trainer=default, which takes what the machine has"
    return f"{_first_line(cause)} (in {target}): {remedy}."


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
    if options and ("Could not find" in text or "You must specify" in text):
        return f"{text}: choose one of {', '.join(options)}."
    if "is not in struct" in str(chain[0]) or any("is not in struct" in str(link) for link in chain):
        return f"{text}: there is no such key; `--cfg job` prints the whole configuration."
    return " ".join([text, *options]) + "."
