import dataclasses

import pytest

from lru.data.options import Options, ReleasedOptions
from lru.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoOptions(Options):
    first: int = 1
    second: str = "x"

    def unused(self):
        return {"first"} if self.second == "alone" else ()


def test_options_that_are_not_given_keep_their_defaults():
    assert TwoOptions.choose({"second": "y"}) == TwoOptions(first=1, second="y")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frist": 2}, "no option 'frist'; did you mean 'first'"),
        ({"first": 2.0}, "first is 2.0; expected int"),
        ({"first": True}, "first is True; expected int"),
    ],
)
def test_an_unknown_option_or_another_type_raises(given, message):
    with pytest.raises(UserError, match=message):
        TwoOptions.choose(given)


def test_the_directory_name_has_the_used_options():
    assert TwoOptions(first=2).directory_name() == "first=2,second=x"
    assert TwoOptions(first=2, second="alone").directory_name() == "second=alone"


def test_synthetic_sizes_have_no_effect_on_released_data():
    names = [ReleasedOptions(made_up_test=n).directory_name() for n in (3, 4)]
    assert names == ["source=released,seed=0"] * 2
    synthetic = ReleasedOptions(source="made_up", made_up_test=3)
    assert synthetic.synthetic and synthetic.synthetic_sizes["test"] == 3
    assert "made_up_test=3" in synthetic.directory_name()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "relased"}, "source is 'relased'; did you mean 'released'"),
        ({"made_up_validation": 0}, "made_up_validation is 0; expected at least 1"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
    ],
)
def test_an_impossible_option_raises(given, message):
    with pytest.raises(UserError, match=message):
        ReleasedOptions(**given)
