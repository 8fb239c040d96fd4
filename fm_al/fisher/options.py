"""The options of selection by Fisher information. Each is declared, and has its default, here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from fm_al.fisher.factors import Weighting
from fm_al.fisher.mask import MaskKind

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
TwoOrMore = Annotated[int, Field(ge=2)]


@dataclass(frozen=True, kw_only=True)
class DesignOptions:
    """What BAIT and FisherMask share.

    n = K unlabelled images are picked to minimise tr(M^{-1} F), where

        M = lambda 1 + w_L * (sum of I(x) over the n_L labelled images)
                     + K / (n_L + K) * (sum of I(x) over the picks).

    `docs/fisher.md` explains the options and what they are worth.

    Attributes:
        regularization: rho, above 0.
        regularization_scale: `information`: lambda = rho tr(F) / k over k coordinates, so rho is in
            units of the mean eigenvalue of F. `absolute`: lambda = rho, as published.
        oversampling: b, at least 0: n (1 + b) images are picked, then all but n are removed again.
        weighting: Of the classes' gradients: by their probability (`fisher`), or equal (`uniform`),
            as in the selection of the FisherMask authors' code.
        pool_fisher: F. `pool`: the mean of I(x) over the whole pool, labelled images included, as
            published. `class_balanced`: first the mean over the images predicted to be of a class,
            then over the classes predicted at all. `soft_class_balanced`: the mean over classes c
            of sum_x p_c(x) I(x) / sum_x p_c(x), with p = softmax(z / T). `identity`: the identity
            matrix, with lambda on the scale of `pool`.
        labelled_fisher: Whether labelled images count; if not, w_L = 0.
        labelled_weight: w_L. `mean`: 1 / (n_L + K), as published; all labelled images together then
            count like n_L / K picks. `each`: K / (n_L + K); each of them counts like a pick.
        temperature: T, by which logits are divided. `calibrated`: the T at which the labelled
            images' largest probabilities are 0.95 on average; see `calibrated_temperature`.
        approximation: What stands for I(x). None: I(x) is exact. `top_classes`: the information
            about the `top_classes` likeliest classes. `binary`: p (1 - p) h h^T, with p the largest
            probability. `blocks`: p_c (1 - p_c) h h^T for every class by itself. `auto`: the first
            of exact, blocks, top_classes and binary that fits into memory. See
            `fm_al.fisher.approximations`.
        top_classes: c, at least 2, for `top_classes`; all classes if there are fewer.
        max_candidates: Choose among at most this many images, drawn uniformly at random; None for
            all. F remains that of the whole pool.
        memory_limit_gib: Memory that a query may use, in GiB; None for what the device has left.
    """

    regularization: Positive = 0.01
    regularization_scale: Literal["information", "absolute"] = "information"
    oversampling: NotNegative = 0.0
    weighting: Weighting = "fisher"
    pool_fisher: Literal["pool", "class_balanced", "soft_class_balanced", "identity"] = (
        "soft_class_balanced"
    )
    labelled_fisher: bool = True
    labelled_weight: Literal["mean", "each"] = "each"
    temperature: Positive | Literal["calibrated"] = "calibrated"
    approximation: Literal["top_classes", "binary", "blocks", "auto"] | None = None
    top_classes: TwoOrMore = 5
    max_candidates: Count | None = None
    memory_limit_gib: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class FisherMaskOptions(DesignOptions):
    """The options of FisherMask: those of `DesignOptions`, and of its mask.

    Attributes:
        approximation: None, `top_classes` or `binary`. For `binary`, the gradient at other weights
            is that of the likeliest class's log odds.
        mask: Which weights are in; see `fm_al.fisher.mask`.
        fraction: Share of all weights that are in, in (0, 1]. None: 0.002, or twice the last layer
            if that is more; None is also the only value for a relative mask.
        mask_images: m, how many images the diagonal Fisher information is averaged over.
        mask_sample: Which: a `random` sample of the pool, or its `first` images, as in the authors'
            code.
        whole_last_layer: Whether all weights of the last layer are in.
        record_mask: Whether the mask's positions are reported, beside its size per layer.
        jacobians: Where the candidates' gradients are kept: on the `device`, or in main memory
            (`host`).
        jacobian_precision: The precision in which they are kept.
    """

    approximation: Literal["top_classes", "binary"] | None = None
    mask: MaskKind = "standard"
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    mask_images: Count = 1024
    mask_sample: Literal["random", "first"] = "random"
    whole_last_layer: bool = True
    record_mask: bool = False
    jacobians: Literal["device", "host"] = "device"
    jacobian_precision: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True)
class OptionNames:
    """How errors name options, which depends on where the user sets them.

    Attributes:
        prefix: What stands before the name of an option, such as `strategy.`.
        batch_size: The name of the batch size.
    """

    prefix: str = ""
    batch_size: str = "batch_size"
