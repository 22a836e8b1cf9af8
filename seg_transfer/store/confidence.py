"""How much a lead in score has meant in published studies: data_manifests/published/confidence.json, which is shipped.

The file maps a metric to its slope (`seg_transfer.evaluation.fit_slope`, over the rival sources of all targets), the
number of pairs of rivals and the studies that it was fitted on, and the calibration error on left-out studies.
"""

import json

from seg_transfer.errors import ResultsError
from seg_transfer.resources import shipped

CONFIDENCE_FILE = "data_manifests/published/confidence.json"


def published_slope(metric: str) -> float | None:
    """Read the slope of a metric.

    Args:
        metric: Name of the metric.

    Returns:
        The slope of `seg_transfer.evaluation.win_probability`. None where fewer than two published studies have the
        metric, so that its error on a left-out study is unknown; and where the slope is not above 0, so that a lead
        promises nothing.

    Raises:
        ResultsError: The shipped file is missing or damaged.

    Example:
        >>> published_slope("no_such_metric") is None
        True
    """
    path = shipped(CONFIDENCE_FILE)
    try:
        fitted = json.loads(path.read_text(encoding="utf-8")).get(metric)
        if fitted is None:
            return None
        slope, error = float(fitted["slope"]), fitted["ece"]
        return None if error is None or slope <= 0 else slope
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{path}: not the table of metrics and slopes ({type(error).__name__}: {error}); reinstall seg_transfer"
        ) from error
