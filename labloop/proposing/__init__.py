"""From a dataset to picks: candidates, judge, selectors, and the pipeline that joins them. No ledger, no files, no clock."""
