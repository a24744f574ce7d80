"""A folder that the lab drops files into: what is whole is taken, read in a process of its own, and filed away."""
