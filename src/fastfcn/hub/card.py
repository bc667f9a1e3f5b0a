"""The model card: what the model is, what it was trained on and how, how good it is, and what it is not for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastfcn.hub.data_sets import KNOWN, DataSet
from fastfcn.hub.gathering import Source
from fastfcn.results import percent
from fastfcn.statistics import LEVEL
from fastfcn.types import UNKNOWN_DATA

#: Of the configuration, in this order; of a group all its values.
RECIPE = (
    "init_from", "new_classifier", "freeze", "backbone.weights", "trainer.max_epochs", "trainer.precision",
    "trainer.accumulate_grad_batches", "trainer.gradient_clip_val", "data.train_split", "data.batch_size",
    "data.base_size", "data.crop_size", "data.scale", "data.flip", "data.blur", "data.augmentations",
    "data.cat_max_ratio", "data.class_crops", "optim", "loss", "callbacks.average_weights.decay",
    "callbacks.stop_early.patience", "seed",
)  # fmt: skip

#: By the hub's names of metrics.
METRICS = {"mIoU": "mean_iou", "pixAcc": "accuracy"}


class Licences(NamedTuple):
    """What is allowed.

    Attributes:
        weights: Identifier of the weights' licence; None: not stated.
        data: Of the data, in words; None: not known.
    """

    weights: str | None
    data: str | None


def licences(source: Source, *, weights: str | None, data: str | None) -> Licences:
    """The licences that were given, or what is known of them."""
    known = _data_set(source)
    return Licences(weights or (known and known.weights_licence), data or (known and known.licence))


def write(source: Source, *, repo: str, sha256: str, weights_file: str, allowed: Licences) -> str:
    """The card, in Markdown, with the front matter that the hub reads.

    Args:
        source: What is known of the model.
        repo: ``user/name``.
        sha256: Of the file of weights.
        weights_file: Its name.
        allowed: The licences.
    """
    name = repo.partition("/")[2]
    facts = source.checkpoint.facts
    blocks = [
        f"---\n{_front_matter(source, name, allowed).strip()}\n---",
        f"# {name}",
        f"A semantic segmentation model of {facts.num_classes} classes: {_architecture(source)}. Written by "
        "FastFCN-Lightning, after [FastFCN](https://arxiv.org/abs/1903.11816).",
        *_use(source, repo),
        *_data(source, allowed),
        *_recipe(source),
        *_metrics(source),
        *_limits(source, allowed),
        *_origin(source, sha256, weights_file),
    ]
    return "\n\n".join(blocks) + "\n"


def public(value: object) -> str:
    """A value of a configuration as text, without the folders of the machine that it comes from."""
    # A text that is a path as a whole, or key=path, blanks and all.
    whole = re.fullmatch(r"([\w.+~@-]+=)?['\"]?(?:file:|~|/)[^\[\]{}]*?([^/'\"]+)/*['\"]?", str(value))
    if whole:
        return f"{whole[1] or ''}{whole[2]}"
    return re.sub(r"(?<![\w.:/])(?:~|/)[^\s,\]}'\"]*/([^\s,/\]}'\"]+)", r"\1", str(value))


def _front_matter(source: Source, name: str, allowed: Licences) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    data = _data_set(source)
    split, figures = _figures(source)
    title = data.title if data else source.checkpoint.facts.name
    tag = data.tag if data else source.checkpoint.facts.name
    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=tag,
            dataset_name=title,
            dataset_split=split,
            metric_type=METRICS[metric],
            metric_name=metric,
            metric_value=round(100 * value, 2),
            metric_args=None if interval is None else {"interval_95": [round(100 * end, 2) for end in interval]},
        )
        for metric, value, interval in figures
        if metric in METRICS
    ]
    return ModelCardData(
        library_name="fastfcn-lightning",
        pipeline_tag="image-segmentation",
        license=allowed.weights,
        tags=["semantic-segmentation", "fastfcn", *_parts(source).values()],
        datasets=[tag] if data else None,
        model_name=name if results else None,
        eval_results=results or None,
    ).to_yaml()


def _parts(source: Source) -> dict[str, str]:
    """What the model is made of, by group."""
    config = source.checkpoint.model_config
    parts = {group: str(config[group]["_target_"]).rsplit(".", 1)[-1] for group in ("head", "upsample", "backbone")}
    backbone = config["backbone"]
    parts["backbone"] = str(backbone.get("name") or f"{parts['backbone']}-{backbone.get('depth', '')}".rstrip("-"))
    return parts


def _architecture(source: Source) -> str:
    parts, backbone = _parts(source), source.checkpoint.model_config["backbone"]
    stem = f", stem {backbone['stem']}" if "stem" in backbone else ""
    return f"{parts['head']} behind {parts['upsample']} on {parts['backbone']}{stem}"


def _data_set(source: Source) -> DataSet | None:
    """The data set, if it is one of the known; a folder of somebody's own may bear any name."""
    target = str(source.checkpoint.data_config.get("dataset", {}).get("_target_", ""))
    if source.checkpoint.data_config:
        return KNOWN.get(target.split(".")[2]) if re.fullmatch(r"fastfcn\.data\.\w+\.\w+", target) else None
    return KNOWN.get(source.checkpoint.facts.name)


