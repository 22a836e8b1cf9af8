"""Looks at images and label maps as people have them, and finds out how they are to be read; or says what is open."""

from seg_transfer.data.inspection.answers import Answers, parse_answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.folders import Inspection, inspect_folders

__all__ = ["Answers", "Doubt", "Inspection", "inspect_folders", "parse_answers"]
