"""Feature maps as colours, and what one map holds of another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastfcn.feature_maps import explained, linear_readout, principal_colours, touched
from fastfcn.models.layers import SeparableConv


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_colours_tell_regions_apart_and_do_not_mind_a_rotation_of_the_channels() -> None:
    region = torch.arange(8).expand(6, 8) // 4  # left and right
    features = noise(2, 5)[region].movedim(-1, 0) + 0.01 * noise(5, 6, 8)
    colours = principal_colours(features).astype(int)
    assert colours.shape == (6, 8, 3)
    assert np.ptp(colours[:, :4, 0]) < 40
    assert abs(colours[:, :4, 0].mean() - colours[:, 4:, 0].mean()) > 200
    rotation, _ = torch.linalg.qr(noise(5, 5, seed=1))
    rotated = principal_colours(torch.einsum("dc,chw->dhw", rotation, features)).astype(int)
    same, mirrored = np.abs(rotated - colours)[..., 0].max(), np.abs(255 - rotated - colours)[..., 0].max()
    assert min(same, mirrored) <= 1  # a component has no sign of its own


def test_maps_painted_alike_share_their_components() -> None:
    features = noise(2, 7, 4, 4)
    both = principal_colours(features)
    assert both.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(principal_colours(features[0], like=features), both[0])
    assert (principal_colours(features[0]) != both[0]).any()
    with pytest.raises(ValueError, match="7 channels cannot be painted like one of 6"):
        principal_colours(features, like=features[:, :6])


def test_a_map_of_two_channels_has_a_black_third_colour() -> None:
    assert (principal_colours(noise(2, 4, 4))[..., 2] == 0).all()


def test_readout_finds_a_linear_map_and_explains_nothing_of_noise() -> None:
    source = noise(4, 6, 9, 9)
    convolution = nn.Conv2d(6, 3, 1)
    target = convolution(source)
    other = noise(2, 6, 9, 9, seed=1)
    assert explained(linear_readout(source, target)(other), convolution(other)) > 0.999
    unrelated = noise(4, 3, 9, 9, seed=2)
    assert explained(linear_readout(source, unrelated)(other), noise(2, 3, 9, 9, seed=3)) < 0.05


def test_explained_counts_the_chosen_positions_alone() -> None:
    target = noise(3, 2, 4, 4)
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[::2, ::2] = True
    prediction = torch.where(known, target, 0.0)
    assert explained(prediction, target, positions=known) == 1
    assert explained(prediction, target, positions=~known) < 0.1
    assert 0 < explained(prediction, target) < 0.5
    mean = target.mean(dim=(0, 2, 3), keepdim=True).expand_as(target)
    assert explained(mean, target) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_touched_positions_of_a_dilated_convolution(dilation: int) -> None:
    found = touched(SeparableConv(2, 3, dilation=dilation, norm=nn.Identity()), (17, 19), (8, 9))
    rows, columns = torch.nonzero(found, as_tuple=True)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (8 + i * dilation, 9 + j * dilation) for i in (-1, 0, 1) for j in (-1, 0, 1)
    }


def test_touched_positions_in_one_dimension_end_at_the_border() -> None:
    convolution = nn.Conv1d(1, 1, 3, padding=2, dilation=2)
    assert touched(convolution, (6,), (0,)).tolist() == [True, False, True, False, False, False]
