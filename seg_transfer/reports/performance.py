"""The words for actual performance: mIoU after fine-tuning, unless published pairs hold something else."""

from __future__ import annotations

from dataclasses import dataclass


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

        Example:
            >>> Performance("accuracy").words("best mIoU after fine-tuning")
            'best accuracy after fine-tuning'
        """
        for ours, theirs in ((MIOU.name, self.name), (MIOU.how, self.how), (MIOU.use, self.use)):
            text = text.replace(ours, theirs)
        return text


MIOU = Performance()
