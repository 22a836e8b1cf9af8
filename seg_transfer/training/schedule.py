"""Training schedules: the validated numbers that say how a network is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

Probability = Annotated[float, Field(ge=0, le=1)]
Arithmetic = Literal["float32", "float16", "bfloat16"]
# Fields that later versions added. Keys, cards and studies of earlier versions lack them.
_ADDED_FIELDS = ("optimizer", "head_learning_rate_factor", "layer_decay", "freeze")


class Schedule(BaseModel):
    """SGD or AdamW with linear warm-up and polynomial decay over random scaled, cropped and flipped images.

    Attributes:
        steps: Number of optimization steps.
        batch_size: Images per step, over all processes together.
        learning_rate, weight_decay: Parameters of the optimizer. AdamW decays no bias, norm, position embedding or
            class token; SGD decays every parameter.
        momentum: Of SGD; AdamW uses PyTorch's default betas.
        power: The learning rate at step t is learning_rate * (1 - t / steps) ** power.
        warmup_steps: Steps over which the learning rate rises linearly from a thousandth.
        scale_range: Lowest and highest factor on the image size at which the shorter side has the crop's shorter
            side; drawn log-uniformly.
        flip_probability: Probability of a horizontal flip.
        crop_size: Height and width of a training crop in pixels; None means the manifest's.
        checkpoint_every: Steps between checkpoints, from which a killed run resumes.
        mixed_precision: Train in float16 with loss scaling on CUDA, and in bfloat16 on CPUs that multiply it in
            hardware (AMX, AVX512_BF16); all other CPUs train in float32.
        optimizer: "sgd" or "adamw".
        head_learning_rate_factor: The new last layer learns at this multiple of the learning rate.
        layer_decay: Factor on the learning rate from each block or stage to the one before it; the head and what
            comes after the last block keep the whole rate (see `training.layers`).
        freeze: With "backbone", only the new last layer is trained, and all other weights and running statistics
            stay as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    momentum: Probability = 0.9
    weight_decay: NonNegativeFloat = 0.0005
    power: PositiveFloat = 0.9
    warmup_steps: NonNegativeInt = 0
    scale_range: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    flip_probability: Probability = 0.5
    crop_size: tuple[PositiveInt, PositiveInt] | None = None
    checkpoint_every: PositiveInt = 500
    mixed_precision: bool = True
    optimizer: Literal["sgd", "adamw"] = "sgd"
    head_learning_rate_factor: PositiveFloat = 1.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    freeze: Literal["none", "backbone"] = "none"

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out added fields that have their defaults, so that content keys stay valid across versions."""
        defaults = {name: type(self).model_fields[name].default for name in _ADDED_FIELDS}
        return {name: value for name, value in dump(self).items() if name not in defaults or value != defaults[name]}

    @field_validator("scale_range")
    @classmethod
    def _lowest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lowest factor must come first; swap the two")
        return value

    def at_rate(self, learning_rate: float | None) -> Schedule:
        """Return the schedule with another learning rate; None changes nothing."""
        return self if learning_rate is None else self.model_copy(update={"learning_rate": learning_rate})

    @property
    def distinguishes_head(self) -> bool:
        """Whether the new last layer is trained otherwise than the rest."""
        return self.freeze != "none" or self.head_learning_rate_factor != 1 or self.layer_decay != 1

    @property
    def arithmetics(self) -> tuple[Arithmetic, ...]:
        """Arithmetics that training may use; the machine determines which one."""
        return ("float32", "float16", "bfloat16") if self.mixed_precision else ("float32",)
