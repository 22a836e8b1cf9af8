"""Encodings of label maps, one per file: how raw values are read, and which raw value is which class.

To add an encoding, add a file with a subclass of `LabelEncoding`, and add the subclass to `Labels`.
"""

from typing import Annotated

from pydantic import Field

from seg_transfer.data.encodings.coco import CocoLabels
from seg_transfer.data.encodings.color import ColorLabels
from seg_transfer.data.encodings.labelme import LabelmeLabels
from seg_transfer.data.encodings.mat import MatLabels
from seg_transfer.data.encodings.panoptic import PanopticLabels
from seg_transfer.data.encodings.values import ValueLabels

Labels = Annotated[
    ValueLabels | ColorLabels | MatLabels | PanopticLabels | CocoLabels | LabelmeLabels,
    Field(discriminator="encoding"),
]

__all__ = ["CocoLabels", "ColorLabels", "LabelmeLabels", "Labels", "MatLabels", "PanopticLabels", "ValueLabels"]