def _use(source: Source, repo: str) -> list[str]:
    code = (
        "```python\nimport fastfcn\n\n"
        f'model = fastfcn.load_model("hf://{repo}")  # evaluation mode, on the CPU\n'
        "out = model(image)  # (B, 3, H, W), RGB in 0..1 normalised by ImageNet's mean and deviation\n"
        "classes = out.logits.argmax(1)  # (B, H, W)\n```"
    )
    return ["## How to load it", code, f"`python src/eval.py ckpt_path=hf://{repo}` evaluates it; add `data=...`."]


def _data(source: Source, allowed: Licences) -> list[str]:
    facts, data = source.checkpoint.facts, _data_set(source)
    name = "not told by the checkpoint" if facts.name == UNKNOWN_DATA else data.title if data else facts.name
    home = f" ([page]({data.home}))" if data and data.home else ""
    licence = allowed.data or "not known here; ask who has the data"
    return [
        "## Data",
        f"{name}{home}, {facts.num_classes} classes. Licence: {licence}.",
        "Classes, in order: " + ", ".join(facts.class_names) + ".",
    ]


def _recipe(source: Source) -> list[str]:
    rows = list(_chosen(source.config))
    if not rows:
        return ["## Recipe", f"Not known: no run directory lies around `{public(source.given)}`."]
    table = ["| key | value |", "| --- | --- |", *(f"| `{key}` | {_cell(value)} |" for key, value in rows)]
    changed = [f"`{public(text)}`" for text in source.overrides if not text.startswith(("hydra.", "paths."))]
    asked = f"On the command line: {' '.join(changed)}." if changed else "No option was changed on the command line."
    epoch = f"The weights are of epoch {source.checkpoint.epoch + 1}."
    return ["## Recipe", "\n".join(table), f"{asked} {epoch}"]


def _chosen(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The recipe's keys with their values."""
    for key in RECIPE:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items() if not str(name).startswith("_"))
        elif value is not None and value != []:
            yield key, value


def _figures(source: Source) -> tuple[str | None, list[tuple[str, float, Sequence[float] | None]]]:
    """The split, and on it name, value and interval of each figure, fractions of 1."""
    if source.evaluation:
        rows: list[tuple[str, float, Sequence[float] | None]] = []
        for name, row in source.evaluation["figures"].items():
            if isinstance(row, Mapping):
                rows.append((name, row["value"], (row["low"], row["high"])))
            elif isinstance(row, int | float):
                rows.append((name, row, None))
        return str(source.evaluation["split"]), rows
    split = source.config.get("data", {}).get("split", "test")
    return split, [(name, value, None) for name, value in source.test.items() if isinstance(value, int | float)]


def _metrics(source: Source) -> list[str]:
    split, figures = _figures(source)
    if not figures:
        return ["## Metrics", "None were measured: `hub.evaluation=` gives the card an evaluation by `src/eval.py`."]
    rows = [
        f"| {name} | {percent(value)} | {' to '.join(map(percent, interval)) if interval else ''} |"
        for name, value, interval in figures
    ]
    table = "\n".join([f"| figure, % | | {LEVEL:.0%} interval |", "| --- | ---: | ---: |", *rows])
    if not source.evaluation:
        said = f"The test at the training's end, on {split}, protocol {source.protocol}; intervals were not measured."
        return ["## Metrics", said, table]
    about = source.evaluation
    images, protocol = len(about["images"]), about["inference"]["protocol"]
    left_out = len(about.get("skipped", ()))
    said = f"On {split} of {about['data']}, {images:,} images, protocol {protocol}."
    said += f" Left out, for they cannot be read: {left_out}." if left_out else ""
    note = (
        "Intervals: percentile bootstrap over images; they say what other images of this kind would give, not what "
        "another training would."
    )
    classes = [f"| {_cell(name)} | {percent(row['IoU'])} |" for name, row in about["classes"].items()]
    each = "\n".join(["| class | IoU, % |", "| --- | ---: |", *classes])
    return ["## Metrics", said, table, note, each]


def _limits(source: Source, allowed: Licences) -> list[str]:
    facts = source.checkpoint.facts
    lines = [
        f"- Every pixel gets one of the {facts.num_classes} classes above, also where none of them is to be seen.",
        "- The figures hold for images like those that they were measured on; nothing is known of others.",
        "- It is not made for decisions about people, nor where an error does harm.",
    ]
    if facts.name == "scenes":
        lines.append("- The training images are drawn by a program: of photographs it knows nothing.")
    if allowed.weights is None:
        lines.append("- No licence of the weights is stated; the data's terms above may restrict their use.")
    return ["## Limits", "\n".join(lines)]


def _origin(source: Source, sha256: str, weights_file: str) -> list[str]:
    git, packages = source.provenance.get("git") or {}, source.provenance.get("packages") or {}
    hardware = source.provenance.get("hardware") or {}
    devices = [gpu["name"] for gpu in hardware.get("gpus", [])] or ([hardware["cpu"]] if hardware.get("cpu") else [])
    changed = ", with changes that were not committed" if git.get("dirty") else ""
    rows = {
        "weights": f"`{weights_file}`, SHA-256 `{sha256}`",
        "commit of the code": f"`{git['commit']}`{changed}" if git.get("commit") else None,
        "started": source.provenance.get("started"),
        "hardware": ", ".join(devices) or None,
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items() if version) or None,
    }
    return ["## Where it comes from", "\n".join(f"- {name}: {text}" for name, text in rows.items() if text)]


def _cell(value: object) -> str:
    return public(value).replace("|", "\\|").replace("\n", " ")
