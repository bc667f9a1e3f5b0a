from __future__ import annotations

import numpy as np
import pytest
import torch

from fastfcn.errors import UserError
from fastfcn.exporting.quantising import batches, fitted, spread


@pytest.mark.parametrize("size", [(64, 96), (33, 33), (10, 200)])
@pytest.mark.parametrize("image", [(64, 96), (7, 300), (500, 20), (1, 1)])
def test_an_image_covers_a_size_without_being_stretched(image: tuple[int, int], size: tuple[int, int]) -> None:
    rows = np.linspace(0, 255, image[0], dtype=np.uint8)[:, None, None]
    found = fitted(np.broadcast_to(rows, (*image, 3)), size)
    assert found.shape == (3, *size)
    assert found.dtype == torch.uint8
    assert torch.equal(found, found[:, :, :1].expand_as(found))  # columns stay alike
    if image == size:
        assert torch.equal(found[0, :, 0], torch.from_numpy(rows[:, 0, 0].copy()))


def test_the_middle_is_kept() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert int(fitted(image, (10, 10)).min()) == 200


def test_indices_are_spread_and_batches_full() -> None:
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 8) == [0, 1, 2]
    images = [torch.full((3, 1, 1), value) for value in (1, 2, 3)]
    first, last = batches(images, 2)
    assert first[:, 0, 0, 0].tolist() == [1, 2]
    assert last[:, 0, 0, 0].tolist() == [3, 3]
    with pytest.raises(UserError, match=r"choose data=\.\.\."):
        list(batches([], 2))
