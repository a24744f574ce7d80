"""What would have happened: simulated campaigns, benchmarks, the demo, and the simulated labs that they run on."""
