"""Models to the hub and back: the real client over HTTP, against a server of its API on the loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from huggingface_hub import ModelCard, constants
from safetensors import safe_open

import fastfcn
from fastfcn import provenance
from fastfcn.beginning import choose
from fastfcn.checkpoint import read_checkpoint
from fastfcn.conversion import convert
from fastfcn.errors import UserError
from fastfcn.hub.card import public
from fastfcn.hub.sharing import share
from fastfcn.hub.wanted import Wanted
from tests.data.tiny import is_one_sentence_with
from tests.hub.stand_in import READER, STRANGER, TOKEN, Hub, Repository
from tests.scripts import ROOT, call, environment
from tests.test_first_version import FIXTURES

DATA = ("data=folder", f"data.dataset.root={FIXTURES / 'scenes'}", "data.crop_size=64", "data.num_workers=0")
CONFIG = """
seed: 3
init_from: /home/somebody/secret/outputs/best.ckpt
trainer: {max_epochs: 30, precision: 32-true}
data: {train_split: train, batch_size: 8, crop_size: 96, split: test, augmentations: []}
optim: {_target_: fastfcn.optim.SGDPoly, lr: 0.01, momentum: 0.9}
"""


class Trained(NamedTuple):
    """A run directory with a checkpoint, and its evaluation."""

    ckpt: Path
    evaluation: Path


@pytest.fixture(scope="module")
def trained(first_version: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run = tmp_path_factory.mktemp("runs") / "run"
    ckpt = run / "checkpoints" / "best.ckpt"
    ckpt.parent.mkdir(parents=True)
    shutil.copy(first_version, ckpt)
    overrides = ["seed=3", "data.dataset.root=/home/somebody/secret/scenes", "paths.data_dir=/home/somebody"]
    provenance.write(run, config_yaml=CONFIG, overrides=overrides)
    evaluation = run / "eval"
    call("eval.py", f"ckpt_path={ckpt}", *DATA, "trainer=cpu", f"hydra.run.dir={evaluation}").check()
    return Trained(ckpt, evaluation)


@pytest.fixture(scope="module")
def written(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What to=hub writes."""
    place = tmp_path_factory.mktemp("written") / "folder"
    wanted = ("to=hub", "hub.repo=user/scenes", f"hub.evaluation={trained.evaluation}", f"out={place}")
    done = call("export.py", f"ckpt_path={trained.ckpt}", *wanted).check()
    assert done.out == f"written:         {place}\n"
    return place


