"""Models that judge: a belief about y from the dataset, and the networks and features that methods share with them."""
