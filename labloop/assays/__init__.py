"""From a file of the lab to readings that a campaign can use: ingest, quality control, normalisation."""