@pytest.fixture
def folder(written: Path, cache: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(written, tmp_path / "folder")


@pytest.fixture
def pushed(written: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of that on the hub; it is private, and the token may read."""
    repository = hub.repositories["user/scenes"] = Repository(private=True)
    monkeypatch.setenv("HF_TOKEN", READER)
    return f"hf://user/scenes@{repository.commit({path.name: path.read_bytes() for path in written.iterdir()})}"


def logits(model: torch.nn.Module) -> torch.Tensor:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out: torch.Tensor = model(image).logits
    return out


def test_there_and_back(folder: Path, trained: Trained, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (f"ckpt_path={trained.ckpt}", "to=hub", "hub.repo=user/scenes", f"out={folder}", "hub.push=true")
    done = call("export.py", *arguments, HF_TOKEN=TOKEN).check()
    commit = hub.repositories["user/scenes"].main
    assert done.out == f"taken as it is:  {folder}\npushed:          hf://user/scenes@{commit}\n"
    assert TOKEN not in done.out + done.err
    files = hub.repositories["user/scenes"].commits[commit or ""]
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.repositories["user/scenes"].private
    monkeypatch.setenv("HF_TOKEN", READER)
    for address in (f"hf://user/scenes@{commit}", "hf://user/scenes", "hf://user/scenes@main"):
        assert torch.equal(logits(fastfcn.load_model(address)), logits(fastfcn.load_model(trained.ckpt)))
    assert list(cache.rglob("model.safetensors"))


def test_without_a_network_the_cache_serves(pushed: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = logits(fastfcn.load_model("hf://user/scenes"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert torch.equal(logits(fastfcn.load_model("hf://user/scenes")), before)
    assert torch.equal(logits(fastfcn.load_model(pushed)), before)
    assert hub.requests == []
    with pytest.raises(UserError) as caught:
        fastfcn.load_model("hf://user/other")
    is_one_sentence_with(caught.value, ["hf://user/other", "HF_HUB_OFFLINE", "fetch the file once with a network"])


def test_the_scripts_take_the_address(pushed: str, trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "eval"
    call("eval.py", "ckpt_path=hf://user/scenes", *DATA, "trainer=cpu", f"hydra.run.dir={run}").check()
    ours, theirs = (json.loads((place / "evaluation.json").read_text()) for place in (run, trained.evaluation))
    assert (ours["figures"], ours["checkpoint"]) == (theirs["figures"], "hf://user/scenes")
    page = ("figure=" + str(tmp_path / "page.png"), f"checkpoints=[hf://user/scenes,{trained.ckpt}]", "device=cpu")
    call("predict.py", *page, "names=[pulled,own]", "count=1", "candidates=2", *DATA).check()
    assert (tmp_path / "page.png").stat().st_size > 0
    out = tmp_path / "again.safetensors"
    call("export.py", f"ckpt_path='{pushed}'", "to=safetensors", f"out={out}").check()
    assert torch.equal(logits(fastfcn.load_model(out)), logits(fastfcn.load_model(trained.ckpt)))
    with pytest.raises(UserError, match="say where to write by out=FILE"):
        convert(ckpt_path=pushed, official=None, to="safetensors")
    with pytest.raises(UserError, match="say where to write by out=FOLDER"):
        share(ckpt_path=pushed, official=None, out=None, wanted=Wanted(repo="user/b"))
    # An evaluation of the address belongs to the address.
    wanted = Wanted(repo="user/b", evaluation=str(run))
    share(ckpt_path="hf://user/scenes", official=None, out=str(tmp_path / "b"), wanted=wanted)
    assert "On test of" in (tmp_path / "b" / "README.md").read_text()


def test_a_training_begins_with_it(
    pushed: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Module(NamedTuple):
        model: torch.nn.Module
        facts: Any
        config: dict[str, Any]

    model = fastfcn.load_model(trained.ckpt)
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    before = read_checkpoint(trained.ckpt)
    trainer: Any = None
    module: Any = Module(model, before.facts, {"model": before.model_config})
    assert choose(trainer, module, run_dir=tmp_path, resume=None, init_from="hf://user/scenes") is None
    assert "was trained with" not in capsys.readouterr().out  # options are the same after their way to the hub and back
    assert torch.equal(logits(model.eval()), logits(fastfcn.load_model(trained.ckpt)))


@pytest.mark.slow
def test_a_process_of_its_own(pushed: str, trained: Trained, hub: Hub, tmp_path: Path) -> None:
    """As a user has it: nothing but the environment tells where the hub is and who asks."""
    code = "import fastfcn, torch; print(sum(float(p.double().sum()) for p in fastfcn.load_model('hf://user/scenes').parameters()))"
    variables = environment(
        HF_ENDPOINT=hub.url, HF_TOKEN=READER, HF_HOME=str(tmp_path / "home"), PYTHONPATH=str(ROOT / "src")
    )
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    own = sum(float(value.detach().double().sum()) for value in fastfcn.load_model(trained.ckpt).parameters())
    assert float(done.stdout) == own


def test_the_card(folder: Path, trained: Trained) -> None:
    card = ModelCard.load(folder / "README.md")
    data = card.data.to_dict()
    figures = json.loads((trained.evaluation / "evaluation.json").read_text())["figures"]
    assert (data["library_name"], data["license"], data["datasets"]) == ("fastfcn-lightning", "mit", ["scenes"])
    assert {"semantic-segmentation", "JPU"} <= set(data["tags"])
    metrics = {metric["name"]: metric for metric in data["model-index"][0]["results"][0]["metrics"]}
    for name in ("mIoU", "pixAcc"):
        value, low, high = (round(100 * figures[name][key], 2) for key in ("value", "low", "high"))
        assert (metrics[name]["value"], metrics[name]["args"]["interval_95"]) == (value, [low, high])
        assert f"| {name} | {value:.2f} | {low:.2f} to {high:.2f} |" in card.text
    config = json.loads((folder / "config.json").read_text())
    assert config["sha256"] in card.text
    commit = provenance.git_state(Path(provenance.__file__))["commit"]
    assert str(commit) in card.text
    for part in (
        'fastfcn.load_model("hf://user/scenes")',
        "| `trainer.max_epochs` | 30 |",
        "| `optim.lr` | 0.01 |",
        "| `init_from` | best.ckpt |",
        "sky, mountain",
        "drawn by the program of this project",
        "`seed=3`",
        "percentile bootstrap over images",
        "of photographs it knows nothing",
    ):
        assert part in card.text, part


def test_no_folder_of_this_machine_is_told(folder: Path, trained: Trained) -> None:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        metadata = " ".join(file.metadata().values())
    for text in ((folder / "README.md").read_text(), (folder / "config.json").read_text(), metadata):
        for place in ("somebody", "secret", str(trained.ckpt.parent), str(ROOT)):
            assert place not in text
    assert public("[/a/b/c.txt, ~/d/e.png, 1/2, http://host/x, data/y]") == "[c.txt, e.png, 1/2, http://host/x, data/y]"
    assert public("init_from=/home/jane doe/run/best.ckpt") == "init_from=best.ckpt"
    assert public("file:///home/jane/x.png") == "x.png"
    assert public("/secret") == "secret"
    assert public("1/2") == "1/2"


def test_a_card_of_little(trained: Trained, cache: Path, tmp_path: Path) -> None:
    """No run directory, no evaluation, licences by hand: the card says what is not known."""
    alone = tmp_path / "alone.ckpt"
    shutil.copy(trained.ckpt, alone)
    given = ("hub.license=apache-2.0", "hub.data_license='for research'", "hub.repo=user/alone")
    done = call("export.py", f"ckpt_path={alone}", "to=hub", *given).check()
    assert "the card has no intervals" in done.out
    card = ModelCard.load(tmp_path / "alone.hub" / "README.md")
    assert card.data.to_dict()["license"] == "apache-2.0"
    assert "model-index" not in card.data.to_dict()
    assert "None were measured" in card.text
    assert "Licence: for research." in card.text
    assert "Not known: no run directory" in card.text


def test_a_folder_that_is_called_as_a_known_data_set_is(trained: Trained, cache: Path, tmp_path: Path) -> None:
    content = torch.load(trained.ckpt, weights_only=True)
    content["fastfcn"]["data"]["dataset"] = {"_target_": "fastfcn.data.folder.Folder", "root": "/mine/scenes"}
    torch.save(content, tmp_path / "own.ckpt")
    share(ckpt_path=str(tmp_path / "own.ckpt"), official=None, out=None, wanted=Wanted(repo="user/own"))
    card = ModelCard.load(tmp_path / "own.hub" / "README.md")
    assert not {"license", "datasets"} & set(card.data.to_dict())
    assert "Licence: not known here" in card.text
    assert "No licence of the weights is stated" in card.text


def test_figures_of_the_trainings_own_test(trained: Trained, cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.ckpt.parents[1], run, ignore=shutil.ignore_patterns("eval"))
    results = {"best_checkpoint": "/gone/best.ckpt", "test": {"mIoU": 0.5, "IoU": {}}, "protocol": "whole"}
    (run / "results.json").write_text(json.dumps(results))
    wanted = Wanted(repo="user/a")
    share(ckpt_path=f"{run}/checkpoints/best.ckpt", official=None, out=str(tmp_path / "a"), wanted=wanted)
    text = (tmp_path / "a" / "README.md").read_text()
    assert "| mIoU | 50.00 |  |" in text
    assert "intervals were not measured" in text
    shutil.copy(run / "checkpoints/best.ckpt", run / "checkpoints/last.ckpt")
    share(ckpt_path=f"{run}/checkpoints/last.ckpt", official=None, out=str(tmp_path / "b"), wanted=wanted)
    assert "None were measured" in (tmp_path / "b" / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"repo": "scenes"}, ["hub.repo=scenes", "user/name"]),
        ({"repo": "a/b/c"}, ["hub.repo=a/b/c", "user/name"]),
        ({"repo": None}, ["hub.repo=null", "user/name"]),
        ({"official": "x.pth"}, ["not both"]),
        ({"ckpt_path": None}, ["ckpt_path=...", "official=..."]),
        ({"ckpt_path": "/nowhere.ckpt"}, ["/nowhere.ckpt"]),
        ({"push": True}, ["hub.push=true", "hf auth login", "HF_TOKEN"]),
        ({"evaluation": "{other}"}, ["hub.evaluation=", "is of somewhere/last.ckpt", "not of"]),
        ({"evaluation": "/nowhere"}, ["/nowhere", "eval.py"]),
        ({"out": "/proc/none/a"}, ["out=/proc/none", "choose a folder"]),
    ],
)
def test_mistakes(given: dict[str, Any], words: list[str], trained: Trained, cache: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained.evaluation, tmp_path / "other")
    content = json.loads((other / "evaluation.json").read_text())
    (other / "evaluation.json").write_text(json.dumps({**content, "checkpoint": "somewhere/last.ckpt"}))
    options = {
        "repo": "user/a",
        "official": None,
        "ckpt_path": str(trained.ckpt),
        "out": str(tmp_path / "out"),
        **given,
    }
    places = {key: options.pop(key) for key in ("official", "ckpt_path", "out")}
    options = {key: str(other) if value == "{other}" else value for key, value in options.items()}
    with pytest.raises(UserError) as caught:
        share(**places, wanted=Wanted(**options))
    is_one_sentence_with(caught.value, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_an_evaluation_of_a_checkpoint_of_the_same_name_in_another_run(trained: Trained, tmp_path: Path) -> None:
    """Its path, told from its run directory, is that of every run's checkpoint of that name."""
    other = shutil.copytree(trained.evaluation, tmp_path / "other")
    content = json.loads((other / "evaluation.json").read_text())
    told = f"{trained.ckpt.parent.name}/{trained.ckpt.name}"
    (other / "evaluation.json").write_text(json.dumps({**content, "checkpoint": told}))
    places = {"official": None, "ckpt_path": str(trained.ckpt), "out": str(tmp_path / "out")}
    with pytest.raises(UserError, match=f"is of {told}, not of"):
        share(**places, wanted=Wanted(repo="user/a", evaluation=str(other)))


def test_mistakes_of_the_command_line(trained: Trained) -> None:
    arguments = (f"ckpt_path={trained.ckpt}", "hub.repo=user/a")
    assert "hub.repo is for to=hub, not for to=ckpt" in call("export.py", *arguments, "to=ckpt").sentence()
    assert "hub.push=maybe: give true or false" in call("export.py", *arguments, "to=hub", "hub.push=maybe").sentence()


def test_a_folder_that_is_there(
    folder: Path, trained: Trained, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was corrected by hand is pushed; what is of other weights, or not asked to be pushed, is left alone."""

    def shared(ckpt: Path, *, push: bool = True) -> None:
        share(ckpt_path=str(ckpt), official=None, out=str(folder), wanted=Wanted(repo="user/scenes", push=push))

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UserError, match=r"push it by hub\.push=true"):
        shared(trained.ckpt, push=False)
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nBy hand.\n")
    shared(trained.ckpt)
    main = hub.repositories["user/scenes"].commits[hub.repositories["user/scenes"].main or ""]
    assert main["README.md"].endswith(b"By hand.\n")
    content = torch.load(trained.ckpt, weights_only=True)
    name = next(name for name, value in content["state_dict"].items() if value.is_floating_point())
    content["state_dict"][name] += 1
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(UserError, match="of other weights than the checkpoint's"):
        shared(tmp_path / "changed.ckpt")
    (folder / "README.md").unlink()
    with pytest.raises(UserError, match=r"has no README\.md"):
        shared(trained.ckpt)


@pytest.mark.parametrize(
    ("prepare", "token", "words"),
    [
        (lambda hub: None, STRANGER, ["does not accept this token", "hf auth login"]),
        (lambda hub: None, READER, ["may not do that", "write access"]),
        (lambda hub: setattr(hub, "refuse", (503, f"no {TOKEN}")), TOKEN, ["the hub answers 503", "later"]),
        (
            lambda hub: hub.repositories.update({"user/scenes": Repository(private=False)}),
            TOKEN,
            ["public", "hub.private=false"],
        ),
    ],
)
def test_pushes_that_are_refused(
    prepare: Callable[[Hub], None],
    token: str,
    words: list[str],
    folder: Path,
    trained: Trained,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(hub)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("HF_ENDPOINT", "http://nowhere.invalid")
    wanted = Wanted(repo="user/scenes", push=True, endpoint=hub.url)
    with pytest.raises(UserError) as caught:
        share(ckpt_path=str(trained.ckpt), official=None, out=str(folder), wanted=wanted)
    is_one_sentence_with(caught.value, ["user/scenes", *words])
    assert token not in str(caught.value)
    assert not any(repository.commits for repository in hub.repositories.values())


def test_a_public_repository(folder: Path, trained: Trained, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for _ in range(2):  # the second time it is there
        wanted = Wanted(repo="user/scenes", push=True, private=False)
        share(ckpt_path=str(trained.ckpt), official=None, out=str(folder), wanted=wanted)
    assert not hub.repositories["user/scenes"].private
    monkeypatch.delenv("HF_TOKEN")
    assert torch.equal(logits(fastfcn.load_model("hf://user/scenes")), logits(fastfcn.load_model(trained.ckpt)))


def test_a_full_disk(trained: Trained, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastfcn.hub.sharing.card.write", full)  # the last of the files
    with pytest.raises(UserError, match="room for it"):
        share(ckpt_path=str(trained.ckpt), official=None, out=str(tmp_path / "a"), wanted=Wanted(repo="user/a"))
    assert list(tmp_path.iterdir()) == []


def without(name: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda files: {other: content for other, content in files.items() if other != name}


def changed(name: str, content: bytes) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda files: {**files, name: content}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("model.safetensors"), ["has no file model.safetensors", "to=hub"]),
        (without("config.json"), ["has no file config.json", "to=hub"]),
        (changed("config.json", b"{"), ["config.json is no JSON"]),
        (changed("config.json", b"{}"), ["no model of this project", "sha256"]),
        (changed("model.safetensors", b"other"), ["SHA-256", "delete", "do not use it"]),
    ],
)
def test_what_is_not_what_was_pushed(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], words: list[str], folder: Path, hub: Hub
) -> None:
    repository = hub.repositories["user/scenes"] = Repository(private=False)
    repository.commit(change({path.name: path.read_bytes() for path in folder.iterdir()}))
    with pytest.raises(UserError) as caught:
        fastfcn.load_model("hf://user/scenes")
    is_one_sentence_with(caught.value, ["hf://user/scenes", *words])


@pytest.mark.parametrize(
    ("address", "token", "words"),
    [
        ("hf://user/nothing", READER, ["no such repository", "private", "HF_TOKEN"]),
        ("hf://user/private", None, ["no such repository", "private", "HF_TOKEN"]),
        ("hf://user/private@v9", READER, ["hf://user/private@v9", "no such revision"]),
        ("hf://user/private", STRANGER, ["does not accept this token"]),
        ("hf://user", None, ["hf://user/name"]),
        ("hf://user/a@", None, ["hf://user/name"]),
        ("hf://user/a/b", None, ["hf://user/name"]),
    ],
)
def test_addresses_that_lead_nowhere(
    address: str, token: str | None, words: list[str], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["user/private"] = Repository(private=True)
    hub.repositories["user/private"].commit({"config.json": b"{}"})
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as caught:
        fastfcn.load_model(address)
    is_one_sentence_with(caught.value, words)
    assert str(token) not in str(caught.value)


def test_no_hub_at_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between its tries
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        fastfcn.load_model("hf://user/name")
    is_one_sentence_with(caught.value, ["hf://user/name", "cannot be reached", "not in the cache", "HF_ENDPOINT"])
