from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor, nn

from fm_al.backbones.base import Backbone
from fm_al.config import build
from fm_al.data.images import Images
from fm_al.data.pool import Pool
from fm_al.errors import ConfigError, RunError, memory_errors_named
from fm_al.evaluation import Evaluation, evaluate
from fm_al.randomness import generator_for
from fm_al.training import (
    Trainer,
    class_balanced_weights,
    load_network,
    make_optimizer,
    recompute_batch_norm,
    save_network,
)


class Small(Backbone):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, classes)

    def embed(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(images)).relu().mean((2, 3))


def images_of(n: int = 30, classes: int = 3) -> tuple[Images, Tensor]:
    """Images of a brightness that tells the class, and their classes."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(n) % classes
    noise = torch.randint(0, 40, (n, 1, 6, 6), generator=generator)
    images = (noise + 80 * targets[:, None, None, None]).to(torch.uint8)
    return Images(images, torch.tensor([0.4]), torch.tensor([0.3])), targets


def pool_of(n: int = 30, labelled: int = 20, classes: int = 3) -> Pool:
    pool = Pool(*images_of(n, classes), classes)
    pool.label(torch.arange(labelled))
    return pool


def trainer(**options) -> Trainer:
    defaults = {
        "optimizer": functools.partial(torch.optim.Adam, lr=0.02),
        "batch_size": 8,
        "max_epochs": 5,
    }
    return Trainer(**{**defaults, **options})


def fitted(trainer: Trainer, pool: Pool | None = None, seed: int = 0, round_index: int = 0):
    generator = torch.Generator().manual_seed(seed)
    network = trainer.network(Small, None, generator)
    epochs: list[float] = []
    fit = trainer.fit(
        network,
        pool or pool_of(),
        None,
        seed,
        round_index,
        lambda _, accuracy: epochs.append(accuracy),
    )
    assert len(epochs) == fit.epochs
    assert epochs[-1] == fit.train_accuracy
    return network, fit


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_it_learns_and_stops_at_the_training_accuracy() -> None:
    _, fit = fitted(trainer(max_epochs=200, stop_at_train_accuracy=0.95))
    assert fit.train_accuracy >= 0.95
    assert fit.epochs < 200
    assert not fit.epoch_cap_hit


def test_the_cap_on_epochs_is_reported_when_hit() -> None:
    _, fit = fitted(trainer(max_epochs=1, stop_at_train_accuracy=1.0))
    assert fit.epoch_cap_hit
    _, fit = fitted(trainer(max_epochs=1))
    assert not fit.epoch_cap_hit, "fixed epochs are no cap"


def test_the_same_seed_gives_the_same_network_whatever_the_global_generator() -> None:
    first, _ = fitted(trainer())
    torch.rand(7)
    state = torch.get_rng_state()
    again, _ = fitted(trainer())
    assert same(first, again)
    assert torch.equal(state, torch.get_rng_state())
    assert not same(first, fitted(trainer(), seed=1)[0])
    assert not same(first, fitted(trainer(), round_index=1)[0]), "another round, another order"


def test_only_labelled_images_are_learnt_from() -> None:
    images, targets = images_of()
    images.stored[20:] = 255
    pool = Pool(images, targets, classes=3)
    pool.label(torch.arange(20))
    assert same(fitted(trainer())[0], fitted(trainer(), pool)[0])


def test_gradients_are_clamped_by_value() -> None:
    sgd = functools.partial(torch.optim.SGD, lr=1.0)
    options = {"optimizer": sgd, "batch_size": 32, "max_epochs": 1}
    before = trainer(**options).network(Small, None, torch.Generator().manual_seed(0))
    after, _ = fitted(trainer(**options, clamp_gradients=1e-3))
    steps = [
        (a - b).abs().max().item()
        for a, b in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert max(steps) == pytest.approx(1e-3, rel=1e-3)


def test_a_single_image_left_over_joins_a_batch() -> None:
    """Batch norm over one value has no variance and torch refuses it."""

    class Flat(Small):
        def embed(self, images: Tensor) -> Tensor:
            return self.norm(self.convolution(images).mean((2, 3), keepdim=True)).flatten(1)

    network = Flat()
    fit = trainer(batch_size=8).fit(network, pool_of(labelled=17), None, 0, 0, lambda *_: None)
    assert fit.epochs == 5


def test_the_cosine_schedule_ends_near_zero() -> None:
    rates: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    options = {"optimizer": functools.partial(Watched, lr=0.1), "schedule": "cosine"}
    fitted(trainer(**options, batch_size=10, max_epochs=4))
    steps = np.arange(8) / 8
    np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(np.pi * steps)), rtol=1e-6)


def test_class_balanced_loss_gives_every_class_the_same_part_in_an_epoch() -> None:
    """Also where most batches hold no image of the minority: 30 images against 1 and 1."""
    pool = pool_of(n=90, labelled=0)
    pool.label(torch.cat([torch.arange(0, 90, 3), torch.tensor([1, 2])]))
    parts: dict[bool, Tensor] = {}
    for balanced in (True, False):
        network = Small()
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)
        before = network.head.bias.detach().clone()
        options = {"optimizer": functools.partial(torch.optim.SGD, lr=1e-4), "batch_size": 4}
        trainer(**options, max_epochs=1, class_balanced=balanced).fit(
            network, pool, None, 0, 0, lambda *_: None
        )
        parts[balanced] = network.head.bias.detach() - before
    # With equal logits an image moves its class's bias by 2/3 and the others by -1/3.
    assert parts[True].abs().max() < 1e-3 * parts[False].abs().max() + 1e-7
    assert parts[False][0] > 0 > parts[False][1]
    weights = class_balanced_weights(torch.tensor([0, 0, 0, 1]), 3)
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0]))


class Watched(Pool):
    """Keeps the indices of the batches that are learnt from, and of those that follow the fit."""

    def __init__(self, n: int, labelled: Tensor, classes: int = 3) -> None:
        super().__init__(*images_of(n, classes), classes)
        self.label(labelled)
        self.learnt: list[Tensor] = []
        self.after: list[Tensor] = []

    def images(self, indices: Tensor) -> Tensor:
        self.after.append(indices)
        return super().images(indices)

    def training_images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        self.learnt.append(indices)
        return super().training_images(indices, generator)


# Of classes 0, 1 and 2, in a shuffled order: 30 images, 6 and 1.
UNEVEN = torch.cat([torch.arange(0, 90, 3), torch.arange(1, 18, 3), torch.tensor([2])])
UNEVEN = UNEVEN[torch.randperm(37, generator=torch.Generator().manual_seed(0))]


def test_uniform_sampling_takes_every_labelled_image_once_in_the_order_of_its_generator() -> None:
    pool = Watched(90, UNEVEN)
    fitted(trainer(max_epochs=3), pool, seed=4, round_index=2)
    order = generator_for(4, "batch order", 2)
    for epoch in range(3):
        expected = UNEVEN[torch.randperm(37, generator=order)]
        assert torch.equal(torch.cat(pool.learnt[epoch * 5 : epoch * 5 + 5]), expected)
    assert torch.equal(torch.cat(pool.after), UNEVEN[torch.randperm(37, generator=order)])


def test_balanced_sampling_draws_classes_equally_often_and_their_images_too() -> None:
    pool = Watched(90, UNEVEN)
    pool.classes = 5  # classes 3 and 4 have no labels
    fitted(trainer(max_epochs=300, sampling="balanced"), pool)
    assert [len(batch) for batch in pool.learnt[:5]] == [8, 8, 8, 8, 5]
    assert sum(map(len, pool.after)) == 37, "one more epoch for batch norm"
    draws = torch.cat(pool.learnt)
    times = torch.bincount(draws, minlength=90)
    assert set(times.nonzero().squeeze(1).tolist()) == set(UNEVEN.tolist())
    of_classes = torch.tensor([times[each::3].sum() for each in range(3)])
    assert ((of_classes - 3700).abs() < 4 * (11100 * 2 / 9) ** 0.5).all()
    for number, labelled in ((0, 30), (1, 6)):
        share = of_classes[number] / labelled
        own = times[number : 3 * labelled : 3]
        assert ((own - share).abs() < 4.5 * share**0.5).all()


def test_batch_norm_is_recomputed_over_the_mixture_that_was_learnt_from() -> None:
    times = torch.zeros(3)
    for seed in range(100):
        pool = Watched(90, UNEVEN)
        fitted(trainer(max_epochs=1, sampling="balanced"), pool, seed=seed)
        assert len(torch.cat(pool.after)) == 37
        times += torch.bincount(torch.cat(pool.after) % 3, minlength=3)
    assert ((times / 3700 - 1 / 3).abs() < 0.04).all()


def test_balanced_sampling_is_a_function_of_seed_and_round_and_joins_a_last_single_image() -> None:
    def learnt(**options: int) -> list[int]:
        pool = Watched(90, UNEVEN[:33])
        fitted(trainer(sampling="balanced"), pool, **options)
        assert [len(batch) for batch in pool.learnt[:4]] == [8, 8, 8, 9]
        return torch.cat(pool.learnt).tolist()

    first = learnt()
    torch.rand(5)
    assert learnt() == first
    assert learnt(seed=1) != first
    assert learnt(round_index=1) != first


def test_one_class_with_labels_is_sampled_uniformly_by_balanced_sampling() -> None:
    pool = Watched(90, torch.arange(0, 30, 3))
    fitted(trainer(max_epochs=20, sampling="balanced"), pool)
    times = torch.bincount(torch.cat(pool.learnt), minlength=90)
    assert int(times.sum()) == 200
    assert (times[0:30:3] > 5).all()


def test_with_balanced_sampling_the_training_accuracy_counts_the_draws() -> None:
    """The network always answers class 0: right for 30 of 37 images, and for a third of draws."""
    still = {"optimizer": functools.partial(torch.optim.SGD, lr=1e-12), "max_epochs": 60}
    accuracies: list[float] = []
    network = Small()
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    pool = Watched(90, UNEVEN)
    network.head.bias.data[0] = 9
    stops = trainer(**still, sampling="balanced", stop_at_train_accuracy=0.8)
    fit = stops.fit(network, pool, None, 0, 0, lambda _, accuracy: accuracies.append(accuracy))
    assert np.mean(accuracies) == pytest.approx(1 / 3, abs=0.05)
    assert fit.epoch_cap_hit
    uniform = trainer(**still, stop_at_train_accuracy=0.8)
    fit = uniform.fit(network, pool, None, 0, 0, lambda *_: None)
    assert (fit.epochs, fit.train_accuracy) == (1, 30 / 37)


def test_balanced_sampling_and_balanced_weights_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"sampling=balanced: .* trainer\.class_balanced=true"):
        trainer(sampling="balanced", class_balanced=True)


def test_a_loss_that_is_not_finite_says_where_and_what_to_try() -> None:
    bad = trainer(optimizer=functools.partial(torch.optim.SGD, lr=1e30), max_epochs=50)
    with pytest.raises(RunError, match=r"round 3, epoch \d+: .* trainer.optimizer.lr"):
        fitted(bad, round_index=2)


def test_reset_all_builds_anew_weights_keeps_batch_norm_and_none_goes_on() -> None:
    old, _ = fitted(trainer())
    generator = torch.Generator().manual_seed(3)
    fresh = trainer(reset="all").network(Small, None, generator.clone_state())
    assert same(trainer(reset="all").network(Small, old, generator.clone_state()), fresh)
    assert trainer(reset="none").network(Small, old, generator.clone_state()) is old
    kept = trainer(reset="weights").network(Small, old, generator.clone_state())
    assert same(kept.norm, old.norm)
    assert same(kept.convolution, fresh.convolution)
    assert same(kept.head, fresh.head)


def test_recomputed_batch_norm_is_that_of_the_labelled_images() -> None:
    network, _ = fitted(trainer(batch_size=32, max_epochs=1))
    pool = pool_of()
    outputs = network.convolution(pool.images(pool.labelled))
    torch.testing.assert_close(network.norm.running_mean, outputs.mean((0, 2, 3)))
    torch.testing.assert_close(network.norm.running_var, outputs.var((0, 2, 3)))
    assert network.norm.momentum == 0.1
    running, _ = fitted(trainer(batch_size=32, max_epochs=1, batch_norm="running"))
    assert not torch.allclose(running.norm.running_mean, outputs.mean((0, 2, 3)), atol=1e-3)


def test_recomputing_leaves_a_network_without_batch_norm_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).train()
    recompute_batch_norm(network, [torch.ones(2, 4)])
    assert network.training


OPTIMIZERS = [
    each
    for each in (getattr(torch.optim, name) for name in dir(torch.optim))
    if isinstance(each, type)
    and issubclass(each, torch.optim.Optimizer)
    # Of matrices alone, of sparse gradients, one that asks for a closure, and their base.
    and each.__name__ not in ("Muon", "SparseAdam", "LBFGS", "Optimizer")
]


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "foreach": True}])
def test_optimizers_take_torchs_steps_to_the_bit(kind: type, options: dict[str, float]) -> None:
    if kind.__name__ == "Rprop":
        options = {name: value for name, value in options.items() if name != "weight_decay"}
    make = functools.partial(kind, lr=0.01, **options)
    batch = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

    def stepped(optimizer_of) -> tuple[list[Tensor], dict]:
        generator = torch.Generator().manual_seed(1)
        weights = [nn.Parameter(torch.randn(n, 4, generator=generator)) for n in (5, 1)]
        optimizer = optimizer_of(weights)
        for _ in range(4):
            optimizer.zero_grad(set_to_none=True)
            sum(((batch @ each.T).cos() ** 2).sum() for each in weights).backward()
            assert optimizer.step() is None
        return weights, optimizer.state_dict()

    (ours, our_state), (theirs, their_state) = (
        stepped(functools.partial(make_optimizer, make)),
        stepped(make),
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert str(our_state) == str(their_state)
    assert not any(each.grad.requires_grad for each in ours)


def test_an_optimizer_of_the_users_own_is_left_as_it_is() -> None:
    class Own(torch.optim.SGD):
        pass

    weights = [nn.Parameter(torch.zeros(1))]
    assert type(make_optimizer(functools.partial(Own, lr=0.1), weights)) is Own
    assert type(make_optimizer(lambda parameters: Own(parameters, lr=0.1), weights)) is Own
    recording = functools.partial(torch.optim.SGD, lr=0.1, differentiable=True)
    assert type(make_optimizer(recording, weights)) is torch.optim.SGD


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"momentum": -1.0, "lr": 0.1}])
def test_an_optimizer_that_torch_refuses_is_a_configuration_error(options) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.optimizer: Invalid"):
        trainer(optimizer=functools.partial(torch.optim.SGD, **options))


def test_metrics_agree_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(4, (200,), generator=generator)
    predicted = torch.where(torch.rand(200, generator=generator) < 0.6, true, (true * 3) % 4)
    confusion = torch.from_numpy(sklearn.metrics.confusion_matrix(true, predicted, labels=range(4)))
    metrics = Evaluation(confusion, 0.0, 0.0, 0.0).metrics()
    assert metrics["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(true, predicted))
    assert metrics["balanced_accuracy"] == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(true, predicted)
    )
    assert metrics["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(true, predicted, average="macro")
    )
    recalls = sklearn.metrics.recall_score(true, predicted, average=None)
    assert metrics["per_class_accuracy"] == pytest.approx(recalls.tolist())


def test_a_class_that_the_test_set_lacks_counts_in_no_mean() -> None:
    confusion = torch.tensor([[8, 2, 0], [0, 0, 0], [0, 0, 5]])
    metrics = Evaluation(confusion, 0.0, 0.0, 0.0).metrics()
    assert metrics["per_class_accuracy"] == [0.8, None, 1.0]
    assert metrics["balanced_accuracy"] == pytest.approx(0.9)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_evaluation_counts_every_image_once_whatever_the_batch(batch_size: int) -> None:
    network, _ = fitted(trainer(max_epochs=1))
    network.train()
    images, targets = images_of()
    evaluation = evaluate(network, images, targets, 3, batch_size, None)
    logits = network.eval()(images.batch(torch.arange(30)))
    expected = sklearn.metrics.confusion_matrix(targets, logits.argmax(1), labels=range(3))
    np.testing.assert_array_equal(evaluation.confusion, expected)
    loss = nn.functional.cross_entropy(logits, targets).item()
    assert evaluation.loss == pytest.approx(loss, rel=1e-5)
    assert math.isfinite(evaluation.loss)


def test_a_network_is_saved_and_loaded_bit_for_bit(tmp_path) -> None:
    network, _ = fitted(trainer())
    save_network(network, tmp_path / "weights.pt")
    other = Small()
    load_network(other, tmp_path / "weights.pt")
    assert same(network, other)
    (tmp_path / "weights.pt").write_bytes(b"torn")
    with pytest.raises(RunError, match=r"weights.pt: can't be loaded"):
        load_network(other, tmp_path / "weights.pt")


def test_running_out_of_memory_says_in_which_stage_and_what_lowers_it() -> None:
    for error in (
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ):
        with (
            pytest.raises(RunError, match=r"out of memory while training: .*; lower batch"),
            memory_errors_named("training", "batch"),
        ):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_errors_named("training", "batch"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("name", ["paper", "standard"])
def test_presets_learn(name: str, compose) -> None:
    from omegaconf import OmegaConf

    preset = build(OmegaConf.to_container(compose(f"trainer={name}").trainer))
    _, fit = fitted(preset)
    assert fit.train_accuracy > 0.9
