"""From a file of the lab to checked measurements: read the text, find the columns, parse the cells, resolve the designs.

Nothing here knows the ledger or trains anything: `read_assay` is a function of a file, the campaign's configuration and what
labloop has laid out so far.
"""

from __future__ import annotations

from labloop.ingest.assay import AssayFile, read_assay
from labloop.ingest.parse import STATUSES
from labloop.ingest.read import sha256_of

__all__ = ["STATUSES", "AssayFile", "read_assay", "sha256_of"]
