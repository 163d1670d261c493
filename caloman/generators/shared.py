"""Generators that others share: from the Hugging Face Hub, or as a zip file at an address or in Zenodo."""

import re
import shutil
import zipfile
import zlib
from io import BufferedWriter, FileIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from typing_extensions import Buffer

from caloman.data.transfer import explained, import_pooch
from caloman.errors import CalomanError, first_line, import_extra
from caloman.files import appearing_folder, locked

SCHEMES = ("hf://", "https://", "http://", "doi:")
FILES = ("config.yaml", "geometry.xml", "model.safetensors", "training.json", "evaluation.json", "README.md")
"""Files of a bundle; nothing else is fetched."""
LARGEST_BUNDLE = 2**31  # bytes of the largest bundle, as it is fetched and as it is unpacked
LARGEST_READ = 2**20
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others take as much memory as an archive asks for


def is_address(name: str | Path) -> bool:
    """Whether a name of a generator is the address of a shared one."""
    return isinstance(name, str) and name.startswith(SCHEMES)


def fetch(address: str) -> Path:
    """The local copy of a shared generator, which is fetched once.

    Args:
        address: ``hf://OWNER/NAME``, where ``@`` and a commit, tag or branch may follow; or ``https://...`` or
            ``doi:.../FILE`` of a zip file, with ``#sha256=`` and its SHA-256 at the end.

    Raises:
        CalomanError: if it cannot be fetched, what arrived is something else, or a package is missing.
    """
    return _from_hub(address) if address.startswith("hf://") else _from_archive(address)


def hub_repository(address: str) -> tuple[str, str | None]:
    """Repository and revision of an address of the Hugging Face Hub.

    Raises:
        CalomanError: if it is none.
    """
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address, re.ASCII)
    if not match or ".." in address:
        raise CalomanError(f"{address}: not an address of the Hugging Face Hub; write hf://OWNER/NAME")
    return match[1], match[2]


def _from_hub(address: str) -> Path:
    repository, revision = hub_repository(address)
    hub = import_extra("huggingface_hub", "hub")
    try:
        folder = hub.snapshot_download(repository, revision=revision, allow_patterns=list(FILES))
    except (OSError, ValueError, hub.errors.HTTPError) as error:
        raise CalomanError(f"{address}: cannot be fetched, check name and network ({first_line(error)})") from None
    return Path(folder)


def _from_archive(address: str) -> Path:
    url, _, digest = address.partition("#sha256=")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise CalomanError(f"{address}: add the SHA-256 that its author tells, as in {url}#sha256=0123...cdef")
    cache = Path(import_pooch().os_cache("caloman"))
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / digest
    with locked(cache / f"{digest}.zip", wait=True):
        if not folder.is_dir():
            # the name is one that `locked` removes after a kill
            with TemporaryDirectory(prefix=f".{digest}.zip.", suffix=".partial", dir=cache) as name:
                _unpack(_download(url, digest, address, Path(name)), folder, address)
    return folder


def _download(url: str, digest: str, address: str, folder: Path) -> Path:
    pooch = import_pooch()

    def download(url: str, path: str, _: object) -> None:
        transfer = pooch.downloaders.choose_downloader(url)
        transfer.chunk_size = LARGEST_READ
        with _Limited(FileIO(path, "w")) as file:
            transfer(url, file, None)

    def retrieve() -> str:
        return str(pooch.retrieve(url, f"sha256:{digest}", "bundle.zip", folder, downloader=download))

    return Path(explained(retrieve, address, url, "SHA-256"))


class _Limited(BufferedWriter):
    """A new file that takes no more than a bundle has."""

    def write(self, content: Buffer, /) -> int:
        if self.tell() + memoryview(content).nbytes > LARGEST_BUNDLE:
            raise CalomanError(f"what arrives is longer than {LARGEST_BUNDLE / 1e9:.0f} GB; no bundle is")
        return super().write(content)


class _Archive(FileIO):
    """A zip file that is read in small pieces, so that a long list of contents ends early."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(LARGEST_READ if size is None or size < 0 else min(size, LARGEST_READ))


def _unpack(archive: Path, folder: Path, address: str) -> None:
    """Writes the files of a bundle, and nothing else that an archive may hold, into a folder."""
    try:
        with zipfile.ZipFile(_Archive(archive)) as content, appearing_folder(folder) as partial:
            entries = {PurePosixPath(entry.filename).name: entry for entry in content.infolist()}
            chosen = {name: entries[name] for name in FILES if name in entries}
            if "config.yaml" not in chosen:
                raise zipfile.BadZipFile("no config.yaml")
            if any(entry.compress_type not in COMPRESSIONS for entry in chosen.values()):
                raise zipfile.BadZipFile("compressed in an unusual way")
            if sum(entry.file_size for entry in chosen.values()) > LARGEST_BUNDLE:
                raise CalomanError(f"{address}: unpacks to more than {LARGEST_BUNDLE / 1e9:.0f} GB; no bundle does")
            for name, entry in chosen.items():
                with content.open(entry) as source, (partial / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CalomanError(f"{address}: not a zip file of a bundle ({first_line(error)})") from None
