"""One campaign's memory and the verbs of its rounds, on the ledger; the façade and the schedule stand above."""
