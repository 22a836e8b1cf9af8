"""Encodings of label maps, one per file: which raw value of a pixel is which class, and how raw values are read.

A further encoding is one file with a subclass of `LabelEncoding`, and its name in `Labels`.
"""

from typing import Annotated

from pydantic import Field

from seg_transfer.data.encodings.color import ColorLabels
from seg_transfer.data.encodings.mat import MatLabels
from seg_transfer.data.encodings.panoptic import PanopticLabels
from seg_transfer.data.encodings.values import ValueLabels

Labels = Annotated[ValueLabels | ColorLabels | MatLabels | PanopticLabels, Field(discriminator="encoding")]

__all__ = ["ColorLabels", "Labels", "MatLabels", "PanopticLabels", "ValueLabels"]
