"""Networks of transformers in the form of all others here: images in, one score map or a tuple of maps out."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# Names of the layer that classifies queries. It has one output per class, and a last one for "no object".
_CLASS_PREDICTORS = ("class_predictor", "class_embed", "class_labels_classifier")
# Where most of these networks, and DETR, compute the maps that all queries share.
_PIXEL_LEVEL = (".pixel_level_module", ".detr.model.backbone")
# Dense heads on ViTs read this many of their blocks.
_N_BLOCKS = 4
# The strides of most networks divide this, so that the maps have exactly the ratio of the image.
_STRIDE = 32


class ScoresOfQueries(nn.Module):
    """A network of queries, each with a class and a mask, as a network that scores every pixel.

    The score of a class at a pixel is the sum, over the queries, of the probability of the class times the mask there:
    the library's own semantic map. The network returns its logarithm, whose softmax is the score divided by the sum.

    Attributes:
        model: The network of the library.
        task_tokens: int64 (1, N), the task for networks that can do several; None for the others.
    """

    def __init__(self, model: nn.Module, task_tokens: Sequence[int] | None = None) -> None:
        super().__init__()
        if hasattr(model, "criterion"):  # the library's training loss, which has parameters and buffers of its own
            del model.criterion
        self.model = model
        # The features of stages end where the queries come in: their masks are no features.
        self.stages_end = _last_without_queries(self)
        tokens = None if task_tokens is None else torch.tensor([list(task_tokens)])
        self.register_buffer("task_tokens", tokens, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithm of the scores, (B, C, h, w), for images (B, 3, H, W)."""
        task: Any = self.task_tokens
        output: Any = self.model(images) if task is None else self.model(images, task.expand(len(images), -1))
        if "pred_masks" in output:  # DETR
            classes, masks = output["logits"], output["pred_masks"]
        else:
            classes, masks = output["class_queries_logits"], output["masks_queries_logits"]
        with torch.autocast(images.device.type, enabled=False):  # small scores would vanish in half precision
            scores = torch.einsum("bqc,bqhw->bchw", classes.float().softmax(dim=-1)[..., :-1], masks.float().sigmoid())
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()

    @property
    def class_layer(self) -> str:
        """Name of the layer that classifies queries."""
        return f"model.{_class_predictor_name(self.model)}"

    def replace_classes(self, n_classes: int, generator: torch.Generator) -> None:
        """Replace the layer that classifies queries by a new one for other classes.

        Args:
            n_classes: The new number of classes, without "no object".
            generator: On the CPU; draws the weights, from the distribution that `torch.nn.Linear` uses.
        """
        old: Any = self.get_submodule(self.class_layer)
        new = nn.Linear(old.in_features, n_classes + 1, device=old.weight.device, dtype=old.weight.dtype)
        bound = 1 / math.sqrt(old.in_features)
        with torch.no_grad():
            for parameter in (new.weight, new.bias):
                parameter.copy_(bound * (2 * torch.rand(parameter.shape, generator=generator) - 1))
        self.set_submodule(self.class_layer, new)


def _last_without_queries(network: nn.Module) -> str | None:
    """Return the name of the last layer that knows nothing of the queries, if the network has one."""
    config: Any = getattr(network.model, "config", None)
    if hasattr(config, "num_blocks"):  # EoMT, whose last blocks take the queries as further tokens
        return f"model.layers.{config.num_hidden_layers - config.num_blocks - 1}"
    return next((name for name, _ in network.named_modules() if name.endswith(_PIXEL_LEVEL)), None)


def _class_predictor_name(model: nn.Module) -> str:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found: str = next(name for name in reversed(linear) if name.rpartition(".")[2] in _CLASS_PREDICTORS)
    return found


class Layout(NamedTuple):
    """Where the maps are in what a network without a head returns.

    Attributes:
        kept: Positions of the maps among all that it returns, the finest map first.
        multiple: Height and width of the patches of a network of one stride, of which sides must be multiples. For a
            network of several strides that ignores what is left over at the right and bottom, the largest stride.
        n_prefix_tokens: Tokens before those of the patches, such as the class token and registers.
        channels_last: Whether the maps are (B, h, w, D).
    """

    kept: tuple[int, ...]
    multiple: tuple[int, int] = (1, 1)
    n_prefix_tokens: int = 0
    channels_last: bool = False


