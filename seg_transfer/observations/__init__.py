"""What a transferability metric sees: a pixel sample, the observations at its pixels, and their moments."""

from seg_transfer.observations._blocks import FloatArray, IntArray, add_by_key, keyed_blocks
from seg_transfer.observations._moments import Moments, MomentStatistics
from seg_transfer.observations._records import N_GROUPS, Observations, PixelSample, image_groups

__all__ = [
    "N_GROUPS",
    "FloatArray",
    "IntArray",
    "MomentStatistics",
    "Moments",
    "Observations",
    "PixelSample",
    "add_by_key",
    "image_groups",
    "keyed_blocks",
]
