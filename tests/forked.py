"""Commands in processes forked from one that has loaded everything, so that a hundred of them start in seconds.

`python forked.py` reads requests, one JSON object per line: {"start": words, "log": file} returns a process
id, and {"wait": id} returns its status: the exit code, or minus the signal that killed it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Forker:
    """Starts seg-transfer commands, each in its own process."""

    def __init__(self, **environment: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.kill()
        self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()

    def start(self, log: Path, *words: object) -> int:
        return self._ask(start=[str(word) for word in words], log=str(log))

    def wait(self, process: int) -> int:
        return self._ask(wait=process)

    def _ask(self, **request: Any) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def _serve() -> None:
    import torch

    from seg_transfer.models.compat import import_mmseg
    from seg_transfer.selection import choose  # noqa: F401
    from seg_transfer.stages import finetuning, scoring  # noqa: F401

    import_mmseg()
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            status = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
            print(status, flush=True)
            continue
        process = os.fork()
        if process == 0:
            _run(request["start"], request["log"])
        print(process, flush=True)


def _run(words: list[str], log: str) -> None:
    from seg_transfer.cli import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 70
    try:
        main(words)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
