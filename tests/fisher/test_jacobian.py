"""Gradients of whole batches equal those of plain autograd, image by image and class by class."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from fm_al.backbones.resnet import ResNet
from fm_al.errors import RunError
from fm_al.fisher.factors import fisher_factors
from fm_al.fisher.jacobian import MaskedGradients, diagonal_fisher
from fm_al.fisher.layers import Masked, layers
from fm_al.fisher.weight_gradients import Grouped
from fm_al.randomness import global_generator_of
from tests import oracle


@pytest.fixture(params=["entries", "product", "grouped"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight's gradients by this way, where it can be; and for but one of them the folded
    norms' through those of the convolutions."""

    def fits(module: nn.Module, output: Tensor) -> bool:
        return isinstance(module, nn.Conv2d) and module.groups == 1 and request.param == "grouped"

    def chosen(_: Masked, module: nn.Module, output: Tensor) -> str:
        return request.param if fits(module, output) or request.param != "grouped" else "product"

    if request.param != "entries":
        monkeypatch.setattr("fm_al.fisher.layers.BY_WEIGHT_POSITIONS", 2)
    monkeypatch.setattr(Grouped, "fits", fits)
    monkeypatch.setattr(Masked, "_cheapest", chosen)


class Residual(nn.Module):
    """body(x) + x, added in place."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.body(inputs)
        outputs += inputs
        return outputs


class ReadTwice(nn.Module):
    """norm(conv(x)) + conv(x)."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.conv(inputs)
        return self.norm(outputs) + outputs


