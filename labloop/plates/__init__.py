"""Wells: what a plate is, where each design lies on it, and the files that people, vendors and robots get of it."""
