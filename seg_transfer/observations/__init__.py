"""What a transferability metric sees: a pixel sample, the observations at its pixels, and their moments."""

from seg_transfer.observations._blocks import BLOCK_ROWS, FloatArray, IntArray, add_by_key, keyed_blocks
from seg_transfer.observations._checks import check_matrix
from seg_transfer.observations._moments import Moments, MomentStatistics
from seg_transfer.observations._observations import N_GROUPS, Observations, image_groups, random_order
from seg_transfer.observations._pixel_sample import PixelSample

__all__ = [
    "BLOCK_ROWS",
    "N_GROUPS",
    "FloatArray",
    "IntArray",
    "MomentStatistics",
    "Moments",
    "Observations",
    "PixelSample",
    "add_by_key",
    "check_matrix",
    "image_groups",
    "keyed_blocks",
    "random_order",
]
