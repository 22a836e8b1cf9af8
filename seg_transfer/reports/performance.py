"""The words for actual performance: mIoU after fine-tuning, unless published pairs hold something else."""

from __future__ import annotations

import re
from dataclasses import dataclass

POINTS = 100
"""Points of performance: what a fraction in [0, 1] is multiplied by."""
# What stands before and after a word that is no part of a name.
_WHOLE = r"(?<![\w.-]){}(?![\w-]|\.\w)"


@dataclass(frozen=True)
class Performance:
    """What the column miou of pairs holds.

    Attributes:
        name: Name of the measure.
        how: How a source gets it.
        use: What one does with the source of a target.
    """

    name: str = "mIoU"
    how: str = "after fine-tuning"
    use: str = "fine-tune"

    def words(self, text: str) -> str:
        """Rewrite a text that is about mIoU after fine-tuning; where that is the performance, nothing changes.

        Names that contain these words stay as they are.

        Example:
            >>> Performance("accuracy").words("best mIoU after fine-tuning: net_mIoU")
            'best accuracy after fine-tuning: net_mIoU'
        """
        for ours, theirs in ((MIOU.name, self.name), (MIOU.how, self.how), (MIOU.use, self.use)):
            text = re.sub(_WHOLE.format(re.escape(ours)), theirs.replace("\\", r"\\"), text)
        return text

    def caption(self, text: str) -> str:
        """Rewrite a text as `words` does, and begin it with a capital unless it begins with a word of its own case.

        Example:
            >>> Performance("accuracy").caption("mIoU of every pair"), MIOU.caption("mIoU of every pair")
            ('Accuracy of every pair', 'mIoU of every pair')
        """
        rewritten = self.words(text)
        return rewritten if rewritten.startswith(text[:1]) else rewritten[:1].upper() + rewritten[1:]


MIOU = Performance()
