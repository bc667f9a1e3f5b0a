"""What the documentation tells to call works.

Every command that calls a script composes. Every command in a block of docs/, README.md, CONTRIBUTING.md and
data/README.md is beyond that

- run here, as it stands but for a tiny model and few images (`test_the_way_through`), or
- of a kind that another test runs (`ELSEWHERE`): with its script and what tells the kind, not each key, so a sweep
  of two rows for one of eight, two seeds for three; of `make demo` the four jobs are composed, and the engine that runs
  them is tested, or
- marked by what it needs, or of a page that a test follows line by line (`FOLLOWED`).

Commands of docs/results tell how figures were made; they compose.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.commands import PAGES, RECORDS, ROOT, Command, blocks, commands, composed, inline
from tests.scripts import TINY, call

COMMANDS = [command for page in PAGES for command in commands(page)]
SCRIPTS = re.compile(r"(python|torchrun|srun) .*\bsrc/\w+\.py")

#: Pages whose unmarked commands of train.py, eval.py, predict.py and report.py are run here, one after the other.
WAY = ("docs/start.md", "docs/evaluate.md", "docs/compare.md")
#: Pages that a test of their own follows line by line, on data that it makes.
FOLLOWED = {"docs/custom_data.md": "tests/test_custom_data.py::test_followed_line_by_line"}
#: What makes them quick.
SMALL = {
    "src/eval.py": ("trainer=cpu",),
    "src/predict.py": ("device=cpu", "count=1", "candidates=2"),
    "src/report.py": ("device=cpu", "latency.repeats=3", "latency.warmup=1", "figure.images=1", "figure.candidates=2"),
}

#: Kinds of commands, and the tests that run them: with tiny models, other folders, and fewer values of each key.
ELSEWHERE = (
    (r"make test$|make lint$|make setup$", ".ci/run"),
    (r"make demo$", "tests/test_train_process.py::test_demo_sweep_is_four_jobs"),
    (r"make docs$", "tests/test_documentation.py::test_the_site_is_built_and_asks_no_one"),
    (r"make (test-quick|format)$|make help$", "tests/test_commands.py::test_targets_exist"),
    (r"make soak", "tests/test_soak.py::test_three_kills"),
    (r"make growth", "tests/test_growth.py::test_what_a_training_takes_is_read"),
    (r"pip install -e \.\[\w+\]", "tests/test_commands.py::test_extras_exist"),
    (r"python -m fastfcn\.documentation\.figures",
     "tests/test_documentation.py::test_the_figures_are_those_of_the_code"),
    (r"python -m tests\.golden_curves", "tests/test_deterministic.py::test_the_first_steps_are_the_golden_ones"),
    (r"python -m pytest", "tests/test_contributing.py::test_the_files_of_the_document_are_an_upsampler"),
    (r"src/train\.py upsample=sub_pixel",
     "tests/test_contributing.py::test_the_files_of_the_document_are_an_upsampler"),
    (r"src/train\.py .*--help$|src/train\.py .*--cfg job$", "tests/test_commands.py::test_looking_runs_nothing"),
    (r"src/train\.py .*debug=fast", "tests/test_train_process.py::test_fast_dev_run_writes_no_checkpoint"),
    (r"src/train\.py .*debug\.replay=", "tests/test_replay.py::"),
    (r"src/train\.py .*resume=auto", "tests/test_resume_process.py::test_killed_anywhere"),
    (r"src/train\.py .*sweep=search .*hydra/launcher=joblib",
     "tests/search/test_sweeper.py::test_joblib_runs_trials_side_by_side"),
    (r"src/train\.py .*sweep=search|--config-name best",
     "tests/search/test_sweeper.py::test_a_search_from_its_call_to_its_report"),
    (r"src/train\.py .*hydra/launcher=joblib", "tests/sweeps/test_sweep_process.py::test_joblib_deals_gpus"),
    (r"src/train\.py .*sweep=table2", "tests/test_mistakes_random.py::"),
    (r"src/train\.py .*sweep=demo", "tests/test_train_process.py::test_demo_sweep_is_four_jobs"),
    (r"src/train\.py .*sweep=", "tests/sweeps/test_sweep_process.py::test_killed_jobs_go_on_with_a_second_call"),
    (r"src/train\.py", "tests/models/test_contract.py::"),
    (r"make web$", "tests/web/test_parts.py::test_make_web_trains_once_where_nothing_was_trained"),
    (r"src/web\.py", "tests/web/test_page.py::test_an_upload_is_compared_seen_in_other_ways_and_taken_home"),
    (r"src/predict\.py .*input=-", "tests/prediction/test_predict_script.py::test_standard_input_and_output"),
    (r"src/predict\.py .*input=", "tests/prediction/test_predict_script.py::test_what_is_done_is_not_done_again"),
    (r"src/predict\.py figure=.*int8",
     "tests/exporting/test_export_script.py::test_predict_takes_files_beside_checkpoints"),
    (r"src/(export|eval)\.py .*(hf://|hub)", "tests/hub/test_hub.py::test_the_scripts_take_the_address"),
    (r"src/export\.py .*int8",
     "tests/exporting/test_export_script.py::test_convolutions_are_in_8_bits_but_the_classifier"),
    (r"src/export\.py .*export\.argmax",
     "tests/exporting/test_export_script.py::test_pixels_in_and_classes_out_without_this_project"),
    (r"src/export\.py .*to=(onnx|openvino|torch_export)",
     "tests/exporting/test_export_script.py::test_any_size_and_batch"),
    (r"src/export\.py .*to=safetensors", "tests/test_weights_file.py::"),
    (r"src/export\.py .*to=(ckpt|official)", "tests/test_conversion.py::test_there_and_back"),
    (r"src/eval\.py .*\.onnx",
     "tests/exporting/test_export_script.py::test_eval_takes_a_file_and_tells_what_int8_costs"),
    (r"src/benchmark\.py task=exports .*task\.files",
     "tests/exporting/test_export_script.py::test_benchmark_measures_files_beside_one_another"),
    (r"src/benchmark\.py task=exports",
     "tests/exporting/test_export_script.py::test_benchmark_exports_the_model_itself"),
    (r"src/report\.py", "tests/test_report.py::test_report_of_trained_runs"),
    (r"src/benchmark\.py task=inference .*upsamplers",
     "tests/benchmarks/test_tasks.py::test_upsamplers_beside_one_another"),
    (r"src/benchmark\.py task=inference .*table2", "tests/benchmarks/test_tasks.py::test_table_2_as_a_process"),
    (r"src/benchmark\.py task=inference", "tests/benchmarks/test_tasks.py::test_inference"),
    (r"src/benchmark\.py task=training", "tests/benchmarks/test_tasks.py::test_training"),
    (r"src/benchmark\.py task=evaluation", "tests/benchmarks/test_tasks.py::test_evaluation"),
    (r"src/benchmark\.py task=memory", "tests/benchmarks/test_tasks.py::test_memory"),
    (r"src/benchmark\.py task=scaling", "tests/benchmarks/test_tasks.py::test_scaling"),
    (r"src/benchmark\.py task=data", "tests/benchmarks/test_tasks.py::test_data"),
    (r"src/benchmark\.py task=targets", "tests/benchmarks/test_tasks.py::test_targets_and_other_runtimes"),
)  # fmt: skip


def on_the_way(command: Command) -> bool:
    return command.page in WAY and not command.needs and command.text.startswith("python src/")


def elsewhere(command: Command) -> str:
    """The test that runs commands of this kind; the first kind that fits counts."""
    if command.page in FOLLOWED:
        return FOLLOWED[command.page]
    return next((test for kind, test in ELSEWHERE if re.search(kind, command.text)), "")


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 50
    assert {"README.md", "docs/start.md", "docs/train.md", "docs/upsamplers.md", "data/README.md"} <= {
        command.page for command in COMMANDS
    }


@pytest.mark.parametrize("command", [command for command in COMMANDS if SCRIPTS.search(command.text)], ids=str)
def test_a_command_of_a_block_composes(command: Command) -> None:
    # A configuration that a search has made, or a file that the page has its reader write (tests/test_contributing.py).
    if "--config-dir" not in command.text and "sub_pixel" not in command.text:
        assert "???" not in composed(command.text), f"{command} leaves a mandatory value out"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.stem)
def test_commands_within_sentences_compose(page: Path) -> None:
    for text in inline(page):
        if "=..." not in text:
            assert "???" not in composed(text), f"{page}: {text} leaves a mandatory value out"


def test_records_compose() -> None:
    records = [command for page in RECORDS for command in commands(page)]
    assert len(records) > 20
    # One of each kind: names, seeds and folders tell nothing more.
    kinds = {re.sub(r"\S*(name|seed|run\.dir)=\S+", "", command.text): command for command in records}
    for command in kinds.values():
        if "$" not in command.text:
            composed(command.text)


def test_every_command_is_run_by_a_test_or_marked() -> None:
    loose = [str(c) for c in COMMANDS if not c.needs and not on_the_way(c) and not elsewhere(c)]
    assert not loose, f"mark these with what they need, or name the test that runs them in ELSEWHERE: {loose}"


@pytest.mark.parametrize("test", sorted({*FOLLOWED.values(), *(test for _, test in ELSEWHERE)}))
def test_the_tests_that_run_them_exist(test: str) -> None:
    file, _, name = test.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"def {name}(" in text if name else text


def test_data_of_others_are_marked() -> None:
    """What wants a data set that is not embedded says so, wherever it stands in a block."""
    for command in COMMANDS:
        if re.search(r"data=(?!scenes)\w+|experiment=", command.text) and command.page not in FOLLOWED:
            assert command.needs, f"{command}: mark it, e.g. '# needs data'"


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"(?:^ {4}|^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{page}: make {target}"


def test_extras_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        for names in re.findall(r"pip install -e \"?\.\[([\w,]+)\]", page.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= set(extras), f"{page}: {names}"


def test_looking_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    looking = [c.text for c in COMMANDS if re.search(r"--help|--cfg", c.text) and "--config-dir" not in c.text]
    assert looking
    for text in looking:
        _, script, *words = shlex.split(text)
        done = call(Path(script).name, *words).check()
        assert "upsample" in done.out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_way_through(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of three pages in their order, each once: what one leaves the next can use."""
    monkeypatch.chdir(tmp_path)
    way = dict.fromkeys(c.text for page in WAY for c in COMMANDS if c.page == page and on_the_way(c))
    for text in way:
        _, script, *words = shlex.split(text)
        small = SMALL.get(script, ())
        if script == "src/train.py":
            left_out = ("backbone=", "upsample.") if "upsample=none" in words else ("backbone=",)
            small = (*(word for word in TINY if not word.startswith(left_out)), f"paths.data_dir={data_dir}")
        if "compare=" in text:  # it evaluates nothing, and takes no size
            small = ()
        call(Path(script).name, *words, *small).check()
    run = tmp_path / "outputs/start/jpu"
    for name in re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/start.md").read_text(), flags=re.MULTILINE):
        for file in re.findall(r"`([^`]+)`", name):
            if file != "previous.ckpt":  # from the second checkpoint on
                where = run / "checkpoints" if file == "last.ckpt" else run
                assert (where / file).exists(), file
    assert (tmp_path / "outputs/page.png").is_file()
    assert (tmp_path / "outputs/report/report.tex").is_file()


@pytest.mark.parametrize("page", ["docs/concepts.md"])
def test_python_of_the_pages_runs(page: str) -> None:
    found = [lines for language, _, lines in blocks((ROOT / page).read_text(encoding="utf-8")) if language == "python"]
    assert found
    for lines in found:
        exec(compile("\n".join(lines), page, "exec"), {})
