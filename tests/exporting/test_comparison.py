from __future__ import annotations

import torch

from fastfcn.exporting.comparison import compare_export

LOGITS = torch.tensor([[[4.0, 1.0, 0.0, 1.0]], [[0.0, 2.0, 1.0, 1.0]]])[None]  # (1, 2, 1, 4), the last is a tie


def test_values_decide_in_float32_and_classes_in_fewer_bits() -> None:
    off = LOGITS + 2**-8  # of which float32 rounds nothing
    assert not compare_export(off, LOGITS, precision="fp32").fine
    assert compare_export(off, LOGITS, precision="fp32").error == 2**-10
    assert compare_export(off, LOGITS, precision="fp16").fine


def test_classes_are_judged_by_the_logit_that_they_have() -> None:
    right, tie, wrong = (torch.tensor([[ids]]) for ids in ([0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 0, 0]))
    assert compare_export(right, LOGITS, precision="fp32") == (0.0, 1.0, True)
    assert compare_export(tie, LOGITS, precision="fp32") == (0.0, 0.75, True)
    assert compare_export(wrong, LOGITS, precision="fp32") == (0.25, 0.75, False)
    assert not compare_export(wrong, LOGITS, precision="int8").fine
    assert compare_export(wrong, LOGITS, precision="int8", least=0.7).fine


def test_nan_and_other_shapes_are_never_fine() -> None:
    assert not compare_export(LOGITS * torch.nan, LOGITS, precision="fp32").fine
    assert not compare_export(LOGITS[:, :, :, :3], LOGITS, precision="int8", least=0.0).fine
