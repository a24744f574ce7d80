"""What leaves labloop for others: order sheets, worklists, and all measurements as one tidy table."""
