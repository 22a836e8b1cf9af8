"""Numbers of a ranking of sources as text."""

import math


def with_error(value: float, error: float) -> str:
    """Format a number to the digits that its standard error supports.

    Example:
        >>> with_error(-12.34567, 0.0212), with_error(-1234.5, math.nan), with_error(3.0, 0.0)
        ('-12.346 ± 0.021', '-1234.5', '3 ± 0')
    """
    if math.isnan(error) or error <= 0:
        return f"{value:.5g}" + (" ± 0" if error == 0 else "")
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def in_millions(count: int) -> str:
    """Format a number of parameters to three digits, in millions, or in thousands where it is smaller.

    Args:
        count: The number.

    Returns:
        The number and "M" or "k"; fewer than a thousand as they are.

    Example:
        >>> in_millions(66_013_379), in_millions(4_652_008), in_millions(15_872), in_millions(210)
        ('66.0 M', '4.65 M', '15.9 k', '210')
    """
    if count < 1000:
        return str(count)
    return f"{three_digits(count / 1e6)} M" if count >= 999_500 else f"{three_digits(count / 1e3)} k"


def three_digits(value: float) -> str:
    """Format a positive number to three digits; larger ones to an integer.

    Args:
        value: The number.

    Returns:
        The digits.

    Example:
        >>> three_digits(66.013), three_digits(187.4), three_digits(3.8), three_digits(1069.4)
        ('66.0', '187', '3.80', '1069')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
