"""From a file of the lab to checked measurements: find its reader, choose read and plate, parse the cells, resolve the designs.

Nothing here knows the ledger or trains anything: `read_assay` is a function of a file, the campaign's configuration and what
labloop has laid out so far.
"""

from __future__ import annotations

from labloop.assays.ingest.assay import AssayFile
from labloop.assays.ingest.explain import Explanation, explain_assay
from labloop.assays.ingest.file import read_assay
from labloop.assays.ingest.options import ReadOptions
from labloop.assays.ingest.read import printable, sha256_of
from labloop.plates.statuses import STATUSES

__all__ = ["STATUSES", "AssayFile", "Explanation", "ReadOptions", "explain_assay", "printable", "read_assay", "sha256_of"]
