"""What a search may vary, from YAML and from the command line."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from fastfcn.errors import UserError
from fastfcn.search.space import Choice, Parameter, Range
from hydra_plugins.fastfcn_sweeper.space import read_space

PARSER = OverridesParser.create()


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"low": 1e-4, "high": 0.1, "log": True}, Range(1e-4, 0.1, log=True)),
        ({"low": 0, "high": 10, "step": 4}, Range(0, 8, step=4)),
        ({"low": 0.0, "high": 1.0, "step": 0.1}, Range(0.0, 1.0, step=0.1)),
        (["none", None, True, 0.5, [1, 2]], Choice(("none", "null", "True", "0.5", "[1,2]"))),
        ("interval(0.5,2)", Range(0.5, 2.0)),
        ("none,jpu", Choice(("none", "jpu"))),
    ],
)
def test_yaml(given: Any, parameter: Parameter) -> None:
    space, fixed = read_space({"key": given}, ["seed=1"], PARSER)
    assert space == {"key": parameter}
    assert fixed == ("seed=1",)


@pytest.mark.parametrize(
    ("argument", "parameter"),
    [
        ("a.b=interval(1e-4,1e-1)", Range(1e-4, 0.1)),
        ("a.b=interval(1,8)", Range(1.0, 8.0)),
        ("a.b=int(interval(1,8))", Range(1, 8)),
        ("a.b=tag(log,interval(1e-4,1e-1))", Range(1e-4, 0.1, log=True)),
        ("a.b=tag(log,int(interval(1,64)))", Range(1, 64, log=True)),
        ("a.b=range(1,9,2)", Range(1, 7, step=2)),
        ("a.b=range(0,1,0.25)", Range(0.0, 0.75, step=0.25)),
        ("a.b=choice(none,jpu)", Choice(("none", "jpu"))),
        ("a.b=none,jpu", Choice(("none", "jpu"))),
        ("+a.b=0.1,0.2", Choice(("0.1", "0.2"))),
        ("a.b='x,y',z", Choice(("'x,y'", "z"))),
    ],
)
def test_the_command_line_means_what_it_means_to_hydra(argument: str, parameter: Parameter) -> None:
    space, fixed = read_space({}, [argument], PARSER)
    assert space == {argument.partition("=")[0]: parameter}
    assert fixed == ()


def test_whole_numbers_are_whole() -> None:
    assert Range(1, 8).whole
    assert not Range(1.0, 8).whole
    assert not Range(0, 1, step=0.5).whole


def test_the_command_line_goes_before_yaml() -> None:
    given = {"optim.lr": [0.1, 0.2], "loss.aux_weight": [0.0, 0.5], "upsample": ["none", "jpu"]}
    space, fixed = read_space(given, ["optim.lr=interval(0.1,1)", "upsample=fpn", "seed=3"], PARSER)
    assert space == {"optim.lr": Range(0.1, 1.0), "loss.aux_weight": Choice(("0.0", "0.5"))}
    assert fixed == ("upsample=fpn", "seed=3")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"low": 1}, "low and high are both needed"),
        ({"low": 1, "hihg": 2}, "hihg is not known"),
        ({"low": 2, "high": 1}, "low is to be the smaller one"),
        ({"low": 0, "high": 1, "log": True}, "begins above 0"),
        ({"low": 1, "high": 4, "log": True, "step": 1}, "both log and step"),
        ({"low": 1, "high": 4, "step": 5}, "step=5"),
        ({"low": 1, "high": 4, "log": "yes"}, "log=yes"),
        ({"low": "a", "high": 4}, "low=a"),
        ({"low": 0.0, "high": float("inf")}, "high=inf"),
        ({"low": True, "high": 4}, "low=True"),
        ([1], "at least two"),
        ([], "at least two"),
        (0.1, "or fix it by key="),
        ("jpu", "or fix it by key="),
        (None, "or fix it by key="),
        ("tag(fast,interval(0,1))", "the tag fast"),
        ("tag(log,choice(1,2))", "the tag log is for interval"),
        ("tag(log,range(1,9))", "both log and step"),
        ("range(1,2)", "at least two"),
    ],
)
def test_a_bad_space_is_a_sentence(given: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        read_space({"key": given}, [], PARSER)
    assert "key" in str(error.value)


def test_nothing_varies() -> None:
    with pytest.raises(UserError, match="the search space is empty"):
        read_space({"upsample": ["none", "jpu"]}, ["upsample=jpu"], PARSER)