class Tokens(nn.Module):
    """Images (n, C, H, W) as (n, H W, C)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(2).transpose(1, 2)


def network(*modules: nn.Module, images: Tensor, classes: int = 3, seed: int = 0) -> nn.Module:
    """The modules and a last layer, with random parameters and running statistics, in float64."""
    body = nn.Sequential(*modules, nn.Flatten()).double().eval()
    with torch.no_grad():
        features = body(images).shape[1]
    model = nn.Sequential(body, nn.Linear(features, classes)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return model


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_positions(model: nn.Module, share: float, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.rand(parameter.numel(), generator=generator) < share).nonzero()[:, 0]
        for name, parameter in model.named_parameters()
    }


def flat_jacobian(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """(N, C, entries) by parameter."""
    gradients = oracle.jacobian(model, images)
    return {name: torch.from_numpy(values).flatten(2) for name, values in gradients.items()}


def assert_equal_the_oracle(
    model: nn.Module,
    images: Tensor,
    positions: dict[str, Tensor],
    cotangents: Tensor | None = None,
    memory_budget: int | None = None,
) -> None:
    expected = flat_jacobian(model, images)
    if cotangents is None:
        with torch.no_grad():
            cotangents = fisher_factors(model(images))
    fisher = diagonal_fisher(model, [(images, cotangents)], memory_budget)
    assert fisher.keys() == expected.keys()
    for name, parameter in model.named_parameters():
        squares = (cotangents @ expected[name]).square().sum(dim=(0, 1)).view_as(parameter)
        torch.testing.assert_close(fisher[name], squares)
    masked = torch.cat([expected[name][:, :, chosen] for name, chosen in positions.items()], dim=2)
    gradients = MaskedGradients(model, positions, memory_budget)
    assert gradients.size == masked.shape[2]
    torch.testing.assert_close(gradients(images, cotangents), cotangents @ masked)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(4, 6, 3),
    "no bias": lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False),
    "1 x 1": lambda: nn.Conv2d(4, 6, 1, stride=2),
    "stride": lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(0, 2)),
    "dilation": lambda: nn.Conv2d(4, 6, (2, 3), dilation=(3, 2), padding=3),
    "groups": lambda: nn.Conv2d(4, 6, 3, groups=2, stride=2),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1),
    "padding same": lambda: nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(1, 2)),
    "padding valid": lambda: nn.Conv2d(4, 6, 3, padding="valid"),
    "padding reflect": lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"),
    "padding circular": lambda: nn.Conv2d(4, 6, 4, padding="same", padding_mode="circular"),
    "padding replicate": lambda: nn.Conv2d(4, 6, 3, padding=2, padding_mode="replicate"),
    "batch norm": lambda: nn.BatchNorm2d(4, eps=0.1),
    "batch norm without parameters": lambda: nn.BatchNorm2d(4, affine=False),
    "layer norm of images": lambda: nn.LayerNorm((4, 6, 7), eps=0.1),
    "layer norm of rows": lambda: nn.LayerNorm(7),
    "layer norm of two axes": lambda: nn.LayerNorm((6, 7), bias=False),
    "layer norm without parameters": lambda: nn.LayerNorm(7, elementwise_affine=False),
    "linear of rows": lambda: nn.Linear(7, 5),
    "linear of tokens": lambda: nn.Sequential(Tokens(), nn.Linear(4, 5, bias=False)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(168, 5)),
    "folded": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)),
    "folded, no bias": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6, eps=0.1), nn.ReLU(inplace=True)
    ),
    "folded, groups": lambda: nn.Sequential(nn.Conv2d(4, 6, 2, groups=2), nn.BatchNorm2d(6)),
    "folded, without parameters": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, dilation=2), nn.BatchNorm2d(6, affine=False)
    ),
    "folded, few positions": lambda: nn.Sequential(nn.Conv2d(4, 6, (5, 6)), nn.BatchNorm2d(6)),
    "folded, one position": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)
    ),
    "folded, padding circular": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"), nn.BatchNorm2d(6)
    ),
    "not folded, read twice": lambda: ReadTwice(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
    "block": lambda: BasicBlock(4, 4),
    "block with a projection": lambda: BasicBlock(
        4, 6, 2, nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6))
    ),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("share", [1.0, 0.1])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_and_option(layer: str, share: float) -> None:
    images = random_images(3, 4, 6, 7)
    model = network(nn.ReLU(), LAYERS[layer](), nn.ReLU(), images=images)
    assert_equal_the_oracle(model, images, random_positions(model, share))


@pytest.mark.parametrize("classes", range(2, 21))
def test_every_number_of_classes(classes: int) -> None:
    images = random_images(4, 2, 5, 5)
    model = network(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), images=images, classes=classes)
    assert_equal_the_oracle(model, images, random_positions(model, 0.3))
    assert_equal_the_oracle(
        model, images, random_positions(model, 0.3), cotangents_of_one(4, classes)
    )


def cotangents_of_one(images: int, classes: int) -> Tensor:
    """The cotangents of the plain Jacobian."""
    return torch.eye(classes, dtype=torch.float64).expand(images, -1, -1)


@st.composite
def bodies(draw: st.DrawFn) -> list[nn.Module]:
    """A few layers that may follow one another, on images (n, 3, 6, 6)."""
    channels, side = 3, 6
    modules: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "batch", "layer", "linear", "residual", "block"]))
        bias = draw(st.booleans())
        if kind == "conv":
            size, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
            stride, padding = draw(st.integers(1, 2)), draw(st.integers(size - 1, size))
            groups = channels if draw(st.booleans()) else 1
            out = channels * draw(st.integers(1, 2))
            conv = nn.Conv2d(channels, out, size, stride, padding, dilation, groups, bias)
            side = (side + 2 * padding - dilation * (size - 1) - 1) // stride + 1
            channels = out
            modules.append(conv)
            if draw(st.booleans()):
                modules.append(nn.BatchNorm2d(channels, affine=draw(st.booleans())))
        elif kind == "batch":
            modules.append(nn.BatchNorm2d(channels))
        elif kind == "layer":
            shape = draw(st.sampled_from([(side,), (side, side), (channels, side, side)]))
            modules.append(nn.LayerNorm(shape, elementwise_affine=True, bias=bias))
        elif kind == "linear":
            width, side = side, draw(st.integers(3, 6))
            modules += [nn.Linear(width, side, bias=bias), nn.AdaptiveAvgPool2d(side)]
        elif kind == "residual":
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
            modules.append(Residual(nn.Sequential(conv, nn.BatchNorm2d(channels))))
        else:
            modules.append(BasicBlock(channels, channels))
        if kind != "block" and draw(st.booleans()):
            modules.append(nn.ReLU(inplace=draw(st.booleans())))
    return modules


@settings(max_examples=100, deadline=None)
@given(
    modules=bodies(),
    pool=st.integers(1, 4),
    classes=st.integers(2, 5),
    share=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    channels_last=st.booleans(),
    memory_budget=st.sampled_from([1, 10**5, 2**29]),
    seed=st.integers(0, 2**32),
)
def test_random_networks(
    modules: list[nn.Module],
    pool: int,
    classes: int,
    share: float,
    channels_last: bool,
    memory_budget: int,
    seed: int,
) -> None:
    images = random_images(pool, 3, 6, 6, seed=seed)
    model = network(*modules, images=images, classes=classes, seed=seed)
    if channels_last:
        model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    positions = random_positions(model, share, seed)
    # A layer norm in front of few features divides by next to nothing: cotangents of order one do.
    cotangents = random_images(pool, classes - 1, classes, seed=seed + 1)
    assert_equal_the_oracle(model, images, positions, cotangents, memory_budget)


def small_network() -> tuple[nn.Module, Tensor, Tensor]:
    images = random_images(5, 3, 8, 8)
    modules = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3)]
    return network(*modules, images=images), images, random_images(5, 2, 3, seed=1)


def test_one_image_cut_out_of_a_channels_last_batch() -> None:
    images = random_images(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    model = network(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), images=images)
    first = nn.Sequential(nn.BatchNorm2d(3), model).double().eval()
    assert_equal_the_oracle(first, images[1][None], random_positions(first, 1.0))


def test_columns_are_in_the_order_of_the_positions() -> None:
    model, images, cotangents = small_network()
    positions = random_positions(model, 0.2)
    backwards = dict(reversed(positions.items()))
    assert_equal_the_oracle(model, images, backwards, cotangents)
    widths = [len(chosen) for chosen in positions.values()]
    parts = MaskedGradients(model, positions)(images, cotangents).split(widths, dim=2)
    reversed_ = MaskedGradients(model, backwards)(images, cotangents)
    torch.testing.assert_close(reversed_, torch.cat(parts[::-1], dim=2))


def test_no_positions_and_no_images() -> None:
    model, images, cotangents = small_network()
    assert MaskedGradients(model, {})(images, cotangents).shape == (5, 2, 0)
    nothing = {name: torch.empty(0, dtype=torch.int64) for name, _ in model.named_parameters()}
    assert MaskedGradients(model, nothing)(images, cotangents).shape == (5, 2, 0)
    positions = random_positions(model, 0.5)
    gradients = MaskedGradients(model, positions)
    assert gradients(images[:0], cotangents[:0]).shape == (0, 2, gradients.size)
    assert all(
        not squares.any()
        for squares in diagonal_fisher(model, [(images[:0], cotangents[:0])]).values()
    )


def test_batches_and_budgets_change_nothing_but_rounding() -> None:
    model, images, cotangents = small_network()
    gradients = MaskedGradients(model, random_positions(model, 0.3))
    whole = gradients(images, cotangents)
    fisher = diagonal_fisher(model, [(images, cotangents)])
    parts = [gradients(images[i : i + 2], cotangents[i : i + 2]) for i in range(0, 5, 2)]
    torch.testing.assert_close(torch.cat(parts), whole)
    one = [diagonal_fisher(model, [(images[i : i + 1], cotangents[i : i + 1])]) for i in range(5)]
    for name, squares in fisher.items():
        torch.testing.assert_close(sum(part[name] for part in one), squares)


def test_a_smaller_budget_means_smaller_batches() -> None:
    model, images, cotangents = small_network()
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    positions = random_positions(model, 0.3)
    for budget in (2**29, 1):
        sizes.clear()
        MaskedGradients(model, positions, budget)(images, cotangents)
        diagonal_fisher(model, [(images, cotangents)], budget)
        assert max(sizes) == (5 if budget > 1 else 1)


@pytest.mark.parametrize("share", [0.002, 0.05, 1.0])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_are_float32_and_exact_on_the_paper_s_network(
    layout: torch.memory_format, share: float
) -> None:
    with global_generator_of(torch.Generator().manual_seed(0), torch.device("cpu")):
        model = ResNet(3, 4, (32, 32), "basic", 16, [1, 1], head_bias=False).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3, generator=torch.Generator().manual_seed(1))
            nn.init.uniform_(module.running_var, 0.5, 2, torch.Generator().manual_seed(2))
            nn.init.normal_(module.running_mean, generator=torch.Generator().manual_seed(3))
    model.to(memory_format=layout)
    images = random_images(2, 3, 32, 32).float().contiguous(memory_format=layout)
    cotangents = fisher_factors(model(images).detach())
    positions = random_positions(model, share)
    gradients = MaskedGradients(model, positions)(images, cotangents)
    expected = flat_jacobian(model, images)
    masked = cotangents @ torch.cat(
        [expected[name][:, :, positions[name]] for name in expected], dim=2
    )
    assert gradients.dtype == torch.float32
    torch.testing.assert_close(gradients.double(), masked, rtol=1e-4, atol=1e-6 * masked.max())
    for name, squares in diagonal_fisher(model, [(images, cotangents)]).items():
        exact = (cotangents @ expected[name]).square().sum(dim=(0, 1)).view_as(squares)
        assert squares.dtype == torch.float64
        torch.testing.assert_close(squares, exact, rtol=1e-4, atol=1e-6 * float(exact.max()))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_in_an_image_stays_in_it(value: float) -> None:
    model, images, cotangents = small_network()
    gradients = MaskedGradients(model, random_positions(model, 1.0))
    expected = gradients(images, cotangents)
    images[2, :, 4, 4] = value
    spoilt = gradients(images, cotangents)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(spoilt[others], expected[others])
    assert not spoilt[2].isfinite().all()
    fisher = diagonal_fisher(model, [(images, cotangents)])
    assert not all(squares.isfinite().all() for squares in fisher.values())


def test_a_network_that_is_trained_on_is_followed() -> None:
    model, images, cotangents = small_network()
    positions = random_positions(model, 0.5)
    gradients = MaskedGradients(model, positions)
    gradients(images, cotangents)
    with torch.no_grad():
        model[0][1].weight *= 2
        model[0][1].running_var *= 3
        model[0][0].weight += 0.1
    torch.testing.assert_close(
        gradients(images, cotangents), MaskedGradients(model, positions)(images, cotangents)
    )


def test_autocast_and_no_grad_change_nothing() -> None:
    model, images, cotangents = small_network()
    model, images, cotangents = model.float(), images.float(), cotangents.float()
    gradients = MaskedGradients(model, random_positions(model, 0.3))
    expected, fisher = gradients(images, cotangents), diagonal_fisher(model, [(images, cotangents)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gradients(images, cotangents), expected)
        inside = diagonal_fisher(model, [(images, cotangents)])
    assert all(torch.equal(inside[name], squares) for name, squares in fisher.items())


def test_the_backward_pass_ends_at_the_earliest_layer_with_positions() -> None:
    model, images, cotangents = small_network()
    reached: list[str] = []
    for name, module in model[0].named_children():
        if name in ("0", "1", "3"):
            module.register_forward_hook(
                lambda _, inputs, output, name=name: (
                    reached.append(name) if output.requires_grad else None
                )
            )
    MaskedGradients(model, {"0.3.bias": torch.tensor([1])})(images[:1], cotangents[:1])
    assert set(reached) == {"3"}


def test_layers_that_the_logits_do_not_depend_on_have_no_gradient() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.aside, self.unused = (nn.Linear(3, 2) for _ in range(3))

        def forward(self, images: Tensor) -> Tensor:
            self.aside(images)
            return self.used(images)

    model = Partly().double().eval()
    images = random_images(4, 3)
    assert_equal_the_oracle(model, images, random_positions(model, 1.0))
    alone = {"unused.weight": torch.arange(6), "aside.bias": torch.arange(2)}
    assert_equal_the_oracle(model, images, alone)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(self.layer(images))


class Aside(Twice):
    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(images, self.layer.weight)


class Mixed(Twice):
    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.view(-1, 3)).view(len(images), -1)


class Named(Twice):
    def forward(self, images: Tensor) -> Tensor:
        return self.layer(input=images)


def test_inputs_by_keyword() -> None:
    model = Named().double().eval()
    assert_equal_the_oracle(model, random_images(4, 3), random_positions(model, 1.0))


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Twice(), (2, 3), r"layer \(Linear\) is called more than once"),
        (Aside(), (2, 3), r"layer \(Linear\) has parameters that are used without calling it"),
        (Mixed(), (2, 4, 3), r"layer \(Linear\) is called on \(4, 3\) for a batch of 1;"),
    ],
)
def test_modules_used_otherwise_are_named(
    model: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    model, images = model.double().eval(), random_images(*shape)
    cotangents = torch.ones(2, 1, model(images).shape[1], dtype=torch.float64)
    with pytest.raises(RunError, match=message):
        diagonal_fisher(model, [(images, cotangents)])
    with pytest.raises(RunError, match=message):
        MaskedGradients(model, {"layer.weight": torch.tensor([0])})(images, cotangents)
    MaskedGradients(model, {})(images, cotangents)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


class OwnParameter(nn.Linear):
    """Not exactly nn.Linear."""


def rescaled() -> nn.Module:
    layer = nn.Linear(3, 3)
    layer.scale = nn.Parameter(torch.ones(1))
    return layer


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.PReLU()), r"0 \(PReLU\) has parameters \(weight\)"),
        (nn.Sequential(nn.Conv1d(1, 1, 1)), r"0 \(Conv1d\)"),
        (nn.Sequential(nn.GroupNorm(1, 2)), r"0 \(GroupNorm\) .* use Linear, Conv2d, BatchNorm2d"),
        (nn.Sequential(OwnParameter(3, 3)), r"0 \(OwnParameter\)"),
        (rescaled(), r"the network \(Linear\) has parameters \(weight, bias, scale\)"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), r"\(ParametrizedLinear\)"),
        (tied(), r"1 \(Linear\) and 0 \(Linear\) share a parameter"),
        (nn.BatchNorm2d(3, track_running_stats=False), r"\(BatchNorm2d\) has no running stat"),
        (nn.BatchNorm2d(3, affine=False, track_running_stats=False), r"has no running stat"),
    ],
)
def test_networks_whose_gradients_are_not_known_are_refused(model: nn.Module, message: str) -> None:
    model.eval()
    with pytest.raises(RunError, match=message):
        layers(model)
    with pytest.raises(RunError, match=message):
        diagonal_fisher(model, [(torch.zeros(1, 3), torch.zeros(1, 1, 3))])
    with pytest.raises(RunError, match=message):
        MaskedGradients(model, {})


def test_training_mode_is_refused() -> None:
    model, _, _ = small_network()
    model[0][1].train()
    with pytest.raises(RunError, match=r"0\.1 \(BatchNorm2d\) is in training mode"):
        layers(model)


def test_layers_are_named_in_order() -> None:
    model, _, _ = small_network()
    assert list(layers(model)) == ["0.0", "0.1", "0.3", "1"]
    assert list(layers(nn.Linear(2, 2).eval())) == [""]


def test_a_layer_alone_is_a_network() -> None:
    model = nn.Linear(3, 2).double().eval()
    assert_equal_the_oracle(model, random_images(4, 3), random_positions(model, 1.0))


class Failing(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        raise ValueError("no luck")


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(fails: bool) -> None:
    model, images, cotangents = small_network()
    frozen = model[0][1].weight.requires_grad_(False)
    model[1].weight.grad = torch.ones_like(model[1].weight)
    gradients = MaskedGradients(model, random_positions(model, 0.5))
    if fails:
        model.append(Failing().eval())
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    for compute in (gradients, lambda *given: diagonal_fisher(model, [given])):
        if fails:
            with pytest.raises(ValueError, match="no luck"):
                compute(images, cotangents)
        else:
            compute(images, cotangents)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [p for p in model.parameters() if not p.requires_grad] == [frozen]
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert model[0][0].weight.grad is None
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module.training for module in model.modules())
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), random_state)
    assert tf32 == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


@pytest.mark.parametrize(
    ("name", "positions"),
    [("0.weights", [0]), ("1.weight", [-1]), ("1.weight", [10**6]), ("1.weight", [2, 1])],
)
def test_positions_that_are_not_there_are_an_error(name: str, positions: list[int]) -> None:
    model, _, _ = small_network()
    with pytest.raises(ValueError, match=rf"positions of {name}: "):
        MaskedGradients(model, {name: torch.tensor(positions)})


def test_a_hook_that_changes_a_layer_s_output_is_part_of_the_network() -> None:
    model, images, cotangents = small_network()
    model[0][0].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    assert_equal_the_oracle(model, images, random_positions(model, 0.3), cotangents)
