"""Repositories of the Hub, through the real client and a server on 127.0.0.1."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import CUT, Loopback, serving
from zoo_server import only_loopback

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models import hub
from seg_transfer.models.hub import MODEL_FILES, TOKENIZER_FILES, repository, revision_of

NAME = "org/tiny-net"
FILES = {
    "config.json": b'{"model_type": "segformer"}',
    "preprocessor_config.json": b"{}",
    "model.safetensors": b"weights" * 999,
    "vocab.json": b'{"semantic": 0}',
    "pytorch_model.bin": b"a pickle",
    "modeling_own.py": b"raise SystemExit",
    "onnx/config.json": b"{}",
    "README.md": b"a card",
}
WANTED = ["config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    pytest.importorskip("huggingface_hub")
    with serving() as loopback:
        only_loopback(loopback, tmp_path, monkeypatch)
        yield loopback


def refusal(*arguments: object, kind: type[Exception] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        repository(*arguments)
    assert str(caught.value).startswith(str(arguments[0]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_only_config_and_safetensors_are_downloaded_and_once(server, caplog):
    commit = server.add_repository(NAME, FILES)
    with caplog.at_level("INFO", "seg_transfer"):
        folder = repository(NAME)
    assert names(folder) == WANTED
    assert all((folder / name).read_bytes() == FILES[name] for name in WANTED)
    assert revision_of(folder) == folder.name == commit
    assert caplog.messages == [f"downloading 7 kB from {server.url}/{NAME}, commit {commit}"]
    assert not any(path.endswith((".bin", ".py", ".md")) for path in server.requests)
    server.requests.clear()
    assert repository(NAME) == folder
    assert server.requests == []


def test_an_unchanged_cache_serves_offline(server, monkeypatch):
    server.add_repository(NAME, FILES)
    folder = repository(NAME)
    for variable in ("SEG_TRANSFER_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "1")
        assert repository(NAME) == folder
        assert "not in the cache of the Hub, and downloads are off" in refusal("org/other")
        monkeypatch.delenv(variable)


def test_a_branch_that_moves_does_not_change_the_model(server):
    server.add_repository(NAME, FILES)
    first = repository(NAME)
    moved = server.add_repository(NAME, {**FILES, "config.json": b"{}"})
    assert repository(NAME) == first
    assert repository(NAME, moved).name == moved != first.name


def test_a_revision_is_a_branch_a_tag_or_a_commit(server):
    main = server.add_repository(NAME, FILES)
    tagged = server.add_repository(NAME, {**FILES, "config.json": b'{"a": 1}'}, revision="v1/a")
    assert (repository(NAME, "v1/a").name, repository(NAME).name, repository(NAME, main).name) == (tagged, main, main)
    server.refuse(f"/api/models/{NAME}/revision/v2", 404, X_Error_Code="RevisionNotFound")
    assert f"{NAME} (revision v2): the repository has no such revision; correct field revision" in refusal(NAME, "v2")


def test_further_files_are_downloaded_when_they_are_needed(server):
    server.add_repository(NAME, FILES)
    repository(NAME)
    assert names(repository(NAME, None, (*MODEL_FILES, *TOKENIZER_FILES))) == sorted([*WANTED, "vocab.json"])


def test_a_folder_that_another_program_left_incomplete_is_completed(server, monkeypatch):
    from huggingface_hub import snapshot_download

    server.add_repository(NAME, FILES)
    begun = Path(snapshot_download(NAME, allow_patterns=["config.json"], endpoint=server.url))
    assert names(begun) == ["config.json"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not in the cache" in refusal(NAME)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert repository(NAME) == begun
    assert names(begun) == WANTED


def test_sharded_weights_are_downloaded_whole(server):
    shards = {f"model-0000{k}-of-00002.safetensors": b"w" * k for k in (1, 2)}
    index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode()
    server.add_repository(NAME, {"config.json": b"{}", "model.safetensors.index.json": index, **shards})
    assert names(repository(NAME)) == sorted(["config.json", "model.safetensors.index.json", *shards])
    server.requests.clear()
    repository(NAME)
    assert server.requests == []


def test_pickles_are_never_downloaded(server):
    server.add_repository(NAME, {name: FILES[name] for name in ("config.json", "pytorch_model.bin")})
    text = refusal(NAME, None, ("*",))
    assert "has no model.safetensors, only pytorch_model.bin, and pickles are not downloaded" in text
    assert not any("resolve" in path for path in server.requests)
    server.add_repository("org/data", {"README.md": b""})
    assert "has no model.safetensors at its top" in refusal("org/data")


def test_a_name_that_does_not_exist_is_one_line(server):
    server.refuse("/api/models/org/nothing", 404, X_Error_Code="RepoNotFound")
    assert "the Hub has no such repository, or it is private; correct the name" in refusal("org/nothing")


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_name_that_the_hub_does_not_allow_is_one_line(server, monkeypatch, offline):
    monkeypatch.setenv("SEG_TRANSFER_OFFLINE", offline)
    assert "Cannot have -- or .. in repo_id" in refusal("org/a--b")


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_names_the_token(server, status):
    server.add_repository(NAME, FILES)
    for path in [path for path in server.files if path.startswith("/api")]:
        server.refuse(path, status, X_Error_Code="GatedRepo")
    assert "only to those who accepted its terms; accept them on its page and set HF_TOKEN" in refusal(NAME)


def test_the_terms_may_be_asked_for_at_the_files_only(server):
    commit = server.add_repository(NAME, FILES)
    server.refuse(f"/{NAME}/resolve/{commit}/config.json", 403, X_Error_Code="GatedRepo")
    assert "accept them on its page and set HF_TOKEN" in refusal(NAME)


def test_a_cut_connection_leaves_no_file_under_its_name(server, tmp_path, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    commit = server.add_repository(NAME, FILES)
    weights = f"/{NAME}/resolve/{commit}/model.safetensors"
    server.faults[weights] = CUT
    assert "cannot be downloaded" in refusal(NAME)
    assert not list(tmp_path.rglob("model.safetensors"))
    del server.faults[weights]
    assert (repository(NAME) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_content_that_differs_from_the_listed_hash_is_refused(server):
    commit = server.add_repository(NAME, FILES)
    path = f"/{NAME}/resolve/{commit}/model.safetensors"
    server.files[path] = server.files[path][::-1]
    with pytest.raises(CheckpointError, match=r"model.safetensors: differs from what org/tiny-net lists; remove"):
        repository(NAME)
    with pytest.raises(CheckpointError, match="differs"):  # it does not count as downloaded
        repository(NAME)


def test_no_server_is_one_line(server, monkeypatch):
    with serving() as closed:
        monkeypatch.setenv("HF_ENDPOINT", closed.url)
    assert "check the network, its proxy and HF_ENDPOINT" in refusal(NAME)
    server.refuse(f"/api/models/{NAME}", 500)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    assert "500 Internal Server Error" in refusal(NAME)


def test_the_library_is_an_extra(server, monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(hub, "import_module", missing)
    assert "pip install 'seg_transfer[hub]', or name a local folder" in refusal(NAME, kind=ConfigError)


def test_only_a_snapshot_has_a_revision(tmp_path):
    assert revision_of(tmp_path) is None
    assert revision_of(tmp_path / ("a" * 40)) is None
