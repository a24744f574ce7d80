"""What a process does with memory that is free again."""

import os
import subprocess
import sys

import pytest

from labloop.runtime import memory

STEPS = """
import resource
from labloop.runtime.memory import keep_freed
if {kept}:
    keep_freed()
for step in range(101):
    if step == 1:  # what the first step touches is new whatever happens
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
def test_what_a_step_frees_the_next_one_has_again_though_dask_wants_it_given_back():
    def touched(kept: bool) -> int:
        environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
        asked = [sys.executable, "-c", STEPS.format(kept=kept)]
        return int(subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout)

    pages = 100 * 2**22 // os.sysconf("SC_PAGE_SIZE")
    assert touched(kept=True) < pages / 50
    assert touched(kept=False) > pages / 2


@pytest.mark.parametrize("library", [object(), None], ids=["another C library", "none"])
def test_elsewhere_nothing_changes(monkeypatch, library):
    def opened(_: None) -> object:
        if library is None:
            raise OSError
        return library

    monkeypatch.setattr(memory.ctypes, "CDLL", opened)
    memory.keep_freed.__wrapped__()
