"""The review panel: the order of the changes, the answers, and the two dates."""
