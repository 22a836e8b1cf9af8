"""Downloads: complete and checked, or not there at all; every failure is one line."""

import hashlib
import io
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import CUT, SILENT, Loopback, serving

from seg_transfer.errors import CheckpointError
from seg_transfer.models import downloads
from seg_transfer.models.downloads import cache_folder, download, download_weights, hash_in_name
from seg_transfer.store.atomic import temporary_path

CONTENT = bytes(range(256)) * 10_000
HASH = hashlib.sha256(CONTENT).hexdigest()
NAME = f"net_20200601_014216-{HASH[:8]}.pth"


@pytest.fixture
def server() -> Iterator[Loopback]:
    with serving() as loopback:
        loopback.files[f"/zoo/{NAME}"] = CONTENT
        yield loopback


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("SEG_TRANSFER_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SEG_TRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refusal(url: str, file: Path, sha256_prefix: str | None = None) -> str:
    """The line of a failed download, which leaves nothing behind."""
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(CheckpointError) as caught:
        download(url, file, sha256_prefix=sha256_prefix)
    left = [path for path in file.parent.rglob("*") if path != file] if file.parent.exists() else []
    assert left == []
    assert (file.read_bytes() if file.exists() else None) == before
    assert str(caught.value).startswith(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_are_downloaded_once_under_their_name(server, cache, caplog):
    with caplog.at_level("INFO"):
        file = download_weights(f"{server.url}/zoo/{NAME}")
    assert file == cache / "checkpoints" / NAME
    assert file.read_bytes() == CONTENT
    assert caplog.messages == [f"downloading 2.6 MB from {server.url}/zoo/{NAME}"]
    assert download_weights(f"{server.url}/zoo/{NAME}") == file
    assert server.requests == [f"GET /zoo/{NAME}"]
    assert [path.name for path in cache.rglob("*")] == ["checkpoints", NAME]


def test_a_file_without_a_hash_in_its_name_is_taken_as_it_is(server):
    server.files["/plain.pth"] = b"weights"
    assert download_weights(f"{server.url}/plain.pth?download=1").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("name", "digits"),
    [
        ("deeplabv3_resnet50_coco-cd0a2569.pth", "cd0a2569"),
        (f"net-{HASH}.safetensors", HASH),
        ("net-cd0a2569.old.pth", None),
        ("net-cd0a256.pth", None),
        ("net-fcn_hr18.pth", None),
    ],
)
def test_the_hash_is_the_last_part_of_a_name(name, digits):
    assert hash_in_name(name) == digits


def test_another_content_than_the_name_says_is_refused(server, tmp_path):
    server.files[f"/zoo/{NAME}"] = b"<html>log in first</html>"
    text = refusal(f"{server.url}/zoo/{NAME}", tmp_path / "new" / NAME, HASH[:8])
    digest = hashlib.sha256(b"<html>log in first</html>").hexdigest()
    assert f"sha256 {digest[:8]}..., its name says {HASH[:8]}; try again" in text


@pytest.mark.parametrize(("status", "reason"), [(404, "HTTP 404 Not Found"), (503, "HTTP 503 Service Unavailable")])
def test_a_status_of_the_server_is_named(server, tmp_path, status, reason):
    server.refuse(f"/zoo/{NAME}", status)
    text = refusal(f"{server.url}/zoo/{NAME}", tmp_path / "new" / NAME)
    assert f"cannot be downloaded ({reason}); check the address" in text
    assert f"or copy the file to {tmp_path / 'new' / NAME}" in text


def test_a_connection_that_is_cut_leaves_nothing(server, tmp_path):
    server.faults[f"/zoo/{NAME}"] = CUT
    half, whole = len(CONTENT) // 2, len(CONTENT)
    assert f"the connection was cut after {half} of {whole} bytes" in refusal(
        f"{server.url}/zoo/{NAME}", tmp_path / "new" / NAME
    )


def test_a_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_SECONDS_WITHOUT_DATA", 0.05)
    server.faults["/slow.pth"] = SILENT
    server.files["/slow.pth"] = CONTENT
    assert "timed out" in refusal(f"{server.url}/slow.pth", tmp_path / "new/slow.pth")


def test_no_server_and_no_such_host_are_one_line(tmp_path):
    with serving() as closed:
        pass
    assert "Connection refused" in refusal(f"{closed.url}/a.pth", tmp_path / "new/a.pth")
    assert "cannot be downloaded" in refusal("http://127.0.0.1:99999/a.pth", tmp_path / "new/a.pth")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.pth", "file:///etc/passwd", "a.pth"])
def test_only_http_is_downloaded(url, tmp_path):
    assert "only http and https addresses" in refusal(url, tmp_path / "new/a.pth")


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/a.pth", "file:///etc/passwd"])
def test_a_redirect_leads_to_http_only(server, tmp_path, target):
    server.refuse("/a.pth", 302, Location=target)
    assert "cannot be downloaded" in refusal(f"{server.url}/a.pth", tmp_path / "new/a.pth")
    server.refuse("/a.pth", 302, Location=f"{server.url}/zoo/{NAME}")
    assert download(f"{server.url}/a.pth", tmp_path / "new/a.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("variable", ["SEG_TRANSFER_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_takes_what_is_there_and_asks_nobody(server, tmp_path, monkeypatch, variable):
    url, file = f"{server.url}/zoo/{NAME}", tmp_path / "new" / NAME
    monkeypatch.setenv(variable, "1")
    assert f"{file} is not there, and downloads are off" in refusal(url, file, HASH[:8])
    file.parent.mkdir()
    file.write_bytes(b"another file")
    assert f"{file} has the wrong sha256, and downloads are off" in refusal(url, file, HASH[:8])
    file.write_bytes(CONTENT)
    assert download(url, file, sha256_prefix=HASH[:8]) == file
    assert server.requests == []


def test_a_damaged_file_is_downloaded_again(server, tmp_path):
    file = tmp_path / NAME
    file.write_bytes(CONTENT[:-1])
    assert download(f"{server.url}/zoo/{NAME}", file, sha256_prefix=HASH[:8]).read_bytes() == CONTENT


def test_what_a_killed_download_left_is_swept(server, cache):
    ended = subprocess.run(
        [sys.executable, "-c", "from seg_transfer.store.processes import identity; print(identity())"],
        capture_output=True,
        text=True,
        check=True,
    )
    own = temporary_path(cache / "checkpoints" / NAME)
    other = own.with_name(f".{NAME}.{ended.stdout.strip()}.{'0' * 32}.part")
    own.parent.mkdir(parents=True)
    own.write_bytes(b"of a process that runs")
    other.write_bytes(b"of a killed one")
    download_weights(f"{server.url}/zoo/{NAME}")
    assert sorted(path.name for path in own.parent.iterdir()) == sorted([NAME, own.name])


def test_processes_that_download_one_file_at_a_time_agree(server, cache):
    lines = f"from seg_transfer.models.downloads import download_weights as get; get({server.url + '/zoo/' + NAME!r})"
    running = [subprocess.Popen([sys.executable, "-c", lines]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert [path.name for path in cache.rglob("*")] == ["checkpoints", NAME]
    assert (cache / "checkpoints" / NAME).read_bytes() == CONTENT


def test_the_first_of_two_downloads_stays(server, tmp_path):
    """The other one finishes while this one is under way."""
    file, first = tmp_path / NAME, tmp_path / "first"
    server.on_request = lambda: (first.write_bytes(CONTENT), file.hardlink_to(first))
    download(f"{server.url}/zoo/{NAME}", file, sha256_prefix=HASH[:8])
    assert file.samefile(first)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("SEG_TRANSFER_CACHE", str(tmp_path / "taken"))
    with pytest.raises(CheckpointError, match=r"cannot be written .* set SEG_TRANSFER_CACHE to another folder"):
        download_weights(f"{server.url}/zoo/{NAME}")


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("SEG_TRANSFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "seg_transfer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me/.cache/seg_transfer"


@pytest.mark.parametrize("name", ["..", "", "a%00b", "%2e%2e", ".hidden", "a%2f..%2f.."])
def test_a_name_is_never_a_path(server, cache, name):
    with pytest.raises(CheckpointError, match="does not end in the name of a file"):
        download_weights(f"{server.url}/zoo/{name}")
    assert server.requests == []
    assert not cache.exists()


def test_a_file_that_does_not_end_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_MAX_BYTES", 1000)
    monkeypatch.setattr(downloads, "_CHUNK", 600)
    assert "cannot be downloaded (more than" in refusal(f"{server.url}/zoo/{NAME}", tmp_path / "new" / NAME)


def test_a_redirect_from_https_leads_to_https_only():
    request = urllib.request.Request("https://127.0.0.1/a.pth")
    redirects = downloads._HttpRedirects()
    with pytest.raises(urllib.error.URLError, match="redirects to http:"):
        redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://127.0.0.1/b.pth")
    found = redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://127.0.0.1/b.pth")
    assert found is not None
    assert found.full_url == "https://127.0.0.1/b.pth"


@pytest.mark.parametrize("length", ["-5", "1e9", "9" * 30, "x"])
def test_a_length_that_lies_is_no_file(server, tmp_path, length):
    server.headers[f"/zoo/{NAME}"] = {"Content-Length": length}
    try:
        file = download(f"{server.url}/zoo/{NAME}", tmp_path / "new" / NAME, sha256_prefix=HASH[:8])
    except CheckpointError:
        assert not list(tmp_path.rglob("*.pth"))
    else:
        assert file.read_bytes() == CONTENT
