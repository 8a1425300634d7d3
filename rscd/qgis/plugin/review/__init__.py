"""The review panel: order of the changes, reviews, and the two dates."""
