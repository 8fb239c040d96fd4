from __future__ import annotations

import pytest

from fm_al.data.imbalance.classes import class_numbers
from fm_al.errors import ConfigError

NAMES = ("airplane", "automobile", "bird", "cat")
ONE_TO_TWELVE = tuple(sorted(str(number) for number in range(1, 13)))


def test_classes_are_found_by_number_and_by_name_in_the_order_given():
    assert class_numbers("k", ["bird", 0, "automobile"], NAMES) == [2, 0, 1]


def test_where_names_are_numbers_an_integer_is_a_name():
    assert ONE_TO_TWELVE[:5] == ("1", "10", "11", "12", "2")
    found = class_numbers("k", [2, "3", 12, 1], ONE_TO_TWELVE)
    assert [ONE_TO_TWELVE[number] for number in found] == ["2", "3", "12", "1"]
    assert class_numbers("k", [7, "01"], ("01", "07", "12")) == [1, 0]
    assert class_numbers("k", [1, "bird", -5], ("-5", "bird", "1")) == [2, 1, 0]


@pytest.mark.parametrize("names", [tuple("0123456789"), ("0 - zero", "1 - one", "2 - two")])
def test_digits_mnist_and_svhn_go_by_either(names):
    assert class_numbers("k", [2, names[1], 0], names) == [2, 1, 0]


def test_names_that_look_like_other_values_are_found():
    assert class_numbers("k", [True, 1.5, False], ("1.5", "false", "true")) == [2, 0, 1]


@pytest.mark.parametrize(
    ("wanted", "names", "message"),
    [
        (["birds"], NAMES, r"no class 'birds'; the 4 classes have names such as 'bird'$"),
        (["zzz"], NAMES, r"no class 'zzz'; the 4 classes .*'airplane'"),
        ([4], NAMES, r"no class 4; the classes are numbered 0 to 3$"),
        ([-1], NAMES, r"no class -1"),
        ([1.5], NAMES, r"no class '1.5'"),
        ([True], NAMES, r"no class 'true'"),
        ([2, "bird"], NAMES, r"class 'bird' is named twice$"),
        ([0], ONE_TO_TWELVE, r"no class '0'; the 12 classes have names such as '10'"),
        ([2, "2"], ONE_TO_TWELVE, r"class '2' is named twice$"),
        ([2], ("02", "2", "3"), r"2 could be any of the classes '02', '2'; quote its name$"),
    ],
)
def test_a_class_that_cannot_be_is_refused(wanted, names, message):
    with pytest.raises(ConfigError, match=rf"^imbalance\.pool: {message}"):
        class_numbers("imbalance.pool", wanted, names)
