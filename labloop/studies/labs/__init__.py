"""Labs without a lab: landscapes that are known, reached by name."""
