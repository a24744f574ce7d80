"""Where things run: files, workers, devices, checkpoints, artifacts, progress, the way to Prefect's API."""
