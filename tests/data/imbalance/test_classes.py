from __future__ import annotations

import pytest

from fm_al.data.imbalance.classes import class_numbers
from fm_al.errors import ConfigError

NAMES = ("airplane", "automobile", "bird", "1")


def test_classes_are_found_by_number_and_by_name_in_the_order_given():
    assert class_numbers("k", ["bird", 0, "automobile"], NAMES) == [2, 0, 1]


def test_a_name_that_looks_like_a_number_is_a_name():
    assert class_numbers("k", ["1", 1], NAMES) == [3, 1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["birds"], r"^imbalance\.pool: no class 'birds'; the 4 classes .*'bird'.* 0 to 3$"),
        (["zzz"], r"^imbalance\.pool: no class 'zzz'; the 4 classes .*'airplane'"),
        ([4], r"^imbalance\.pool: no class 4; the classes are numbered 0 to 3$"),
        ([-1], r"no class -1"),
        ([2, "bird"], r"^imbalance\.pool: class 2 \(bird\) is named twice$"),
    ],
)
def test_a_class_that_cannot_be_is_refused(wanted, message):
    with pytest.raises(ConfigError, match=message):
        class_numbers("imbalance.pool", wanted, NAMES)
