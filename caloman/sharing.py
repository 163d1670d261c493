"""``caloman publish``: trained generators for others, who fetch them with `caloman.load`."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloman import __version__
from caloman.bundle import find, load
from caloman.errors import CalomanError, first_line, import_extra
from caloman.files import appearing, sha256
from caloman.generators.shared import FILES, hub_repository

OWN = ("data", "environment", "hardware", "process")
"""Parts of the record of a training that tell about the machine and its folders."""


def publish(run: str | Path, to: str, private: bool = False) -> str:
    """Shares a trained generator on the Hugging Face Hub, or as a zip file for any server and Zenodo.

    Weights, mesh, card and what is known of the training are shared, without paths and hardware of this machine. For
    the Hub log in with `hf auth login` first, or set HF_TOKEN. The same command again replaces what has changed.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`.
        to: hf://OWNER/NAME, a repository that is made if it does not exist, or the zip file to write.
        private: for a new repository, hide it from others.

    Returns:
        A sentence with the address of what was published.

    Raises:
        CalomanError: if the generator cannot be loaded, the address is none, a package is missing, or the Hub refuses.
    """
    if not to.startswith("hf://") and not to.endswith(".zip"):
        raise CalomanError(f"{to}: write hf://OWNER/NAME for the Hugging Face Hub, or the name of a .zip file")
    load(run)
    files = shared_files(find(run))
    address = _to_hub(files, to, private) if to.startswith("hf://") else _to_archive(files, Path(to))
    return f"{run} published; load it with caloman.load({address!r})"


def _to_hub(files: Mapping[str, bytes], to: str, private: bool) -> str:
    repository, revision = hub_repository(to)
    if revision:
        raise CalomanError(f"{to}: a commit has its name from the Hub; write hf://{repository}")
    hub = import_extra("huggingface_hub", "hub")
    operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        hub.create_repo(repository, private=private or None, exist_ok=True)
        commit = hub.create_commit(repository, operations, commit_message=f"Generator of caloman {__version__}")
    except (OSError, ValueError, hub.errors.HTTPError) as error:
        raise CalomanError(
            f"{to}: cannot be published, check name, login (`hf auth login`) and network ({first_line(error)})"
        ) from None
    return f"hf://{repository}@{commit.oid}"


def _to_archive(files: Mapping[str, bytes], path: Path) -> str:
    with appearing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without a date: the same files make the same archive
    return f"https://.../{path.name}#sha256={sha256(path)}"


def shared_files(folder: Path) -> dict[str, bytes]:
    """Name -> content of what is shared of a bundle.

    Raises:
        CalomanError: if a file is a link to one outside, which would be shared in its place.
    """
    files = {name: _own(folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    if "training.json" in files:
        try:
            record = without_machine(json.loads(files["training.json"]))
        except (ValueError, RecursionError):
            raise CalomanError(f"{folder / 'training.json'}: damaged; remove it or copy the bundle again") from None
        files["training.json"] = f"{json.dumps(record, indent=2)}\n".encode()
    return files


def _own(path: Path) -> Path:
    """A file of a bundle itself; `huggingface_hub` keeps it in a folder ``blobs`` beside the snapshots."""
    target, folder = path.resolve(), path.parent.resolve()
    if not (target.is_relative_to(folder) or target.is_relative_to(folder.parent.parent / "blobs")):
        raise CalomanError(f"{path}: is a link to a file elsewhere, which would be shared; put the file in its place")
    return target


def without_machine(record: Any) -> Any:  # noqa: ANN401 - any JSON
    """The record of a training, or of those of an ensemble, without what it tells about the machine."""
    if isinstance(record, Mapping):
        return {key: without_machine(value) for key, value in record.items() if key not in OWN}
    return [without_machine(value) for value in record] if isinstance(record, list) else record
