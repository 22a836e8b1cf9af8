"""Looks at images and label maps as people have them, and finds out how they are to be read; or says what is open.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    ...     Image.fromarray(photo).save(Path(folder, "a.png"))
    ...     Image.fromarray(np.eye(32, dtype=np.uint8).repeat(2, 1)[:, :32] * 255).save(Path(folder, "a_mask.png"))
    ...     found = inspect_folders(Path(folder), Path(folder))
    >>> found.manifest.classes, found.notes, found.doubts
    (('background', 'foreground'), ('two values, 0 and 255: a binary mask',), ())
"""

from seg_transfer.data.inspection.answers import Answers, parse_answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.folders import Inspection, inspect_folders

__all__ = ["Answers", "Doubt", "Inspection", "inspect_folders", "parse_answers"]
