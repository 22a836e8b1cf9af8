"""How image files are read: orientation, range of values, and bands."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from seg_transfer.data.inspection.answers import Answers
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.inspection.image_evidence import UNREADABLE, ImageEvidence
from seg_transfer.data.inspection.wording import counted
from seg_transfer.data.record import check_same_size
from seg_transfer.errors import DataError

# A sensor that uses the top one of 16 bits uses the whole range.
_TOP_BIT = 2**15
# Of 256 gray levels, an image keeps less than a quarter if its values lie in less than a quarter of the range.
_NARROW = 1 / 4
# Orientations from this one on exchange height and width.
_FIRST_TURNED = 5

Block = dict[str, Any]


class HasSize(Protocol):
    """A label map whose size is known."""

    @property
    def file(self) -> str:
        """Its name in messages."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""


class Sized(NamedTuple):
    """A label map of which only the size counts."""

    file: str
    size: tuple[int, int]


Part = tuple[Block, list[str], list[Doubt]]


def conclude_reading(images: Sequence[ImageEvidence], masks: Sequence[HasSize], answers: Answers) -> Part:
    """Decide how images are read.

    Args:
        images: The image of every mask, in the same order.
        masks: The masks.
        answers: What is stated.

    Returns:
        The block ``images`` of a manifest, notes and doubts.

    Raises:
        DataError: All images are constant, orientations contradict each other, an image lacks a stated band, no range
            fits all images, or a mask has another size than its image.
    """
    if images and all(image.is_constant for image in images):
        raise DataError(f"{images[0].file}: all {len(images)} images hold one color each; look at the image files")
    block: Block = {}
    notes = _like_label_maps(images)
    doubts: list[Doubt] = []
    for part in (_orientation(images, masks, answers), _bands(images, answers), _range(images, answers)):
        block |= part[0]
        notes += part[1]
        doubts += part[2]
    _check_depths(images, answers, is_open=any(doubt.kind == "range" for doubt in doubts))
    if images and not any(doubt.kind == "exif" for doubt in doubts):
        _check_sizes(images, masks, applies_exif=block.get("exif") == "apply")
    return block, notes, doubts


def doubts_of_reading(images: Sequence[ImageEvidence], masks: Sequence[HasSize], answers: Answers) -> list[Doubt]:
    """Doubt how images are read, where they are read as usual unless stated otherwise.

    Args:
        images: Images whose label maps are known, as `conclude_reading` takes them.
        masks: The masks, in the same order.
        answers: What is stated.
    """
    try:
        block, notes, doubts = _orientation(images, masks, answers)
    except DataError:  # whatever the reading is, one of the files does not fit its mask, which is no doubt
        block, notes, doubts = {}, [], []
    if block.get("exif") == "apply" and not answers.exif:
        doubts = [Doubt("exif", notes[0], (("--exif apply", "as these label maps need"),))]
    more = () if answers.bands else _bands(images, answers)[2]
    return [*doubts, *more, *_range(images, answers)[2]]


def _like_label_maps(images: Sequence[ImageEvidence]) -> list[str]:
    """Say that images may be label maps, for those who exchanged both; drawings look so, too."""
    few = [image for image in images if (image.n_colors or 1) > 1]
    if not few:
        return []
    return [
        f"{few[0].file} has {few[0].n_colors} colors, as label maps have; exchange --images and --labels if these are "
        "the wrong way around"
    ]


def _orientation(images: Sequence[ImageEvidence], masks: Sequence[HasSize], answers: Answers) -> Part:
    if answers.exif:
        return {"exif": answers.exif}, [], []
    oriented = [image for image in images if image.orientation != 1]
    if not oriented:
        return {}, [], []
    votes: dict[str, str] = {}
    for image, mask in zip(images, masks, strict=True):
        turned = image.size[::-1]
        if image.orientation >= _FIRST_TURNED and turned != image.size and mask.size in (turned, image.size):
            votes.setdefault("apply" if mask.size == turned else "ignore", image.file)
    about = f"{counted(len(oriented), 'image')}, such as {oriented[0].file}, with an EXIF orientation"
    if len(votes) == 2:
        raise DataError(
            f"{votes['apply']}: its label map fits the picture turned by EXIF, but that of {votes['ignore']} fits it "
            "as stored; save both images without orientation"
        )
    if votes and all(image.orientation != UNREADABLE for image in oriented):
        reading = next(iter(votes))
        how = "turned by it" if reading == "apply" else "as stored"
        return {"exif": reading}, [f"{about}: label maps have the size of images {how}, which are read so"], []
    readings = (
        ("--exif apply", "label maps were drawn on the upright picture"),
        ("--exif ignore", "label maps were drawn on the stored pixels"),
    )
    damaged = next((image for image in oriented if image.orientation == UNREADABLE), None)
    if damaged:
        seen = f"{damaged.file}: its EXIF data are damaged, so its orientation is unknown (save it again)"
        return {}, [], [Doubt("exif", seen, (readings[1],))]
    among = f"{len(oriented)} of {counted(len(images), 'image')}"
    seen = f"{oriented[0].file}: EXIF orientation {oriented[0].orientation} ({among})"
    return {}, [], [Doubt("exif", seen, readings)]


