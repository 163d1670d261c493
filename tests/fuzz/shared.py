"""Shared generators: damaged and malicious zip files, servers that answer oddly, and addresses."""

import contextlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np

from caloman.generators import shared
from fuzz import Commands
from fuzz._plain import Rng
from fuzz.bundles import whole

MOST = 2
NAMES = (
    *("../../evil", "/etc/evil", "config.yaml/", "config.yaml/x", "a\\..\\config.yaml", "..", "\u202e", "a" * 300),
    *("bundle/../config.yaml", "C:config.yaml", "config.yaml\0x", "geometry.xml", "model.safetensors"),
)
ADDRESSES = (
    *("hf://", "hf://a", "hf://../a", "hf://a/b@../../x", "hf://a/b@", "hf://a/b@x y", "hf://\u0430/b", "hf://a/b/c"),
    *("doi:", "doi:x", "doi:/", "doi:10.5281/zenodo.1", "https://", "https:///x", "http://[", "http://[::1"),
    *("http://a b/x", "http://127.0.0.1:99999/x", "http://127.0.0.1:x/", "https://127.0.0.1:1/a.zip", "http://\0/"),
    *("http://\u202e/", "http://" + "a" * 70 + ".zip/", "http://x@127.0.0.1:1/"),
)

Archive = bytes
Damage = Callable[[Archive, Rng], Archive]


def warm(folder: Path) -> Commands:
    return write(folder, np.random.default_rng(1), [])


def write(folder: Path, rng: Rng, damages: list) -> Commands:
    os.environ |= {"XDG_CACHE_HOME": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1", "NO_PROXY": "*"}
    shared.LARGEST_BUNDLE = 2**26  # an endless transfer would take long
    content = zipped({f"bundle/{name}": data for name, data in whole().items()})
    for damage in damages:
        content = content if damage in ANSWERS or damage is address else damage(content, rng)
    answer = next((damage for damage in damages if damage in ANSWERS), whole_file)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(answer, content, rng))
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.zip"
    if address in damages:
        url = ADDRESSES[rng.integers(len(ADDRESSES))]
    pin = f"#sha256={sha256(content).hexdigest()}"
    if rng.random() < 0.05:
        pin = ["", "#sha256=", pin.upper(), pin + "#", pin + "&x=../..", "#sha256=../../x"][rng.integers(6)]
    command = ["generate", f"{url}{pin}", "out.hdf5", "--energies", "1GeV", "--n", "2"]
    return [command, command]  # the second one finds what the first one kept


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def unzipped(content: Archive) -> dict[str, bytes]:
    """The files of an archive that is not damaged yet."""
    with contextlib.suppress(Exception), zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    return dict(whole())


def flipped(content: Archive, rng: Rng) -> Archive:
    """Other bytes, in the lists of contents for the most part."""
    damaged = bytearray(content)
    headers = [place for place in range(len(content) - 4) if content[place : place + 2] == b"PK"]
    for _ in range(rng.integers(1, 6)):
        start = headers[rng.integers(len(headers))] if headers and rng.random() < 0.8 else rng.integers(len(content))
        place = min(int(start) + int(rng.integers(4, 46)), len(damaged) - 1)
        damaged[place] = rng.choice([0, 1, 8, 9, 12, 14, 0x7F, 0x80, 0xFF, rng.integers(256)])
    return bytes(damaged)


def cut(content: Archive, rng: Rng) -> Archive:
    start = rng.integers(len(content)) if rng.random() < 0.3 else 0
    return content[start : rng.integers(start, len(content) + 1)]


def odd_names(content: Archive, rng: Rng) -> Archive:
    names = rng.choice(NAMES, 3)
    return zipped(unzipped(content) | {str(name): b"evil" for name in names})


def missing(content: Archive, rng: Rng) -> Archive:
    files = unzipped(content)
    files.pop(str(rng.choice(sorted(files))), None)
    return zipped(files)


def other_compression(content: Archive, rng: Rng) -> Archive:
    kinds = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return zipped(unzipped(content), kinds[rng.integers(len(kinds))])


def bomb(content: Archive, rng: Rng) -> Archive:
    name = str(rng.choice(["config.yaml", "geometry.xml", "model.safetensors", "README.md", "other"]))
    return zipped(unzipped(content) | {name: bytes(int(rng.choice([10**6, 10**8, 5 * 10**8])))}, zipfile.ZIP_DEFLATED)


def many(content: Archive, rng: Rng) -> Archive:
    return zipped(unzipped(content) | {f"x{index}": b"" for index in range(int(rng.choice([10**3, 5 * 10**4])))})


def no_archive(content: Archive, rng: Rng) -> Archive:
    return [b"", b"PK", b"PK\5\6" + bytes(18), rng.bytes(1000), b"PK\5\6" + b"\xff" * 18][rng.integers(5)]


def address(content: Archive, rng: Rng) -> Archive:
    """Something else than the address of the archive."""
    raise NotImplementedError


Body = Iterator[bytes]


def whole_file(content: Archive, rng: Rng) -> tuple[int, dict[str, str], Body]:
    return 200, {"Content-Length": str(len(content))}, iter([content])


def other_content(content: Archive, rng: Rng) -> tuple[int, dict[str, str], Body]:
    return 200, {}, iter([content[: rng.integers(len(content) + 1)], b"x"])


def too_short(content: Archive, rng: Rng) -> tuple[int, dict[str, str], Body]:
    return 200, {"Content-Length": str(rng.choice([-1, 10**30, len(content) + 1, 3]))}, iter([content])


def status(content: Archive, rng: Rng) -> tuple[int, dict[str, str], Body]:
    return int(rng.choice([0, 99, 204, 206, 304, 401, 404, 418, 500, 503, 999])), {}, iter([content])


def redirected(content: Archive, rng: Rng) -> tuple[int, dict[str, str], Body]:
    targets = ("/a.zip", "file:///etc/passwd", "ftp://127.0.0.1:1/x", "http://[", "//", "\u00e9", "http://127.0.0.1:1/")
    return int(rng.choice([301, 302, 307, 308])), {"Location": targets[rng.integers(len(targets))]}, iter([])


def encoded(content: Archive, rng: Rng) -> tuple[int, dict[str, str], Body]:
    """A body that unzips to much more, or to nothing."""
    kind = str(rng.choice(["gzip", "deflate", "br", "zstd", "gzip, gzip", "x"]))
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(bytes(int(rng.choice([10**6, 3 * 10**8])))) + packer.flush()
    return 200, {"Content-Encoding": kind}, iter([packed if rng.random() < 0.7 else content])


def endless(content: Archive, rng: Rng) -> tuple[int, dict[str, str], Body]:
    return 200, {}, iter(lambda: bytes(2**24), None)


ANSWERS = (whole_file, other_content, too_short, status, redirected, encoded, endless)
DAMAGES = (*(flipped, flipped, flipped, cut, odd_names, missing, other_compression, bomb, many, no_archive, address),
           address, *ANSWERS[1:])  # fmt: skip


def handler(answer: Callable, content: Archive, rng: Rng) -> type[BaseHTTPRequestHandler]:
    """What answers each request in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, headers, body = answer(content, rng)
            with contextlib.suppress(OSError, UnicodeError):
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in body:
                    self.wfile.write(piece)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
