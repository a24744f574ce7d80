"""Quality control of plates: figures, flags, normalisation. Pure functions; `labloop.assays.readings` joins them to the ledger.

Nothing is imported here: a configuration names rules and methods (`rules`) without loading the statistics.
"""
