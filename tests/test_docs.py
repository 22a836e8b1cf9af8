"""The builder of the API reference finds what leads nowhere. The reference itself is built by scripts/docs.sh."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from loaded_scripts import script


@pytest.fixture(scope="module")
def broken_references() -> Callable[[Iterable[Path]], Iterator[str]]:
    return script("build_docs").broken_references


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ('<a href="other.html">x</a> <a href="other.html#there">x</a> <a href="#here">x</a>', []),
        ('<a href="https://example.org/x.html#y">x</a> <code>seg_transfer</code> <code>other.name</code>', []),
        ('<a href="gone.html">x</a>', ["page.html: a link to gone.html#, which does not exist"]),
        ('<a href="other.html#gone">x</a>', ["page.html: a link to other.html#gone, which does not exist"]),
        ('<a href="#gone">x</a>', ["page.html: a link to #gone, which does not exist"]),
        ("<code>seg_transfer.gone</code>", ["page.html: `seg_transfer.gone` is not a name of the package"]),
        ("<code>seg_transfer.gone.too()</code>", ["page.html: `seg_transfer.gone.too` is not a name of the package"]),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(broken_references, tmp_path, text, reported):
    (tmp_path / "page.html").write_text(f'<p id="here">{text}</p>')
    (tmp_path / "other.html").write_text('<p id="there"></p>')
    assert list(broken_references([tmp_path / "page.html", tmp_path / "other.html"])) == reported
