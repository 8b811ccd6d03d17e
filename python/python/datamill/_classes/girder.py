"""Files on their way to a Girder server. It needs the package `girder-client`: `pip install "datamill[girder]"`."""

from __future__ import annotations

import hashlib
import importlib
import json
import mimetypes
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import _engine
from .processor import DataFileStreamProcessor
from .run_const import RUN_CONST


class GirderUploadStreamProcessor(DataFileStreamProcessor):
    """Puts each file of a topic on a Girder server, as an item in folders like those of the topic.

    An item has metadata: the topic, the SHA-256 of its file as `checksum`, and what you add. A file whose item has its
    checksum is left as it is, so that a file that comes again after a crash does not do so twice.

    Parameters
    ----------
    girder_api_url
        Address of the API of the server, for example `https://girder.example.org/api/v1`.
    girder_api_key
        A key of the API that may write.
    config_file
        The configuration file.
    topic_name
        The topic.
    girder_root_folder_id
        Id of the folder that files go to. With it, the two that follow have no meaning.
    collection_name
        The collection; it is made where it is missing.
    girder_root_folder_path
        Path of the folder in the collection, which is made where it is missing; `{collection}/{topic}` where none is given.
    metadata
        More metadata for each folder and item: a dictionary, or a JSON object as a text.
    replace_existing
        Whether a file takes the place of one with its name and another content. Else a warning names it, and it stays.
    **other_kwargs
        As for `DataFileStreamProcessor`.
    """

    def __init__(
        self,
        girder_api_url: str,
        girder_api_key: str,
        config_file: Path | str | None,
        topic_name: str,
        *,
        girder_root_folder_id: str | None = None,
        collection_name: str | None = None,
        girder_root_folder_path: str | None = None,
        metadata: Mapping[str, Any] | str | None = None,
        replace_existing: bool = False,
        **other_kwargs: Any,
    ) -> None:
        self.__url, self.__key = girder_api_url, girder_api_key
        self.__clients = threading.local()
        self.__folders: dict[str, str] = {}
        self.__making = threading.Lock()
        self.__replace = replace_existing
        more = json.loads(metadata) if isinstance(metadata, str) else metadata or {}
        version = f"datamill/{_engine.__version__}"
        self.__metadata = {"OpenMSIStreamVersion": version, "KafkaTopic": topic_name, **more}
        super().__init__(config_file, topic_name, **other_kwargs)
        if girder_root_folder_id is None:
            collection = collection_name or RUN_CONST.DEFAULT_COLLECTION_NAME
            path = girder_root_folder_path or f"{collection}/{topic_name}"
            girder_root_folder_id = self.__make_root(collection, path)
        self.__folders[""] = girder_root_folder_id

    @property
    def girder_client(self) -> Any:
        """The client of this thread, which is logged in."""
        client = getattr(self.__clients, "client", None)
        if client is None:
            try:
                girder_client = importlib.import_module("girder_client")
            except ModuleNotFoundError as error:
                if error.name != "girder_client":
                    raise
                raise ModuleNotFoundError(
                    'uploads to Girder need the package girder-client: pip install "datamill[girder]"', name=error.name
                ) from None
            client = girder_client.GirderClient(apiUrl=self.__url)
            client.authenticate(apiKey=self.__key)
            self.__clients.client = client
        return client

    def _process_downloaded_data_file(self, datafile: Any, lock: Any) -> Exception | None:
        return self.__process_downloaded_data_file(datafile)

    # programs of users call this one by its mangled name, to add metadata to the item of a file
    def __process_downloaded_data_file(
        self, datafile: Any, metadata: Mapping[str, Any] | None = None
    ) -> Exception | None:
        """Puts a file on the server.

        Parameters
        ----------
        datafile
            The file.
        metadata
            More metadata for its item.

        Returns
        -------
        Exception or None
            Why the file could not be put there.
        """
        try:
            self.__put(datafile, self.__folder(datafile.subdir_str), metadata or {})
        except Exception as error:
            return error
        return None

    def __put(self, datafile: Any, folder: str, metadata: Mapping[str, Any]) -> None:
        checksum = hashlib.sha256(datafile.getbuffer()).hexdigest()
        client = self.girder_client
        item = next(iter(client.listItem(folder, name=datafile.filename)), None)
        files = [] if item is None else list(client.listFile(item["_id"]))
        there = None if item is None else item.get("meta", {}).get("checksum", {}).get("sha256")
        # one whose upload was cut off before its metadata came
        is_same = there == checksum or (there is None and [file["size"] for file in files] == [datafile.size])
        if files and not is_same and not self.__replace:
            self.logger.warning(
                f"{datafile.relative_filepath} is on the Girder server with another content, and stays as it is there "
                "(`replace_existing` replaces it)"
            )
            return
        if item is None:
            kind = mimetypes.guess_type(datafile.filename)[0]
            with datafile.open() as stream:
                sent = client.uploadStreamToFolder(folder, stream, datafile.filename, datafile.size, mimeType=kind)
            item = {"_id": sent["itemId"]}
        elif not files:
            with datafile.open() as stream:
                client.uploadFile(item["_id"], stream, datafile.filename, datafile.size)
        elif not is_same:
            with datafile.open() as stream:
                client.uploadFileContents(files[0]["_id"], stream, datafile.size)
        if there != checksum or metadata:
            client.addMetadataToItem(item["_id"], {**self.__metadata, **metadata, "checksum": {"sha256": checksum}})

    def __folder(self, subdir: str) -> str:
        """The id of a folder below the root, which is made where it is missing."""
        with self.__making:
            if subdir not in self.__folders:
                at, path = self.__folders[""], ""
                for name in subdir.split("/"):
                    path = f"{path}/{name}" if path else name
                    if path not in self.__folders:
                        made = self.girder_client.createFolder(at, name, parentType="folder", reuseExisting=True)
                        self.girder_client.addMetadataToFolder(made["_id"], self.__metadata)
                        self.__folders[path] = made["_id"]
                    at = self.__folders[path]
            return self.__folders[subdir]

    def __make_root(self, collection: str, path: str) -> str:
        client = self.girder_client
        found = next((one for one in client.listCollection() if one["name"] == collection), None)
        at = (found or client.createCollection(collection, public=True))["_id"]
        kind = "collection"
        for name in path.strip("/").split("/"):
            made = client.createFolder(at, name, parentType=kind, reuseExisting=True, metadata=self.__metadata)
            at, kind = made["_id"], "folder"
        return str(at)

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        more = ["girder_root_folder_id", "collection_name", "girder_root_folder_path", "metadata", "replace_existing"]
        return ["girder_api_url", "girder_api_key", *names, *more], defaults

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        more = ("girder_root_folder_id", "collection_name", "girder_root_folder_path", "metadata", "replace_existing")
        kwargs |= {name: getattr(parsed_args, name) for name in more}
        return [parsed_args.girder_api_url, parsed_args.girder_api_key, *args], kwargs
