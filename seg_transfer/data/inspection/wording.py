"""How messages count things."""


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, in the singular or plural.

    Example:
        >>> counted(1, "image"), counted(2, "class"), counted(0, "label map")
        ('1 image', '2 classes', '0 label maps')
    """
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number} {thing}{ending}"
