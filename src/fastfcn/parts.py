"""The parts of a model by the names that a configuration calls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from fastfcn.errors import UserError

#: Of the backbone, from the image on; ``backbone`` is all of them.
LEVELS = ("c2", "c3", "c4", "c5")
OF_THE_BACKBONE = ("stem", *LEVELS)

#: All of a model, in the order in which data flow through them.
PARTS = (*OF_THE_BACKBONE, "upsample", "head", "aux_head")


def written_out(names: Iterable[str], *, key: str) -> list[str]:
    """Names of parts with ``backbone`` written out, each once and in the order of `PARTS`.

    Args:
        names: As the user gave them.
        key: That they were given for.

    Raises:
        UserError: One is no part.
    """
    chosen: set[str] = set()
    for name in names:
        if name not in (*PARTS, "backbone"):
            raise UserError(
                f"{key} names {name!r}, which is no part of a model: choose from backbone, {', '.join(PARTS)}."
            )
        chosen.update(OF_THE_BACKBONE if name == "backbone" else (name,))
    return [part for part in PARTS if part in chosen]


def modules_of(model: nn.Module, parts: Iterable[str], *, key: str) -> dict[str, list[nn.Module]]:
    """The modules that parts consist of; empty for a part that the model does not have.

    Args:
        model: With the children ``backbone``, ``upsample``, ``head`` and ``aux_head``, which may be None.
        parts: Names out of `PARTS`.
        key: That they were given for.

    Raises:
        UserError: The backbone cannot be taken apart.
    """
    parts = list(parts)
    if set(OF_THE_BACKBONE) <= set(parts):  # whatever its inside is
        stages: Mapping[str, list[nn.Module]] = {
            **{level: [] for level in LEVELS},
            "stem": [model.get_submodule("backbone")],
        }
    else:
        stages = _stages(model, key) if set(parts) & set(OF_THE_BACKBONE) else {}
    others = {part: [child] if (child := getattr(model, part, None)) is not None else [] for part in PARTS[5:]}
    return {part: stages[part] if part in stages else others[part] for part in parts}


def parameters_of(model: nn.Module, *, key: str, whole: bool = False) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters of every part; those that belong to none of its modules are the stem's.

    Args:
        model: See `modules_of`.
        key: That needs them.
        whole: Let all of a backbone that cannot be taken apart be the stem's.

    Raises:
        UserError: The backbone cannot be taken apart.
    """
    backbone = model.get_submodule("backbone")
    stages = {} if whole and None in _ends(backbone).values() else _stages(model, key)
    found = {part: [] if part == "stem" else _trainable(modules) for part, modules in
             {**stages, **modules_of(model, PARTS[5:], key=key)}.items()}  # fmt: skip
    known = {id(parameter) for parameters in found.values() for parameter in parameters}
    found["stem"] = [parameter for parameter in _trainable([backbone]) if id(parameter) not in known]
    return found


def _trainable(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def _ends(backbone: nn.Module) -> dict[str, nn.Module | None]:
    """The module that makes each level; None where there is none of its own."""
    return {level: backbone.stage(level) if hasattr(backbone, "stage") else None for level in LEVELS}  # type: ignore[operator]


def _stages(model: nn.Module, key: str) -> dict[str, list[nn.Module]]:
    """The backbone's modules in their order, each with the first level that it is needed for."""
    backbone = model.get_submodule("backbone")
    ends = _ends(backbone)
    if missing := [level for level, module in ends.items() if module is None]:
        raise UserError(
            f"{key}: this backbone has no module of its own for {missing[0]}, and cannot be taken apart: name it as "
            "a whole, backbone, or choose a ResNet."
        )
    inside = backbone
    while len(children := list(inside.children())) == 1:  # timm's model within its frame
        inside = children[0]
    stages: dict[str, list[nn.Module]] = {part: [] for part in OF_THE_BACKBONE}
    begins = {id(module): level for level, module in ends.items()}
    # What stands between two levels, without being named as either, belongs to the later one.
    pending: list[nn.Module] = []
    seen_c2 = False
    for child in children:
        level = begins.get(id(child))
        if level is None:
            pending.append(child)
        else:
            stages["stem" if not seen_c2 else level] += pending
            stages[level].append(child)
            pending, seen_c2 = [], True
    stages["c5"] += pending
    return stages
