"""Constants of OpenMSIStream's programs, and the search for configuration files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

#: Names the folder that `--config NAME` looks in.
CONFIG_FOLDER = "OPENMSISTREAM_CONFIG_FILE_DIR"


@dataclass(frozen=True)
class RunConstants:
    """Values that several programs share."""

    CONFIG_FILE_EXT: str = ".config"
    DEFAULT_TOPIC_NAME: str = "test"
    DEFAULT_CHUNK_SIZE: int = 524288
    DEFAULT_MAX_UPLOAD_QUEUE_MEGABYTES: int = 500
    DEFAULT_UPLOAD_REGEX: re.Pattern[str] = re.compile(r"^((?!(\.|.*.log))).*$")
    DEFAULT_WATCHDOG_LAG_TIME: int = 3
    DEFAULT_MAX_WAIT_PER_DECRYPT: float = 5.0
    DEFAULT_MAX_INITIAL_WAIT_PER_DECRYPT: float = 60.0
    DEFAULT_COLLECTION_NAME: str = "WholeTale Catalog"
    N_DEFAULT_DOWNLOAD_THREADS: int = 2
    N_DEFAULT_UPLOAD_THREADS: int = 2
    CONFIG_FILE_DIR: Path = field(default_factory=lambda: Path(os.environ.get(CONFIG_FOLDER, ".")).resolve())


RUN_CONST = RunConstants()


def find_config(name: str | os.PathLike[str]) -> Path:
    """The configuration file of this path or name.

    Parameters
    ----------
    name
        A path, or the name of a file in this folder or in the one that `OPENMSISTREAM_CONFIG_FILE_DIR` names, with or
        without `.config`.

    Raises
    ------
    FileNotFoundError
        No such file; the text says where it was looked for.
    """
    folders = [Path.cwd()]
    if os.environ.get(CONFIG_FOLDER):
        folders.append(Path(os.environ[CONFIG_FOLDER]))
    looked = [folder / f"{name}{ending}" for folder in folders for ending in ("", RUN_CONST.CONFIG_FILE_EXT)]
    for path in looked:
        if path.is_file():
            return path.resolve()
    places = ", ".join(f"`{path}`" for path in looked)
    raise FileNotFoundError(f"no configuration file `{name}`: looked for {places}")
