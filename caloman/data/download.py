"""``caloman download``: the official files of CaloChallenge and LEMURS from Zenodo, checked against their MD5 sums."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from caloman.data.transfer import explained, import_pooch
from caloman.errors import CalomanError

ZENODO = "https://zenodo.org/records"
TIMEOUT = 30
RETRIES = 2
CHUNK_BYTES = 2**20
LIST_CHUNK, LIST_CHUNKS = 2**16, 256  # bytes of a piece of a list of files, and how many of these are read at most
LISTED_FILE = re.compile(r"(?P<name>[^./\\\0-\x1f][^/\\\0-\x1f]{0,200})\n(?:md5:)?(?P<md5>[0-9a-f]{32})")
"""Name and MD5 sum of a file in such a list."""
Transfer = Callable[[str, str, object], None]


@dataclass(frozen=True)
class OfficialFile:
    """A file on Zenodo.

    Args:
        name: its name.
        record: the Zenodo record that holds it.
        md5: MD5 sum of its bytes, in hexadecimal.
        role: ``train``, or ``reference`` for the showers that generators are compared with; empty if it is not known.
    """

    name: str
    record: int
    md5: str
    role: str = ""


# the sums as found in independent public repositories; arXiv 2410.21611 describes the datasets
OFFICIAL_FILES = {
    "1-photons": (
        OfficialFile("dataset_1_photons_1.hdf5", 8099322, "005d2adeda7db034b388112661265656", "train"),
        OfficialFile("dataset_1_photons_2.hdf5", 8099322, "4767715ed56e99565fd9c67340661e70", "reference"),
    ),
    "1-pions": (
        OfficialFile("dataset_1_pions_1.hdf5", 8099322, "6a5f52722064a1bcd8a0bc002f16515d", "train"),
        OfficialFile("dataset_1_pions_2.hdf5", 8099322, "fee7457b40127bc23c8ab909e2638ca0", "reference"),
    ),
    "2": (
        OfficialFile("dataset_2_1.hdf5", 6366271, "e590333e9a2da51b258288d74bd8357a", "train"),
        OfficialFile("dataset_2_2.hdf5", 6366271, "7a56fd68aa53ded37c2ac445694d9736", "reference"),
    ),
    "3": (
        OfficialFile("dataset_3_1.hdf5", 6366324, "d33f03418aa311b0965452fcbef1ff87", "train"),
        OfficialFile("dataset_3_2.hdf5", 6366324, "911dec2c40aafa64a07b7450b80881bf", "train"),
        OfficialFile("dataset_3_3.hdf5", 6366324, "5ea62f6831a1821bb5035fafc9f030e8", "reference"),
        OfficialFile("dataset_3_4.hdf5", 6366324, "5e8d82e6a6c28c6914a3b602a1cfa299", "reference"),
    ),
}
"""Dataset id -> its files."""
LISTED = {"lemurs": 17045562}
"""Data set -> the record whose own list tells its files and their MD5 sums. As a user of LEMURS (arXiv:2509.05108)
names it; no sum has been seen by us."""


@dataclass(frozen=True)
class Downloads:
    """The files of a dataset in a folder.

    Args:
        folder: the folder.
        states: name of each file -> ``downloaded`` or ``already there``.
    """

    folder: Path
    states: dict[str, str]

    def __str__(self) -> str:
        return "\n".join(f"{self.folder / name}: {state}, MD5 as expected" for name, state in self.states.items())


def download(dataset: str, folder: str = "data", files: list[str] | None = None, base_url: str = ZENODO) -> Downloads:
    """Downloads official files; those that are there with the right MD5 sum are not fetched again.

    A file takes its name when it is complete and its MD5 sum is right. A transfer that broke off is tried again, twice.

    Args:
        dataset: dataset id (1-photons, 1-pions, 2, 3), or lemurs, whose files are large and have to be chosen.
        folder: where to put the files.
        files: which files, by name, by a pattern of names such as ``*Par04SiW*``, or by role (train, reference); all by
            default.
        base_url: address of a mirror, which serves BASE_URL/RECORD/files/NAME; it has to end with /records for lemurs.

    Raises:
        CalomanError: if there is no such file, no network, no space, or if what arrived is not the file.
    """
    pooch = import_pooch()
    chosen = _choose(dataset, _official(dataset, base_url.rstrip("/")), files)
    registry = {file.name: f"md5:{file.md5}" for file in chosen}
    urls = {f.name: f"{base_url.rstrip('/')}/{f.record}/files/{f.name}?download=1" for f in chosen}
    cache = pooch.create(folder, base_url, registry=registry, urls=urls, retry_if_failed=RETRIES)
    states = {file.name: "already there" for file in chosen}
    for name in states:
        what = Path(folder) / name
        if what.exists() and not what.is_file():  # a pipe would wait forever
            raise CalomanError(f"{what}: is no file, but in the way of one; remove it or name another --folder")
        # pooch asks for the truth of the bar and sets its total, so it needs one from the beginning
        with tqdm(desc=name, total=1, unit="B", unit_scale=True, disable=None) as bar:
            transfer = pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK_BYTES, timeout=TIMEOUT)

            def fetch(url: str, partial: str, cache: object, name: str = name, transfer: Transfer = transfer) -> None:
                states[name] = "downloaded"
                transfer(url, partial, cache)

            explained(lambda: cache.fetch(name, downloader=fetch), what, urls[name], "MD5 sum")  # noqa: B023
    return Downloads(Path(folder), states)


def _official(dataset: str, base_url: str) -> Sequence[OfficialFile]:
    if dataset in OFFICIAL_FILES:
        return OFFICIAL_FILES[dataset]
    if dataset not in LISTED:
        raise CalomanError(f"unknown dataset {dataset!r}: use one of {', '.join([*OFFICIAL_FILES, *LISTED])}")
    return _listed(LISTED[dataset], f"{base_url.removesuffix('/records')}/api/records/{LISTED[dataset]}")


def _listed(record: int, url: str) -> list[OfficialFile]:
    """The files of a record as Zenodo itself lists them."""
    import requests  # comes with pooch

    def ask() -> bytes:
        with requests.get(url, timeout=TIMEOUT, stream=True) as answer:
            answer.raise_for_status()
            return b"".join(islice(answer.iter_content(LIST_CHUNK), LIST_CHUNKS))

    answer = explained(ask, f"list of record {record}", url, "form")
    try:
        lines = sorted(f"{file['key']}\n{file['checksum']}" for file in json.loads(answer)["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        lines = [""]
    found = [match for line in lines if (match := LISTED_FILE.fullmatch(line))]
    if len(found) < len(lines):
        raise CalomanError(f"{url}: is no list of files as Zenodo writes it; download the files by hand")
    return [OfficialFile(match["name"], record, match["md5"]) for match in found]


def _choose(dataset: str, official: Sequence[OfficialFile], wanted: list[str] | None) -> list[OfficialFile]:
    names = ", ".join(file.name for file in official)
    if not wanted and dataset in LISTED:
        raise CalomanError(f"{dataset}: choose of its large files with --files, by name or '*PART*': {names}")
    for pattern in wanted or ():
        if not any(_is_meant(file, pattern) for file in official):
            raise CalomanError(f"--files {pattern}: not a file of dataset {dataset}; use train, reference, {names}")
    return [file for file in official if not wanted or any(_is_meant(file, pattern) for pattern in wanted)]


def _is_meant(file: OfficialFile, pattern: str) -> bool:
    return pattern == file.role or fnmatchcase(file.name, pattern)
