"""What a transferability metric sees: a pixel sample, the observations at its pixels, and their moments."""

from seg_transfer.arrays import FloatArray, IntArray
from seg_transfer.observations._checks import check_matrix
from seg_transfer.observations._moments import Moments, MomentStatistics
from seg_transfer.observations._observations import N_GROUPS, Observations, image_groups, random_order
from seg_transfer.observations._pixel_sample import PixelSample

__all__ = [
    "N_GROUPS",
    "FloatArray",
    "IntArray",
    "MomentStatistics",
    "Moments",
    "Observations",
    "PixelSample",
    "check_matrix",
    "image_groups",
    "random_order",
]
