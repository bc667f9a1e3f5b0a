"""The import rules and the sizes of the house, by its syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import SRC

FILES = sorted(SRC.rglob("*.py"))
SCRIPTS = sorted(SRC.glob("*.py"))
MODULES = [path for path in FILES if path not in SCRIPTS]

#: The only ones below the scripts that may know a model together with its losses or metrics.
JOINS = {"fastfcn.module"}

#: And with the data: whatever runs, rebuilds or compares a whole training.
RUNS = {"fastfcn.training", "fastfcn.evaluation", "fastfcn.submission", "fastfcn.checkpoint", "fastfcn.official"}


def name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    known = {name(file) for file in FILES}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in known else base)
    return found


def below(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def own(path: Path) -> set[str]:
    return {module for module in imports(path) if below(module, "fastfcn")}


IMPORTS = {name(path): imports(path) for path in FILES}
OWN = {name(path): own(path) for path in FILES}


def test_the_rules_look_at_something() -> None:
    assert {"fastfcn.types", "fastfcn.models.layers", "fastfcn.module", "train", "eval"} <= set(IMPORTS)
    assert "fastfcn.models.layers" in OWN["fastfcn.models.upsamplers.jpu"]
    assert "hydra" in IMPORTS["train"]


@pytest.mark.parametrize("module", ["fastfcn.types", "fastfcn.errors", "fastfcn.contours", "fastfcn.models.layers"])
def test_the_ground_floor_imports_nothing_of_the_house(module: str) -> None:
    assert OWN[module] == set()


@pytest.mark.parametrize("package", ["fastfcn.models", "fastfcn.data"])
def test_models_and_data_know_themselves_and_the_contracts_alone(package: str) -> None:
    for module, imported in OWN.items():
        if below(module, package):
            strangers = {other for other in imported if not below(other, package, "fastfcn.types", "fastfcn.errors")}
            assert not strangers, f"{module} imports {strangers}"


@pytest.mark.parametrize("module", ["fastfcn.losses", "fastfcn.metrics", "fastfcn.optim"])
def test_losses_metrics_and_optimizer_know_no_model_and_no_data(module: str) -> None:
    assert OWN[module] <= {
        "fastfcn.types", "fastfcn.errors", "fastfcn.contours", "fastfcn.resized_cross_entropy", "fastfcn.parts",
    }  # fmt: skip


def test_the_loss_that_resizes_knows_how_a_model_resizes_and_no_model() -> None:
    assert OWN["fastfcn.resized_cross_entropy"] == {"fastfcn.models.layers", "fastfcn.types"}


def test_only_the_lightning_module_joins_model_loss_and_metrics() -> None:
    parts = ("fastfcn.models", "fastfcn.losses", "fastfcn.metrics", "fastfcn.optim")
    joins = {module for module, imported in OWN.items() if sum(any(below(i, p) for i in imported) for p in parts) > 1}
    assert joins == JOINS


def test_few_know_models_and_data_at_once() -> None:
    models, data = ("fastfcn.models", "fastfcn.module"), ("fastfcn.data",)
    both = {
        module
        for module, imported in OWN.items()
        if any(below(i, *models) for i in imported) and any(below(i, *data) for i in imported)
    }
    assert {module for module in both if not below(module, "fastfcn.report")} <= RUNS


def test_hydra_stays_in_the_scripts_its_plugin_and_checkpoint() -> None:
    users = {module for module, imported in IMPORTS.items() if any(below(i, "hydra", "omegaconf") for i in imported)}
    plugin = {module for module in users if below(module, "hydra_plugins.fastfcn_sweeper")}
    assert users - plugin <= {*(name(path) for path in SCRIPTS), "fastfcn.checkpoint"}


def test_a_sweep_is_planned_without_torch() -> None:
    """Hydra imports its plugins at every start, and each worker of a launcher imports them again."""
    heavy = "import sys, {0}; print(*{{'torch', 'pytorch_lightning', 'optuna'}} & set(sys.modules))"
    for module in IMPORTS:
        if below(module, "fastfcn.sweeps", "hydra_plugins.fastfcn_sweeper"):
            command = [sys.executable, "-c", heavy.format(module)]
            done = subprocess.run(command, cwd=SRC, capture_output=True, text=True, check=True)
            assert done.stdout.strip() == "", module


def test_torch_modules_know_nothing_of_lightning() -> None:
    frameworks = ("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "torchmetrics")
    for module, imported in IMPORTS.items():
        if below(module, "fastfcn.models", "fastfcn.losses", "fastfcn.optim", "fastfcn.types"):
            assert not any(below(other, *frameworks) for other in imported), module


def test_nobody_imports_the_sister_package() -> None:
    assert not [module for module, imported in IMPORTS.items() if any(below(i, "lightning") for i in imported)]


def test_the_lightning_module_names_no_architecture() -> None:
    words = set(re.findall(r"[a-z0-9]+", (SRC / "fastfcn/module.py").read_text().lower()))
    options = [path.stem for kind in ("upsamplers", "heads") for path in (SRC / f"fastfcn/models/{kind}").glob("*.py")]
    names = [option for option in options if option not in ("__init__", "base", "none")]
    assert names
    assert not words & {*names, "resnet", "timm"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_thin(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 260


def test_no_file_without_a_subject() -> None:
    names = {"utils", "util", "helpers", "misc", "common"}
    assert not [path for path in FILES if names & {part.lower() for part in path.with_suffix("").parts}]


def test_forward_of_the_model_has_no_option_names() -> None:
    tree = ast.parse((SRC / "fastfcn/models/fastfcn.py").read_text())
    [forward] = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "forward"]
    assert forward.end_lineno is not None
    assert forward.end_lineno - forward.lineno < 40  # one screen
    code = forward.body[1:]  # without the docstring
    assert not [n for stmt in code for n in ast.walk(stmt) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
