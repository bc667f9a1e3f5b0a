import pytest

from fastfcn.data.samplers import EvalSampler, TrainSampler


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_global_batches_do_not_depend_on_the_number_of_processes(world_size: int) -> None:
    samplers = [TrainSampler(23, batch_size=4, seed=1, rank=r, world_size=world_size) for r in range(world_size)]
    shares = []
    for sampler in samplers:
        sampler.set_epoch(3)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == 20 // world_size
    single = TrainSampler(23, batch_size=4, seed=1)
    single.set_epoch(3)
    local = 4 // world_size
    for number, expected in enumerate(_four(single)):
        batch = [item for share in shares for item in share[number * local : (number + 1) * local]]
        assert set(batch) == set(expected)


def _four(sampler: TrainSampler) -> list[tuple[tuple[int, int], ...]]:
    items = list(sampler)
    return [tuple(items[i : i + 4]) for i in range(0, len(items), 4)]


@pytest.mark.parametrize(("length", "world_size"), [(7, 1), (7, 2), (7, 3), (4, 4)])
def test_every_image_is_evaluated_by_exactly_one_process(length: int, world_size: int) -> None:
    samplers = [EvalSampler(length, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(index for sampler in samplers for index in sampler) == list(range(length))
    assert all(list(sampler) == sorted(sampler) and len(list(sampler)) == len(sampler) for sampler in samplers)