def _check_sizes(images: Sequence[ImageEvidence], masks: Sequence[HasSize], *, applies_exif: bool) -> None:
    for image, mask in zip(images, masks, strict=True):
        size = image.size[::-1] if applies_exif and image.orientation >= _FIRST_TURNED else image.size
        check_same_size(mask.file, mask.size, image.file, size)


def _bands(images: Sequence[ImageEvidence], answers: Answers) -> Part:
    if answers.bands:
        for image in images:
            if max(answers.bands) > (n_stored := image.n_bands + image.has_alpha):
                raise DataError(
                    f"{image.file}: has {counted(n_stored, 'band')}, but --bands names band "
                    f"{max(answers.bands)}; name bands that every image has"
                )
        return {"bands": list(answers.bands)}, [], []
    for image in images:
        if image.n_bands not in (1, 3) and image.mode != "CMYK":
            return {}, [], [Doubt("bands", f"{image.file}: {image.n_bands} bands", _band_readings(image.n_bands))]
    return {}, [], []


def _band_readings(n_bands: int) -> tuple[tuple[str, str], ...]:
    if n_bands == 2:
        return (("--bands 1,1,1", "the first band, as gray"), ("--bands 2,2,2", "the second band, as gray"))
    return (
        ("--bands 1,2,3", "red, green and blue are the first three"),
        ("--bands 3,2,1", "these are blue, green and red"),
    )


def _range(images: Sequence[ImageEvidence], answers: Answers) -> Part:
    if answers.range:
        return {"range": list(answers.range)}, [], []
    deep = [image for image in images if (image.bits > 8 or image.is_float) and image.highest is not None]
    if not deep:
        return {}, [], []
    brightest = max(deep, key=lambda image: image.highest or 0)
    high, low = brightest.highest or 0.0, min(image.lowest or 0.0 for image in deep)
    values = f"values from {_plain(low)} to {_plain(high)} in {counted(len(deep), 'image')} of {brightest.bits} bits"
    readings: tuple[tuple[str, str], ...]
    if any(image.is_float for image in deep) or low < 0 or high > 2 * _TOP_BIT - 1:
        readings = ((f"--range {_plain(low)},{_plain(high)}", "those become black and white"),)
        return {}, [], [Doubt("range", f"{brightest.file}: {values}", readings)]
    is_narrow = high - low < _NARROW * high
    if high >= _TOP_BIT and not is_narrow:
        return {}, [f"{values}: 0 is black and 65535 white"], []
    top = max(2 ** int(high).bit_length() - 1, 255)
    readings = ((f"--range 0,{top}", f"{top} is white"), ("--range 0,65535", "65535 is white"))
    if is_narrow:
        readings = ((f"--range {_plain(low)},{_plain(high)}", "those become black and white"), readings[-1])
    empty = "which are nearly one gray from 0 to 65535" if is_narrow else "of which the upper half is empty"
    return {}, [], [Doubt("range", f"{brightest.file}: {values}, {empty}", readings)]


def _check_depths(images: Sequence[ImageEvidence], answers: Answers, *, is_open: bool) -> None:
    """Refuse a range that images of 8 bits cannot have, also where deep images beside them would need one."""
    shallow = next((image for image in images if image.bits <= 8 and not image.is_float), None)
    if shallow and answers.range and answers.range[1] > 255:
        stated = ",".join(map(_plain, answers.range))
        raise DataError(
            f"{shallow.file}: has {shallow.bits} bits, so --range {stated} would make it dark; leave out --range, or "
            "inspect images of 8 bits and of more bits apart"
        )
    deep = next((image for image in images if image.highest is not None), None)
    if shallow and deep and is_open and not answers.range:
        raise DataError(
            f"{deep.file}: has {deep.bits} bits and needs a --range, but {shallow.file} has {shallow.bits} bits, "
            "which none fits; store all images in 8 bits, or inspect those of more bits apart"
        )


def _plain(number: float) -> str:
    """Write a number exactly, and without ``.0``."""
    return repr(number).removesuffix(".0")
