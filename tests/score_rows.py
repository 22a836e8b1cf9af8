"""Stored scores of sources of one target, and their ranking."""

import numpy as np

from seg_transfer.evaluation import ranking_of


def row(score, error=0.5, seconds=1.0, groups=(1.0, -1.0, 0.5, -0.5)):
    """A stored score whose replicates spread as its standard error says."""
    spread = np.array(groups) / np.sqrt(3 * np.var(groups))
    return {
        "score": score,
        "standard_error": error,
        "replicates": None if error is None else (score + error * spread).tolist(),
        "seconds": seconds,
        "n_images": 40,
        "n_observations": 40_000,
    }


def by_gbc(**scores):
    return ranking_of("city", "gbc", {name: {"gbc": one} for name, one in scores.items()}, {"old": "weights missing"})
