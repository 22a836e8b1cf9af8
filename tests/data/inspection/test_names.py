from pathlib import Path

import pytest

from seg_transfer.data.inspection.names import Names, read_names
from seg_transfer.errors import ConfigError


def names_in(folder: Path, content: str | bytes) -> Names:
    file = folder / "names.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_names(file)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("road\ncar\n", ("road", "car")),
        ("road\ncar", ("road", "car")),
        ("road\r\n\r\ncar\r\n\r\n", ("road", "", "car")),
        ("road\rcar\r", ("road", "car")),
        (b"\xef\xbb\xbfroad\ncar\n", ("road", "car")),
        ("  traffic light \n\tcar\t\n", ("traffic light", "car")),
        ("cafe\u0301\nsky\n", ("caf\u00e9", "sky")),
        ("\u7a7a\n\u8def\n", ("\u7a7a", "\u8def")),
        # No value before every name, so numbers belong to names.
        ("road\n2 wheeler\ncar\nroute 66\n", ("road", "2 wheeler", "car", "route 66")),
        ("background\n1 story house\n", ("background", "1 story house")),
        ("0\n1\n2\n", ("0", "1", "2")),
        ("class\nname\n", ("class", "name")),
        # Blanks do not separate a value that comes last.
        ("zone 1\nzone 2\n", ("zone 1", "zone 2")),
    ],
)
def test_names_by_line(tmp_path: Path, content: str | bytes, names: tuple[str, ...]) -> None:
    assert names_in(tmp_path, content) == Names(tmp_path / "names.txt", by_line=names)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("0 road\n7 car\n", {0: "road", 7: "car"}),
        ("7: traffic light\n3:car\n", {7: "traffic light", 3: "car"}),
        ("0,road\n1;car\n2\tsky\n", {0: "road", 1: "car", 2: "sky"}),
        ('id,name\n0,"road"\n1,car\n', {0: "road", 1: "car"}),
        ('"0","road"\n"1","car"\n', {0: "road", 1: "car"}),
        ("name,id\nroad,7\nfire truck; 3\n", {7: "road", 3: "fire truck"}),
        ("Pixel Value, Class\n0, road\n2, car\n", {0: "road", 2: "car"}),
        ("0 road\n1 2 wheeler\n\n", {0: "road", 1: "2 wheeler"}),
        ("-1 void\n0 road\n255\n", {-1: "void", 0: "road", 255: ""}),
    ],
)
def test_names_by_value(tmp_path: Path, content: str, names: dict[int, str]) -> None:
    assert names_in(tmp_path, content) == Names(tmp_path / "names.txt", by_id=names)


@pytest.mark.parametrize(
    "content",
    [
        "64 128 64\tAnimal\n192 0 128\t\tRoad Shoulder\n",
        "64, 128, 64, Animal\n192, 0, 128, Road Shoulder\n",
        "name,r,g,b\nAnimal,64,128,64\nRoad Shoulder,192,0,128\n",
        "R G B Name\n64 128 64 Animal\n192 0 128 Road Shoulder\n",
        'Animal;64;128;64;\n"Road Shoulder";192;0;128;\n',
        "# label:color_rgb:parts:actions\nAnimal:64,128,64::\nRoad Shoulder:192,0,128::\n",
        "\n\nAnimal 64 128 64\n\nRoad Shoulder 192 0 128\n",
    ],
)
def test_names_by_color(tmp_path: Path, content: str) -> None:
    colors = {(64, 128, 64): "Animal", (192, 0, 128): "Road Shoulder"}
    assert names_in(tmp_path, content) == Names(tmp_path / "names.txt", by_color=colors)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("road\ncar\nroad\n", ": lines 1 and 3 have the same name 'road'; every name must be unique"),
        ("caf\u00e9\ncafe\u0301\n", ": lines 1 and 2 have the same name 'caf\u00e9'; every name must be unique"),
        ("0 road\n1 car\n0 sky\n", ": lines 1 and 3 have the same value 0; every value must be unique"),
        ("0 road\n1 road\n", ": lines 1 and 2 have the same name 'road'; every name must be unique"),
        ("a 1 2 3\n\nb 1 2 3\n", ": lines 1 and 3 have the same color (1, 2, 3); every color must be unique"),
        ("a 1 2 3\nb 1 2 4\nvoid\n", ", line 3: 'void' has no color from 0 to 255, but most lines have one; add it"),
        ("void\na 1 2 3\nb 1 2 4\n", ", line 1: 'void' has no color from 0 to 255, but most lines have one; add it"),
        ("a 1 2 3\nb 1 2 4\nc 1 2 256\n", ", line 3: 'c 1 2 256' has no color from 0 to 255, but most lines have one"),
        ("0 road\n1 car\nsky\n", ", line 3: 'sky' has no value, but most lines have one; add it"),
        ("0 road 1 2 3\n1 car 4 5 6\n", ": lines have four numbers; keep the value or the color"),
        ("0 1 2 3 road\n1 4 5 6 car\n", ": lines have four numbers; keep the value or the color"),
        ("road\ncar\n".encode("utf-16"), ": is UTF-16 text; save it as UTF-8"),
        ("caf\u00e9\n".encode("latin-1"), ": is not UTF-8 text (byte 3); save it as UTF-8"),
        ("road\nc\x1b[2Jar\n", ", line 2: 'c\\x1b[2Jar' has control characters; remove them"),
        (" \n\n", ": is empty; write one class name per line"),
    ],
)
def test_a_slip_is_one_line(tmp_path: Path, content: str | bytes, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names_in(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'names.txt'}{rule}")
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"names\.txt: cannot be read \(No such file or directory\); give one class"):
        read_names(tmp_path / "names.txt")
    with pytest.raises(ConfigError, match="cannot be read \\(Is a directory\\)"):
        read_names(tmp_path)


@pytest.mark.parametrize("separator", [";", ",", ":", " ;"])
def test_a_value_before_an_empty_column_is_ignored(tmp_path: Path, separator: str) -> None:
    names = names_in(tmp_path, f"0{separator}road\n1{separator} car\n255{separator}\n")
    assert names.by_id == {0: "road", 1: "car", 255: ""}
