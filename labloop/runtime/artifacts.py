"""Files that can be made again, such as trained models: in a folder, or at a URL that several machines share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from labloop.errors import LabloopError
from labloop.runtime.files import write_bytes


class Artifacts:
    """Named files below one place, each there whole or not at all.

    The place is a folder, or a URL that fsspec knows (`s3://bucket/labloop`, `sftp://host/folder`), so that a worker on another
    machine goes on where this one stopped. A URL needs the extra `remote`, and the package of its own that fsspec names.
    """

    def __init__(self, place: Path | str) -> None:
        """
        Raises:
            LabloopError: the URL's packages are not installed, or nobody knows its kind.
        """
        self.place = str(place)
        self._files: Any = None
        if "://" in self.place:
            try:
                from fsspec.core import url_to_fs

                self._files, self._root = url_to_fs(self.place)
            except ImportError as error:
                raise LabloopError(f"{self.place}: {error}: pip install 'labloop-toolkit[remote]'") from error
            except ValueError as error:
                raise LabloopError(f"{self.place}: is no place for artifacts: {error}; name a folder or another URL") from error

    def read(self, name: str) -> bytes | None:
        """Give a file's bytes, None where there is none.

        Raises:
            LabloopError: the place cannot be read.
        """
        try:
            return Path(self.place, name).read_bytes() if self._files is None else self._files.cat_file(f"{self._root}/{name}")  # type: ignore[no-any-return]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LabloopError(f"{self.place}/{name}: cannot be read: {error.strerror or error}") from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            LabloopError: the place cannot be written; an older file of the name stays as it was.
        """
        if self._files is None:
            write_bytes(Path(self.place, name), content)
            return
        path = f"{self._root}/{name}"
        unfinished = f"{path}.{os.getpid()}.tmp"
        try:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(unfinished, content)
            self._files.mv(unfinished, path)
        except OSError as error:
            raise LabloopError(f"{self.place}/{name}: cannot be written: {error.strerror or error}") from error
