"""Loads the network in this folder and predicts images, without the software that trained it.

    python load.py photo.jpg classes.png             # writes a label map in the ids of the dataset

    network = load("folder")                         # a torch.nn.Module, in evaluation mode
    classes = predict(network, "photo.jpg")          # the index of a class for every pixel, (H, W)
    network.card["classes"]                          # the names of the classes

Needs torch, safetensors, numpy, Pillow, and the library of the network: the field model.kind of source.json names it;
without that field, it is mmsegmentation. Images are predicted as a whole: cut large ones into pieces.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import Tensor, nn

from seg_transfer.prediction.standalone.networks import build_network


def load(folder: str | Path = Path(__file__).parent, device: str = "cpu", *, trust_code: bool = False) -> Segmenter:
    """Build the network that ``source.json`` describes, and load its weights.

    Neither can run code, except that of a network that is no library's, which runs only with ``trust_code``.
    """
    card = json.loads(Path(folder, "source.json").read_text(encoding="utf-8"))
    state = load_file(Path(folder, Path(card["weights"]).name))
    model = card["model"]
    network, classifier = build_network(model, trust_code=trust_code)
    if layers := model.get("linear_head"):
        network = LinearHead(network, layers)
    _resize_layers(network, state)
    network.load_state_dict(state)
    segmenter = Segmenter(network, classifier, card).eval().to(device)
    for parameter in segmenter.parameters():
        if parameter.dim() == 4:  # the layout in which convolutions are fastest
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return segmenter


def predict(network: Segmenter, image: str | Path | Image.Image | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Predict the index of the class of every pixel, (H, W), of an image file or of RGB values from 0 to 255."""
    pixels = image if isinstance(image, np.ndarray) else network.read(image)
    size = pixels.shape[:2]
    side, shorter = network.card["input"]["short_side"], min(size)
    height, width = ((2 * length * side + shorter) // (2 * shorter) for length in size)
    if (height, width) != size:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        scores = network(network.normalize(torch.tensor(pixels).permute(2, 0, 1)[None]), size)[0]
    known = [index for index, value in enumerate(network.card["labels"]["ids"]) if value is not None]
    classes: np.ndarray[Any, Any] = np.array(known)[scores[known].argmax(dim=0).cpu().numpy()]
    return classes


class Segmenter(nn.Module):
    """A network that scores the classes of every pixel; ``card`` is the content of ``source.json``."""

    def __init__(self, network: nn.Module, classifier: str | None, card: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.classifier = classifier
        self.card = card

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score normalized images (B, 3, H, W): (B, C, H, W), or of another size that is asked for."""
        fitted, extent = self._fit(images)
        scores = self._scores(fitted)
        if scores.shape[1] == 1:  # the score of the foreground alone
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        return _enlarge(scores, extent, size or (images.shape[2], images.shape[3]))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn RGB values from 0 to 255, (B, 3, H, W), into what `forward` takes."""
        taken, device = self.card["input"], next(self.parameters()).device
        mean, std = (255 * torch.tensor(taken[name], device=device).view(1, 3, 1, 1) for name in ("mean", "std"))
        normalized = (pixels.to(device, torch.float32) - mean) / std
        ordered = normalized.flip(1) if taken["channel_order"] == "bgr" else normalized
        return ordered.contiguous(memory_format=torch.channels_last)

    def read(self, image: str | Path | Image.Image) -> np.ndarray[Any, Any]:
        """Read an image as it was read for the training: RGB (H, W, 3)."""
        reading = self.card["input"]["images"]
        if reading.get("bands") or reading.get("range"):
            raise ValueError(f"{image}: source.json states bands or a range of values ({reading}); pass an RGB array")
        if not isinstance(image, Image.Image):
            with Image.open(image) as opened:
                return self.read(opened)
        turned = ImageOps.exif_transpose(image) if reading.get("exif") == "apply" else image
        if turned.mode.startswith("I"):  # 16 bits
            gray = (np.asarray(turned) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(gray[..., None], 3, axis=2)
        is_opaque = "transparency" not in turned.info
        return np.array(turned.convert("RGB") if is_opaque else turned.convert("RGBA").convert("RGB"))

    def _fit(self, images: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """Pad or resize images to a size that the network takes; return which part of that the images cover."""
        taken, (height, width) = self.card["input"], images.shape[2:]
        multiple, smallest = taken["multiple"], taken["smallest"]
        rows, columns = (math.ceil(max(side, smallest) / multiple) * multiple for side in (height, width))
        rows, columns = (max(rows, columns),) * 2 if taken["square"] else (rows, columns)
        rows, columns = taken["fixed"] or (rows, columns)
        if (rows, columns) == (height, width):
            return images, (1.0, 1.0)
        if taken["fixed"]:
            return F.interpolate(images, size=(rows, columns), mode="bilinear", antialias=True), (1.0, 1.0)
        return F.pad(images, (0, columns - width, 0, rows - height)), (height / rows, width / columns)

    def _scores(self, images: Tensor) -> Tensor:
        """Return the output of the layer whose output is the class scores, or that of the network, (B, C, h, w)."""
        if self.classifier is None:
            return _score_map(self.network(images))
        outputs: list[Tensor] = []
        layer = self.network.get_submodule(self.classifier)
        handle = layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output.clone()))
        try:
            answer = self.network(images)
        finally:
            handle.remove()
        scores = outputs[-1]
        if isinstance(layer, nn.Linear):
            scores = scores.movedim(-1, 1)
            if scores.dim() == 3:  # tokens
                scores = scores.reshape(*scores.shape[:2], *_sides(scores.shape[2], _score_map(answer).shape[2:]))
        return scores


def _sides(n: int, size: torch.Size) -> tuple[int, int]:
    """Return height and width of the map of n tokens, which the network enlarged to this size."""
    exact = math.sqrt(n * size[0] / size[1])
    heights = [side for side in (round(exact), math.floor(exact), math.ceil(exact)) if side and n % side == 0]
    return heights[0], n // heights[0]


class LinearHead(nn.Module):
    """A network without classes, and a linear layer on its maps, at the size of the finest of stride 4 or more."""

    def __init__(self, backbone: nn.Module, layers: list[list[Any]]) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = layers
        self.classifier = nn.Conv2d(sum(layer[2] for layer in layers), 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Score images, (B, C, h, w)."""
        seen: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        handles = [
            self.backbone.get_submodule(name).register_forward_hook(
                lambda _layer, inputs, output, name=name: seen.update({name: (_tensors(inputs), _tensors(output))})
            )
            for name in {layer[0] for layer in self.layers}
        ]
        try:
            self.backbone(images)
        finally:
            for handle in handles:
                handle.remove()
        maps = []
        for name, position, _channels, stride, layout, n_prefix in self.layers:
            inputs, outputs = seen[name]
            found = inputs[0] if position < 0 else outputs[position]
            maps.append(_as_map(found, layout, stride, n_prefix, images.shape[2:]))
        usual = [each for each, layer in zip(maps, self.layers, strict=True) if layer[3] > 3]
        size = max((tuple(each.shape[2:]) for each in usual or maps), key=math.prod)
        same = [each if tuple(each.shape[2:]) == size else F.interpolate(each, size, mode="bilinear") for each in maps]
        scores: Tensor = self.classifier(torch.cat(same, dim=1))
        return scores


def _as_map(found: Tensor, layout: str, stride: float, n_prefix: int, size: Any) -> Tensor:
    """Arrange the output of a layer as a map (B, C, h, w)."""
    if layout == "channels_first":
        return found
    if layout == "channels_last":
        return found.movedim(-1, 1)
    tokens = found[:, n_prefix:]
    sides = ([rounded(side / stride) for side in size] for rounded in (math.ceil, math.floor, round))
    height, width = next(each for each in sides if math.prod(each) == tokens.shape[1])
    return tokens.movedim(-1, 1).reshape(len(tokens), tokens.shape[2], height, width)


def _tensors(output: Any) -> list[Tensor]:
    """List the tensors in the output of a layer, in order."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if hasattr(output, "values") else output if isinstance(output, list | tuple) else []
    return [tensor for part in parts for tensor in _tensors(part)]


def _score_map(answer: Any) -> Tensor:
    """Return the map of scores in what a network returns."""
    answer = getattr(answer, "logits", answer)
    return next(tensor for tensor in _tensors(answer) if tensor.dim() == 4)


def _enlarge(scores: Tensor, extent: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Interpolate scores at the centers of the pixels of an image, which covers a part of the map."""
    if extent == (1.0, 1.0):
        return F.interpolate(scores, size=size, mode="bilinear")
    y, x = (
        (torch.arange(side, device=scores.device, dtype=scores.dtype) + 0.5) / side * 2 * fraction - 1
        for side, fraction in zip(size, extent, strict=True)
    )
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].expand(len(scores), -1, -1, -1)
    return F.grid_sample(scores, grid, padding_mode="border", align_corners=False)


def _resize_layers(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Give the layers that were replaced for other classes the number of outputs that they have in the weights."""
    for name, parameter in list(network.named_parameters()):
        if name in state and state[name].shape != parameter.shape:
            owner, _, attribute = name.rpartition(".")
            layer: Any = network.get_submodule(owner)
            setattr(layer, attribute, nn.Parameter(torch.empty_like(state[name])))
            if hasattr(layer, "groups"):
                layer.groups = 1


def main() -> None:
    """Predict one image, and write a label map."""
    parser = argparse.ArgumentParser(description="Predict an image by the network in this folder.")
    parser.add_argument("image", help="an image")
    parser.add_argument("output", help="the label map to write, a PNG file")
    parser.add_argument("--device", default="cpu", help="a torch device; cpu by default")
    parser.add_argument("--trust-code", action="store_true", help="run the code of a network that is no library's")
    given = parser.parse_args()
    network = load(device=given.device, trust_code=given.trust_code)
    labels = network.card["labels"]
    ids = [value if value is not None else 0 for value in labels["ids"]]
    largest = max(ids) if labels["kind"] != "colors" else 0
    values = np.array(ids, np.uint8 if largest < 256 else np.uint16)[predict(network, given.image)]
    label_map = Image.fromarray(values)
    if labels["kind"] == "palette" and labels["palette"]:
        label_map.putpalette([channel for color in labels["palette"] for channel in color])
    label_map.save(given.output, format="PNG")


if __name__ == "__main__":
    main()
