"""A network of the user's code whose linear layer scores tokens, for tests of factories."""

from pathlib import Path
from typing import Any

from seg_transfer.models.checkpoints import save_weights

TOKENS_NET = """
from torch import nn
import torch.nn.functional as F

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 4)

    def forward(self, images):
        one = self.stem(images).tanh()
        scores = self.head(one.flatten(2).movedim(1, 2)).movedim(2, 1).reshape(len(one), -1, *one.shape[2:])
        return F.interpolate(scores, size=images.shape[2:], mode="bilinear")
"""


def token_factory(folder: Path) -> dict[str, Any]:
    """A network whose linear layer scores tokens, and which enlarges the scores."""
    (folder / "token_nets.py").write_text(TOKENS_NET)
    made: dict[str, Any] = {}
    exec(TOKENS_NET, made)
    weights = folder / "w.safetensors"
    save_weights(made["Tokens"]().state_dict(), weights)
    code = {"factory": "token_nets:Tokens", "factory_folder": folder, "weights": weights}
    return {**code, "mean": (0.4,) * 3, "std": (0.3,) * 3}
