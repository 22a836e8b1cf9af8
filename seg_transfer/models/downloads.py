"""Downloads of weights over HTTP(S) into a cache: a file is there complete and checked, or not at all.

Nothing here runs unless an entry of a study or a bank names weights by their address or by the name of a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from seg_transfer.console import ON_STDERR
from seg_transfer.errors import CheckpointError, reason_of
from seg_transfer.store.atomic import replaced_atomically, sweep
from seg_transfer.store.content_key import sha256_of_file

CACHE = "SEG_TRANSFER_CACHE"
"""Environment variable: the folder for downloads."""
_OFFLINE = ("SEG_TRANSFER_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = {"1", "ON", "YES", "TRUE"}
_SCHEMES = ("http", "https")
# openmmlab and torchvision end the names of weights in the first eight digits of their sha256.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_SECONDS_WITHOUT_DATA = 60.0
# No weights here are larger. A server that never ends would fill the disk.
_MAX_BYTES = 100 * 10**9
_CHUNK, _MB = 1 << 20, 10**6

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder for downloads: ``$SEG_TRANSFER_CACHE``, or else ``seg_transfer`` in the user's cache folder."""
    if chosen := os.environ.get(CACHE):
        return Path(chosen).expanduser().absolute()
    user_cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(user_cache) if user_cache else Path.home() / ".cache") / "seg_transfer"


def is_offline() -> bool:
    """Whether ``SEG_TRANSFER_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids downloads."""
    return any(os.environ.get(variable, "").upper() in _TRUE for variable in _OFFLINE)


def hash_in_name(name: str) -> str | None:
    """Return the digits of the sha256 at the end of a file name; None if there are none.

    Example:
        >>> hash_in_name("fcn_hr18_512x1024_40k_cityscapes_20200601_014216-f196fb4e.pth")
        'f196fb4e'
    """
    found = _HASH_IN_NAME.search(name)
    return found[1] if found and name.endswith(found[0]) else None


def mirrored(url: str, server: str, variable: str) -> str:
    """Return an address on the mirror that an environment variable names, if it names one.

    Args:
        url: An address.
        server: What the mirror takes the place of, at the beginning of the address.
        variable: Name of the environment variable.
    """
    mirror = os.environ.get(variable, "").rstrip("/")
    return f"{mirror}{url.removeprefix(server)}" if mirror and url.startswith(f"{server}/") else url


def download_weights(url: str) -> Path:
    """Download a file of weights into the cache, where it stays under its name; the hash in the name is checked.

    Args:
        url: Address of the file.

    Raises:
        CheckpointError: See `download`.
    """
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    if not _FILE_NAME.fullmatch(name):
        raise CheckpointError(f"{url}: does not end in the name of a file; download it yourself, and name the file")
    return download(url, cache_folder() / "checkpoints" / name, sha256_prefix=hash_in_name(name))


def download(url: str, file: Path, *, sha256_prefix: str | None = None) -> Path:
    """Download a file, unless it exists.

    The file appears under its name when it is complete and its hash is right. Processes that download it at the same
    time do not disturb each other: the first one to finish writes it. Proxies are taken from the environment.

    Args:
        url: Address, http or https.
        file: Where the file belongs; its folder is created.
        sha256_prefix: The first hex digits of its sha256; an existing file with another hash is replaced.

    Returns:
        `file`.

    Raises:
        CheckpointError: The download failed or is forbidden, or the hash is wrong. Nothing is left behind.
    """
    is_there = file.is_file()
    if is_there and (sha256_prefix is None or sha256_of_file(file).startswith(sha256_prefix)):
        return file
    if urlsplit(url).scheme not in _SCHEMES:
        raise CheckpointError(f"{url}: only http and https addresses are downloaded; download it yourself to {file}")
    if is_offline():
        state = "has the wrong sha256" if is_there else "is not there"
        raise CheckpointError(
            f"{url}: {file} {state}, and downloads are off ({' or '.join(_OFFLINE)}); allow them, or copy it there"
        )
    with _writable(file), replaced_atomically(file, keep_existing=not is_there) as temporary:
        sweep(file.parent)
        digest = _fetch(url, temporary, file)
        if not digest.startswith(sha256_prefix or ""):
            raise CheckpointError(
                f"{url}: what came has the sha256 {digest[:8]}..., its name says {sha256_prefix}; try again, and check "
                "the proxy or mirror if it happens twice"
            )
    return file


@contextlib.contextmanager
def _writable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be written ({reason_of(error)}); free space, or set {CACHE} to another folder"
        ) from error


def _fetch(url: str, temporary: Path, file: Path) -> str:
    """Write what a server sends to a temporary file, and return its sha256 in hex."""
    from seg_transfer.progress import progress_of

    sha256, n_bytes = hashlib.sha256(), 0
    with _response(url, file) as response, temporary.open("wb") as stream:
        length = _length(response)
        _logger.info("downloading %s from %s", size_text(length), url, extra=ON_STDERR)
        with progress_of(f"downloading {file.name}, MB") as tick:
            while chunk := _next_chunk(response, url, file):
                stream.write(chunk)
                sha256.update(chunk)
                n_bytes += len(chunk)
                if n_bytes > _MAX_BYTES:
                    raise _failure(url, file, f"more than {size_text(_MAX_BYTES)}")
                if length:
                    tick(n_bytes // _MB, length // _MB)
    # The standard library takes a connection that is cut for the end of the file.
    if length is not None and n_bytes != length:
        raise _failure(url, file, f"the connection was cut after {n_bytes} of {length} bytes")
    return sha256.hexdigest()


def size_text(n_bytes: int | None) -> str:
    """Return a size in words.

    >>> [size_text(size) for size in (264_100_000, 1_270_000, 7_400, None)]
    ['264 MB', '1.3 MB', '7 kB', 'a file of unknown size']
    """
    if n_bytes is None:
        return "a file of unknown size"
    if n_bytes < _MB:
        return f"{n_bytes / 1000:.0f} kB"
    return f"{n_bytes / _MB:.0f} MB" if n_bytes >= 10 * _MB else f"{n_bytes / _MB:.1f} MB"


@contextlib.contextmanager
def _response(url: str, file: Path) -> Iterator[http.client.HTTPResponse]:
    opener = urllib.request.build_opener(_HttpRedirects)
    # Compressed content would have another length than the file.
    request = urllib.request.Request(url, headers={"User-Agent": "seg_transfer", "Accept-Encoding": "identity"})
    try:
        response = opener.open(request, timeout=_SECONDS_WITHOUT_DATA)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failure(url, file, f"HTTP {error.code} {http.client.responses.get(error.code, '')}".strip()) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _failure(url, file, reason_of(error)) from error
    with response:
        yield response


def _next_chunk(response: http.client.HTTPResponse, url: str, file: Path) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _failure(url, file, f"the connection was cut: {reason_of(error)}") from error


def _length(response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _failure(url: str, file: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{url}: cannot be downloaded ({reason}); check the address, the network and its proxy (HTTPS_PROXY), or copy "
        f"the file to {file}"
    )


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and from https to https only; the standard library follows others."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for the new address."""
        # Nobody on the way may change what was asked for over https.
        if urlsplit(newurl).scheme not in (_SCHEMES if req.type == "http" else ("https",)):
            fp.close()
            raise urllib.error.URLError(f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
