"""One round in Python: history in, plate out, results in, comparison. Run from the repository's root."""

import pandas as pd

from labloop import Campaign
from labloop.studies.simulate import open_lab

campaign = Campaign.create("config/campaigns/tfbind8.yaml", home="lab")

# What was measured so far: any CSV; column names are mapped in the campaign's YAML.
campaign.ingest("examples/data/tfbind8_start.csv")

# Train, choose, lay out, export. Run again after a crash: finished trainings are not redone, the batch is the same.
batch = campaign.propose("config/rounds/quick.yaml", out="out")
print(batch.picks[["arm", "proposer", "design_id", "mean", "std", "nearest_distance"]])

# The lab fills in out/tfbind8-R01_assay.csv. Here a simulated one does.
form = pd.read_csv("out/tfbind8-R01_assay.csv", dtype=str)
plate = pd.read_csv("out/tfbind8-R01_platemap.csv", dtype=str)
form["value"] = open_lab("tfbind8").measure(plate[["dna"]], seed=0)["value"].astype(str).to_numpy()
form.to_csv("measured.csv", index=False)

campaign.ingest("measured.csv")
comparison = campaign.close()
print(comparison.sentence)
campaign.report("report.html")
