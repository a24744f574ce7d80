"""The command line: one call to a public verb per command.

Exit codes: 0 done, 1 something you can mend (the message says how), 2 wrong usage, 70 a fault of labloop's own.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from labloop.runtime.allowance import allowed

if TYPE_CHECKING:
    from cyclopts import App


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # labloop's matrices are small: a second thread mostly waits for the first, and takes the core from whoever else has work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from cyclopts import CycloptsError

    from labloop.cli.progress import err
    from labloop.cli.show import complain
    from labloop.errors import LabloopError

    app = assembled()
    told = list(sys.argv[1:] if arguments is None else arguments) or ["next"]
    if said := _whose(told):
        complain(said)
        return 2
    try:
        app(told, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return 2
    except LabloopError as error:
        complain(error)
        return 1
    except BrokenPipeError:  # the reader of our output has seen enough, as in `labloop … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        complain(
            f"{error.filename or 'the system'}: {error.strerror}; free the disk, mend the permissions or choose another folder"
        )
        return 1
    except KeyboardInterrupt:
        complain("stopped; run the same command again to go on where it stopped")
        return 130
    except Exception as error:  # noqa: BLE001  (the last line of defence: a fault of ours must not look like the user's)
        err.print(traceback.format_exc(), end="")
        if module := _plugin_in(error):
            complain(f"this is a fault of the plug-in module {module}, see the lines above: mend its code")
            return 1
        complain("this is a fault of labloop, not of yours: please report it with the lines above")
        return 70
    return 0


def _plugin_in(error: Exception) -> str:
    """Name the allowed module that an error came through, the innermost one; '' where it is all labloop's."""
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((name for name in reversed(modules) if name in allowed()), "")


def _whose(told: Sequence[str]) -> str:
    """Say how a file's campaign is named where it was not, or in the order of the other commands; '' where nothing is amiss."""
    if told[0] not in ("ingest", "correct") or any(one.startswith(("-c", "--campaign", "-h", "--help")) for one in told):
        return ""
    plain = list(takewhile(lambda one: not one.startswith("-"), told[1:]))  # what follows may be an option's own
    files = [one for one in plain if Path(one).is_file()]
    file, name = (files or ["FILE.csv"])[0], next((one for one in plain if one not in files and "." not in one), "CAMPAIGN")
    known = "" if name != "CAMPAIGN" else "; labloop status lists them"
    return f"say which campaign the file belongs to: labloop {told[0]} {file} -c {name}{known}"


def assembled() -> App:
    """Give the app with every command; their modules join it when they are imported."""
    import labloop.cli.decide
    import labloop.cli.exchange
    import labloop.cli.here
    import labloop.cli.insight
    import labloop.cli.ledger
    import labloop.cli.methods
    import labloop.cli.quality
    import labloop.cli.schedule
    import labloop.cli.serve.command
    import labloop.cli.verdict  # noqa: F401
    from labloop.cli.app import app

    return app


def run() -> None:
    """Entry point of the `labloop` command."""
    sys.exit(main())
