"""A kind of model in one file, as someone else would write it. Its network scores a pixel by its color alone."""

import json
from pathlib import Path
from typing import Any, ClassVar

from seg_transfer.errors import CheckpointError
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.libraries import Library
from seg_transfer.models.normalization import Normalization
from seg_transfer.store.content_key import Key, content_key

FILE = "palette.json"
MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class PaletteEntry(SourceEntry):
    """A JSON file with one row of three weights per class."""

    kind: ClassVar[str] = "palette"
    marker: ClassVar[str] = "palette"
    libraries: ClassVar[tuple[Library, ...]] = (Library("numpy", "numpy"),)
    folder_hint: ClassVar[str] = f"a {FILE}"

    palette: Path

    @classmethod
    def fields_in_folder(cls, folder: Path) -> dict[str, Any] | None:
        return {"palette": folder / FILE} if (folder / FILE).exists() else None

    def key(self, *, memo: Path | None = None) -> Key:
        return content_key(kind=self.kind, palette=sha256_of_weights(self.palette, memo))

    def architecture(self) -> dict[str, Any]:
        return {"kind": self.kind, "n_colors": len(self._rows())}

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> Any:
        import torch

        return torch.nn.Sequential(torch.nn.Conv2d(3, architecture["n_colors"], 1, bias=False))

    def load_weights(self, network: Any) -> None:
        import torch

        network[0].weight.data = torch.tensor(self._rows())[:, :, None, None]

    def input_normalization(self) -> Normalization:
        return Normalization(MEAN, STD)

    def _rows(self) -> list[list[float]]:
        try:
            rows: list[list[float]] = json.loads(self.palette.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.palette}: not a readable palette; copy it again") from error
        return rows
