"""Each sweep of conf/sweep composes to the jobs that its table has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext, RunMode
from submitit.core.utils import UncompletedJobError

from fastfcn import status
from fastfcn.checkpoint import config_dir
from fastfcn.errors import UserError
from fastfcn.sweeps.jobs import Job
from hydra_plugins.fastfcn_sweeper import patient
from hydra_plugins.fastfcn_sweeper.job import gpus_per_job
from hydra_plugins.fastfcn_sweeper.sweeper import ResumableSweeper, _keep_reason

TABLE1 = [
    ("encoding", "none", 8),
    ("encoding", "bilinear", 32),
    ("encoding", "fpn", 32),
    ("encoding", "jpu", 32),
    ("aspp", "none", 8),
    ("aspp", "jpu", 32),
    ("psp", "none", 8),
    ("psp", "jpu", 32),
]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def sweeper(*overrides: str) -> ResumableSweeper:
    GlobalHydra.instance().clear()
    search_path = create_config_search_path(str(config_dir()))
    hydra = Hydra.create_main_hydra2(task_name="train", config_search_path=search_path)
    given = [*overrides, "hydra.mode=MULTIRUN"]
    config = hydra.compose_config("train", given, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
    options = {key: value for key, value in config.hydra.sweeper.items() if key != "_target_"}
    made = ResumableSweeper(**options)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
    made.setup(hydra_context=context, task_function=lambda config: None, config=config)
    return made


def jobs(*overrides: str) -> list[Job]:
    return sweeper(*overrides).jobs(overrides)


def rows(found: list[Job]) -> list[tuple[str, str, int]]:
    return [(*job.name.split("-")[:2], job.config["output_stride"]) for job in found]


def test_table1() -> None:
    found = jobs("sweep=table1", "backbone=resnet18", "seed=0,1,2")
    assert rows(found[::3]) == TABLE1
    assert found[0].name == "encoding-none-r18-os8-s0"
    assert len({job.directory for job in found}) == 24
    assert {job.directory.parent for job in found} == {Path("outputs/table1/scenes").absolute()}
    assert all(job.config["inference"]["scales"] == [1.0] for job in found)
    assert all(job.config["backbone"]["depth"] == 18 for job in found)
    assert found[1].overrides[-2:] == ("run_name='encoding-none-r18-os8-s1'", "resume=auto")


def test_tables_take_the_recipe_of_their_data() -> None:
    for data, lr, epochs in (("pascal_context", 0.001, 80), ("ade20k", 0.01, 120)):
        for job in jobs("sweep=table1", f"data={data}"):
            assert (job.config["optim"]["lr"], job.config["trainer"]["max_epochs"]) == (lr, epochs)
            assert job.config["backbone"]["weights"] == "IMAGENET1K_V1"
            assert job.directory.parent.name == data
    [job, *_] = jobs("sweep=table1", "data=ade20k", "trainer.max_epochs=1", "backbone.weights=none")
    assert (job.config["trainer"]["max_epochs"], job.config["backbone"]["weights"]) == (1, "none")


def test_table2_is_the_speed_of_all_rows_and_both_depths() -> None:
    found = jobs("sweep=table2", "data=pascal_context")
    both = [job.config["backbone"]["depth"] for job in found]
    assert (len(found), both.count(50), both.count(101)) == (18, 9, 9)
    assert set(rows(found)) == {*TABLE1, ("encoding", "jpu_x", 32)}
    for job in found:
        assert (job.config["fit"], job.config["test"]) == (False, False)
        assert job.config["speed"]["image_size"] == [512, 512]
        assert (job.config["backbone"]["stem"], job.config["backbone"]["weights"]) == ("deep", "none")


@pytest.mark.parametrize(
    ("sweep", "data", "wanted"),
    [
        ("table3", "pascal_context", {("encoding", "none", 101), ("encoding", "jpu", 50), ("encoding", "jpu", 101)}),
        (
            "table4",
            "ade20k",
            {
                ("psp", "none", 101),
                ("encoding", "none", 50),
                ("encoding", "none", 101),
                ("encoding", "jpu", 50),
                ("encoding", "jpu", 101),
            },
        ),
    ],
)
def test_tables_of_several_scales(sweep: str, data: str, wanted: set[tuple[str, str, int]]) -> None:
    found = jobs(f"sweep={sweep}", f"data={data}")
    assert {(*job.name.split("-")[:2], job.config["backbone"]["depth"]) for job in found} == wanted
    assert all(job.config["inference"]["flip"] and len(job.config["inference"]["scales"]) == 6 for job in found)


def test_seeds_grid_and_a_multirun_by_hand() -> None:
    assert [job.config["seed"] for job in jobs("sweep=seeds")] == [0, 1, 2]
    assert [job.config["seed"] for job in jobs("sweep=seeds", "seed=range(4)")] == [0, 1, 2, 3]
    values = ("head=encoding,psp", "upsample=none,jpu", "seed=0,1,2")
    by_hand, grid = jobs(*values), jobs("sweep=grid", *values)
    assert [job.name for job in by_hand] == [job.name for job in grid]
    assert len(grid) == 12
    assert grid[0].directory.parent == Path("outputs/grid/scenes").absolute()
    assert by_hand[0].directory.parent.parts[-3] == "multirun"


def test_what_else_is_varied_is_in_the_name() -> None:
    names = [job.name for job in jobs("sweep=grid", "optim.lr=0.01,0.1", "seed=3")]
    assert names == ["encoding-jpu-r50-os32-s3-optim.lr=0.01", "encoding-jpu-r50-os32-s3-optim.lr=0.1"]


def test_several_data_sets_have_a_place_each() -> None:
    named = jobs("sweep=seeds", "data=scenes,ade20k", "seed=0")
    assert [job.directory.parent.name for job in named] == ["scenes", "ade20k"]
    assert len({job.name for job in named}) == 1
    by_hand = jobs("data=scenes,ade20k")
    assert [job.name.rpartition("-")[2] for job in by_hand] == ["data=scenes", "data=ade20k"]


def test_a_name_for_all_jobs_is_refused() -> None:
    with pytest.raises(UserError, match="do not set run_name in a sweep"):
        jobs("run_name=mine", "seed=0,1")


def test_a_missing_value_shows_before_anything_runs() -> None:
    from omegaconf.errors import MissingMandatoryValue

    with pytest.raises(MissingMandatoryValue, match=r"data\.dataset\.root"):
        jobs("sweep=table1", "data=folder")


@pytest.mark.parametrize(
    ("overrides", "available", "count"),
    [
        ((), 4, 1),
        (("trainer=ddp",), 4, 4),
        (("trainer=ddp", "trainer.devices=2"), 4, 2),
        (("trainer.devices=[1,3]",), 4, 2),
        (("trainer=cpu", "trainer.devices=2"), 4, 0),
        ((), 0, 0),
    ],
)
def test_gpus_of_a_job(overrides: tuple[str, ...], available: int, count: int) -> None:
    assert gpus_per_job(sweeper(*overrides).config.trainer, available) == count


def test_joblib_runs_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    launcher: Any = sweeper("hydra/launcher=joblib", "trainer=ddp", "trainer.devices=2").launcher
    assert launcher.joblib["n_jobs"] == 2
    launcher = sweeper("hydra/launcher=joblib", "hydra.launcher.n_jobs=3").launcher
    assert launcher.joblib["n_jobs"] == 3


def test_slurm_gets_what_a_job_needs() -> None:
    launcher: Any = sweeper("hydra/launcher=slurm", "trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2").launcher
    assert (launcher.params["nodes"], launcher.params["gpus_per_node"], launcher.params["tasks_per_node"]) == (2, 4, 4)
    assert launcher.params["max_num_timeout"] > 0
    with pytest.raises(UserError, match=r"trainer\.devices=auto.*trainer\.devices=4"):
        sweeper("hydra/launcher=slurm", "trainer=ddp")


def test_reason_of_a_job_that_a_cluster_killed_before_it_began(tmp_path: Path) -> None:
    """submitit has no result of it; it becomes a failed job with a reason, and no error of the whole sweep."""
    paths = SimpleNamespace(stderr=tmp_path / "12_0_log.err")

    def no_result() -> None:
        raise UncompletedJobError("Job 12 (task: 0) has not produced any output")

    ended = patient.outcome(SimpleNamespace(results=no_result, paths=paths))
    job = Job("a", tmp_path, (), {})
    _keep_reason(job, ended)
    told = status.read(job.directory)
    assert told is not None
    assert told.state == "failed"
    assert told.reason == f"killed by the cluster, without a result; see {paths.stderr}"
    # One that has said itself how it ended is believed.
    status.write(job.directory, status.Status("interrupted"))
    _keep_reason(job, ended)
    assert status.read(job.directory) == status.Status("interrupted")
