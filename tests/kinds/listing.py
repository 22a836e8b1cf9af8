"""All kinds of the table."""

from kinds.kind import Kind
from kinds.of_mmseg import MMSEG
from kinds.of_others import FACTORIES, SMP, TIMM, TORCHVISION
from kinds.of_transformers import TRANSFORMERS

KINDS: dict[str, Kind] = {
    f"{kind.library}: {kind.model}": kind for kind in [*MMSEG, *TRANSFORMERS, *TIMM, *SMP, *TORCHVISION, *FACTORIES]
}
