"""Training schedules: the validated numbers that say how a network is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

Probability = Annotated[float, Field(ge=0, le=1)]
Arithmetic = Literal["float32", "float16", "bfloat16"]


class Schedule(BaseModel):
    """SGD with linear warm-up and polynomial decay over random scaled, cropped and flipped images.

    Attributes:
        steps: Number of optimization steps.
        batch_size: Images per step, over all processes together.
        learning_rate, momentum, weight_decay: Parameters of SGD.
        power: The learning rate at step t is learning_rate * (1 - t / steps) ** power.
        warmup_steps: Steps over which the learning rate rises linearly from a thousandth.
        scale_range: Lowest and highest factor on the image size at which the shorter side has the crop's shorter
            side; drawn log-uniformly.
        flip_probability: Probability of a horizontal flip.
        crop_size: Height and width of a training crop in pixels; None means the manifest's.
        checkpoint_every: Steps between checkpoints, from which a killed run resumes.
        mixed_precision: Train in float16 with loss scaling on CUDA, and in bfloat16 on CPUs with matrix units for it
            (AMX); all other CPUs train in float32.
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

    @field_validator("scale_range")
    @classmethod
    def _lowest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lowest factor must come first; swap the two")
        return value

    @property
    def arithmetics(self) -> tuple[Arithmetic, ...]:
        """Arithmetics that training may use; the machine determines which one."""
        return ("float32", "float16", "bfloat16") if self.mixed_precision else ("float32",)
