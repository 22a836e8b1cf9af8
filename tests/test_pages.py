"""What the pages say can be followed: links lead somewhere, commands parse, files exist, Python imports."""

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from page_text import PAGES, ROOT, anchors, code_blocks, prose
from pydantic import BaseModel, create_model

from seg_transfer.cli.app import application
from seg_transfer.data.encodings import CocoLabels, LabelmeLabels
from seg_transfer.data.inspection import Answers
from seg_transfer.data.manifest import DatasetManifest, LowShot, Pairing, Split
from seg_transfer.data.record import Columns, ImageReading
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.engines import ENGINES
from seg_transfer.models.adapters import ADAPTERS
from seg_transfer.stages import STAGES
from seg_transfer.study.definition import FineTuning, Sampling, Study, Training
from seg_transfer.training.schedule import Schedule

COMMANDS = typer.main.get_command(application())
# Newer versions of typer have a click of their own; this is its UsageError, or that of the package.
USAGE_ERROR = typer.BadParameter.__mro__[1]
# Options whose values are names that the command looks up when it runs.
NAMED: Mapping[str, Collection[str]] = {"--stage": STAGES, "--engine": ENGINES}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SHELL_LINES = re.compile(r"\\\n\s*")

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def shell_lines(text: str) -> list[str]:
    """The lines of all shell blocks, continued ones joined."""
    return SHELL_LINES.sub("", "".join(code_blocks(text, "sh"))).splitlines()


def dead_links(page: Path, text: str) -> list[str]:
    dead = []
    for link in LINK.findall(prose(text)):
        path, _, anchor = link.partition("#")
        if re.match("[a-z]+:", link):
            continue
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and (found.suffix != ".md" or anchor not in anchors(found))):
            dead.append(link)
    return dead


@every_page
def test_links_and_anchors_exist(page: Path) -> None:
    assert dead_links(page, page.read_text()) == []


def test_a_dead_link_is_found() -> None:
    text = "[a](nowhere.md) [b](#glossary) [c](#no-such-heading) [d](../README.md#install) [e](https://example.org/x)"
    assert dead_links(ROOT / "seg_transfer/README.md", text) == ["nowhere.md", "#no-such-heading"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after ``seg-transfer``: of lines in shell blocks, and of inline code that begins with it."""
    for line in [*shell_lines(text), *re.findall(r"`(seg-transfer\s[^`]*)`", prose(text))]:
        words = shlex.split(line, comments=True)
        if "seg-transfer" in words:
            yield words[words.index("seg-transfer") + 1 :]


def fault(words: list[str]) -> str:
    """Why the command line does not take these words; "" where it does. Nothing is run.

    A command without arguments is a mention of its name.
    """
    name, *arguments = words
    arguments = [word for word in arguments if word != "--help"]
    if name in ("COMMAND", "--help") or (name in COMMANDS.commands and not arguments):
        return ""
    try:
        if name.startswith("-"):
            COMMANDS.make_context("seg-transfer", words)
        elif name in COMMANDS.commands:
            COMMANDS.commands[name].make_context(name, arguments)
        else:
            return f"no command {name}"
    except USAGE_ERROR as error:
        return error.format_message()
    return next((f"{option} {value}" for option, value in pairwise(words) if value not in NAMED.get(option, value)), "")


@every_page
def test_commands_parse(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEG_TRANSFER_DATA", raising=False)
    faults = {" ".join(words): fault(words) for words in command_lines(page.read_text())}
    assert {line: reason for line, reason in faults.items() if reason} == {}


def test_a_wrong_command_is_found() -> None:
    text = "`seg-transfer nothing`\n```sh\nA=1 seg-transfer rank MODELS \\\n    --no-such x  # why\n```\n"
    assert [fault(words).split(":")[0] for words in command_lines(text)] == ["No such option", "no command nothing"]
    assert "Missing" in fault(["plan", "--check"])
    assert "--gpus" in fault(["submit", "STUDY", "--stage", "train", "--gpus", "many"])
    assert "no stage" in fault(["submit", "STUDY", "--stage", "nothing"])
    assert fault(["--version"]) == fault(["metrics", "--json"]) == ""


def unknown_options(line: str) -> list[str]:
    """The options that a script of ours is called with and does not have."""
    found = re.search(r"(?:^|\s)(scripts/\w+\.(?:py|sh))\b(.*)", line.partition("  #")[0])
    if found is None:
        return []
    script = (ROOT / found[1]).read_text()
    if "seg_transfer.cli" in script:  # the same as a command, whose options are checked there
        return []
    return [option for option in re.findall(r"--[a-z][\w-]*", found[2]) if option not in script]


@every_page
def test_scripts_exist_with_their_options(page: Path) -> None:
    text = page.read_text()
    for line in [*shell_lines(text), *re.findall(r"`([^`]*scripts/[^`]*)`", prose(text))]:
        assert unknown_options(line) == [], line


def test_a_wrong_option_of_a_script_is_found() -> None:
    assert unknown_options("python scripts/benchmark_metrics.py --pairs 27 --no-such") == ["--no-such"]
    with pytest.raises(FileNotFoundError):
        unknown_options("scripts/no_such.sh")


def absent_files(page: Path, text: str) -> list[str]:
    """Files and folders of the repository that inline code names, from its root or from the page, and that are not."""
    named = re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_.]*)`", prose(text))
    ours = {path.name for path in [*ROOT.iterdir(), *(ROOT / "seg_transfer").iterdir()] if path.is_dir()} - {"runs"}
    paths = [path for path in named if path.split("/")[0] in ours]
    return [path for path in paths if not any((folder / path).exists() for folder in (ROOT, page.parent))]


@every_page
def test_named_files_exist(page: Path) -> None:
    assert absent_files(page, page.read_text()) == []


def test_a_file_that_is_not_there_is_found() -> None:
    text = "`stages/base.py` `stages/nothing.py` `tests/nothing/` `scripts/test.sh` `runs/demo` `package.module`"
    assert absent_files(ROOT / "seg_transfer/README.md", text) == ["stages/nothing.py", "tests/nothing/"]


@every_page
def test_python_compiles_and_imports(page: Path) -> None:
    for code in code_blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                assert [alias.name for alias in node.names if not importlib.util.find_spec(alias.name)] == []
            elif isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


# Fields


def undocumented(models: Iterable[type[BaseModel]], page: str) -> list[str]:
    text = (ROOT / page).read_text()
    return [field for model in models for field in model.model_fields if not re.search(rf"`{field}`|\b{field}:", text)]


def test_every_field_of_a_yaml_file_is_on_its_page() -> None:
    studies = [Study, Training, FineTuning, Sampling, Schedule, *ADAPTERS.values()]
    assert undocumented(studies, "configs/README.md") == []
    manifests = [DatasetManifest, Split, Columns, ImageReading, Tiles, LowShot, Pairing, CocoLabels, LabelmeLabels]
    assert undocumented(manifests, "data_manifests/README.md") == []


def test_every_answer_to_a_doubt_is_on_its_page() -> None:
    text = (ROOT / "data_manifests/README.md").read_text()
    options = [f"--{field.name.replace('_', '-')}" for field in fields(Answers)]
    assert [option for option in options if f"`{option}" not in text] == []


def test_a_field_that_is_not_on_a_page_is_found() -> None:
    assert undocumented([create_model("Planted", name=(str, ""), planted=(int, 0))], "configs/README.md") == ["planted"]
