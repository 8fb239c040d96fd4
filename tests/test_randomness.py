from __future__ import annotations

import torch

from fm_al.randomness import generator_for, global_generator_of


def test_generators_depend_on_seed_purpose_and_round_and_on_nothing_else() -> None:
    def draws(*derived) -> list[int]:
        return torch.randint(2**62, (3,), generator=generator_for(*derived)).tolist()

    first = draws(0, "query", 1)
    torch.rand(5)
    assert draws(0, "query", 1) == first
    assert first == [317731012589896270, 3857475234573708035, 3771626138285303808]
    others = [draws(1, "query", 1), draws(0, "subset", 1), draws(0, "query", 2)]
    assert len({tuple(drawn) for drawn in [first, *others]}) == 4


def test_the_global_generator_is_lent_and_given_back() -> None:
    before = torch.get_rng_state()
    lent = []
    for _ in range(2):
        with global_generator_of(generator_for(0, "dropout"), torch.device("cpu")):
            lent.append(torch.rand(3))
    assert torch.equal(*lent)
    assert torch.equal(before, torch.get_rng_state())
    generator = generator_for(0, "dropout")
    for _ in range(2):
        with global_generator_of(generator, torch.device("cpu")):
            lent.append(torch.rand(3))
    assert not torch.equal(lent[2], lent[3]), "the generator has moved on"