class BackboneMaps(nn.Module):
    """A network without a head, as a network that returns a tuple of maps.

    These are the last map of every stride; for a network of one stride, such as a ViT, the maps of four evenly spaced
    blocks. Tokens that are not patches (class, registers, distillation, detection) are left out.

    Attributes:
        model: The network of the library; it returns ``feature_maps``, or else ``hidden_states``.
        layout: Where the maps are.
    """

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.model = model
        self.layout = layout

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return maps (B, D, h, w) for images (B, 3, H, W).

        Raises:
            ValueError: The network would ignore pixels at the right or bottom.
        """
        (height, width), (rows, columns) = images.shape[2:], self.layout.multiple
        if height % rows or width % columns:
            raise ValueError(f"height and width must be multiples of {rows} and {columns}")
        states = _states(self.model, images)
        return tuple(_as_map(states[position], (height, width), self.layout) for position in self.layout.kept)


def find_layout(model: Any) -> Layout:
    """Find out, by running a network of the library without a head, where its maps are.

    The image is not square. If the network refuses that, it is of the size that its config names.

    Raises:
        ValueError: It does not return maps.
        Exception: Whatever it raises if it refuses images of both sizes.
    """
    patch = _pair(getattr(model.config, "patch_size", None)) or (1, 1)
    states, size = _first_states(model, patch)
    if {state.dim() for state in states} == {3}:
        n_suffix = int(getattr(model.config, "num_detection_tokens", 0))
        n_prefix = states[-1].shape[1] - n_suffix - (size[0] // patch[0]) * (size[1] // patch[1])
        # A grid of patches is known only for networks that do not shrink it.
        if patch == (1, 1) or n_prefix < 0 or len({state.shape[1] for state in states}) > 1:
            raise ValueError("it returns tokens of several strides, which cannot be arranged in maps")
        return Layout(_evenly_spaced(1, len(states)), patch, n_prefix)
    if {state.dim() for state in states} != {4}:
        raise ValueError("it returns neither maps nor the tokens of patches")
    channels_last = all(_is_channels_last(state, size) for state in states)
    sizes = [tuple(state.shape[1:3] if channels_last else state.shape[2:]) for state in states]
    if len(set(sizes)) > 1:
        last_of_size = {one: position for position, one in enumerate(sizes)}
        layout = Layout(tuple(sorted(last_of_size.values())), channels_last=channels_last)
        strides = [size[0] // sizes[position][0] for position in layout.kept]
        return layout._replace(multiple=(max(strides),) * 2) if _drops_pixels(model, layout, strides, size) else layout
    return Layout(_evenly_spaced(0 if _is_backbone(model) else 1, len(sizes)), patch, channels_last=channels_last)


def _drops_pixels(model: nn.Module, layout: Layout, strides: Sequence[int], size: tuple[int, int]) -> bool:
    """Return whether maps leave out the pixels that are left over where the stride does not divide a side."""
    larger = size[0] + _STRIDE - 1, size[1] + _STRIDE - 1
    try:
        with torch.no_grad():
            maps = BackboneMaps(model, layout)(torch.zeros(1, 3, *larger))
    except Exception:  # it takes some sizes only, which are found out when it is read
        return False
    return any(one.shape[2] * stride < larger[0] for one, stride in zip(maps, strides, strict=True))


def _pair(size: object) -> tuple[int, int] | None:
    """Return the height and width that a config gives as one number or as two; None if it gives neither."""
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


def _first_states(model: Any, patch: tuple[int, int]) -> tuple[list[Tensor], tuple[int, int]]:
    """Return the states for an image, and its size."""
    height, width = (side * math.ceil(_STRIDE / side) for side in patch)
    size = (2 * height, 3 * width)
    with torch.no_grad():
        try:
            return _states(model, torch.zeros(1, 3, *size)), size
        except Exception:  # networks that take one size only say so in various ways
            only_size = _pair(getattr(model.config, "image_size", None))
            if only_size is None:
                raise
            return _states(model, torch.zeros(1, 3, *only_size)), only_size


def _states(model: Any, images: Tensor) -> list[Tensor]:
    """Return all maps or tokens of a network, the last ones after its last normalization."""
    parameters = inspect.signature(type(model).forward).parameters
    # Without this, a ViT takes images of one size only.
    options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}
    if _is_backbone(model):
        return list(model(images, **options)["feature_maps"])
    output = model(images, output_hidden_states=True, **options)
    *states, last = output["hidden_states"]
    final = output["last_hidden_state"]
    return [*states, final if final.shape == last.shape else last]


def _is_backbone(model: Any) -> bool:
    """Return whether a network is one of `AutoBackbone`."""
    return hasattr(model, "out_features")


def _as_map(state: Tensor, size: tuple[int, int], layout: Layout) -> Tensor:
    if state.dim() == 4:
        return state.movedim(-1, 1) if layout.channels_last else state
    height, width = size[0] // layout.multiple[0], size[1] // layout.multiple[1]
    patches = state[:, layout.n_prefix_tokens : layout.n_prefix_tokens + height * width]
    return patches.transpose(1, 2).reshape(len(state), state.shape[2], height, width)


def _is_channels_last(state: Tensor, size: tuple[int, int]) -> bool:
    """Return whether the first two of three dimensions, and not the last two, have the ratio of the image."""
    _, first, second, third = state.shape
    return first * size[1] == second * size[0] and second * size[1] != third * size[0]


def _evenly_spaced(n_embeddings: int, n_states: int) -> tuple[int, ...]:
    """Return the positions of the last block and of three others at equal distances, after the embeddings."""
    n_blocks = n_states - n_embeddings
    ends = {math.ceil(n_blocks * number / _N_BLOCKS) for number in range(1, _N_BLOCKS + 1)}
    return tuple(n_embeddings + end - 1 for end in sorted(ends))
