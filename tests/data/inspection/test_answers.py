import pytest

from seg_transfer.data.inspection.answers import Answers, parse_answers
from seg_transfer.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("labels_are", "palette", "palette"),
        ("ignore", "none", ()),
        ("ignore", "0,255", (0, 255)),
        ("ignore", "-1", (-1,)),
        ("ignore", "0:0:0,255:255:255", ((0, 0, 0), (255, 255, 255))),
        ("unlisted", "nearest", "nearest"),
        ("first_id", "1", 1),
        ("exif", "apply", "apply"),
        ("bands", "3,2,1", (3, 2, 1)),
        ("range", "-0.5,1e3", (-0.5, 1000.0)),
        ("unpaired", "ignore", "ignore"),
        ("max_pixels", "1000", 1000),
    ],
)
def test_every_option(field: str, text: str, value: object) -> None:
    assert parse_answers({field: text, "exif" if field != "exif" else "bands": None}) == Answers(**{field: value})


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("labels_are", "rgb"),
        ("ignore", "black"),
        ("ignore", "0:0"),
        ("ignore", "0:0:256"),
        ("first_id", "2"),
        ("bands", "1,2"),
        ("bands", "0,1,2"),
        ("range", "5,5"),
        ("range", "nan,1"),
        ("range", "0,inf"),
        ("max_pixels", "0"),
        ("unpaired", "error"),
    ],
)
def test_a_wrong_value_names_its_option(field: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_answers({field: text})
    assert str(caught.value).startswith(f"--{field.replace('_', '-')} {text}: must be ")


def test_an_unknown_field() -> None:
    with pytest.raises(ConfigError, match="'colour' is unknown; choose among labels_are, ignore, "):
        parse_answers({"colour": "red"})
