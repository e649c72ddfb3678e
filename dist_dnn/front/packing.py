"""What a job takes along to a cluster that has only Ray: this very package, and what it needs."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING

from dist_dnn import __version__
from dist_dnn.errors import InputError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGES = ("dist_dnn", "workers")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a wheel, so that the same files make the same wheel."""


def write_wheel(folder: Path) -> Path:
    """Write a wheel of the modules that this process runs, from a checkout or installed.

    Its version names its content too: whoever has another wheel of this version installs this one.
    A build from the sources would need them, a build system and a network; an installed package
    has none of these.

    Raises:
        InputError: what it depends on is not known.
    """
    files = _modules()
    content = hashlib.sha256()
    for name, data in files.items():
        content.update(f"{name} {len(data)}\n".encode() + data)
    full_version = f"{__version__}+h{content.hexdigest()[:12]}"
    information = f"dist_dnn-{full_version}.dist-info"
    files |= {
        f"{information}/METADATA": _metadata(full_version),
        f"{information}/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: dist_dnn\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = f"{information}/RECORD"
    lines = [*(_recorded(name, data) for name, data in files.items()), f"{record},,\n"]
    path = folder / f"dist_dnn-{full_version}-py3-none-any.whl"
    path.write_bytes(_zipped(files | {record: "".join(lines).encode()}))
    return path


def pinned_dependencies() -> list[str]:
    """What the package needs, in the versions that are here: they compute the same bits.

    Raises:
        InputError: it is not known, or not here.
    """
    names = [each.name for each in _needed()]
    try:
        return [f"{name}=={version(name)}" for name in names]
    except PackageNotFoundError as error:
        raise InputError(f"{error.name} is not installed: install dist_dnn with pip") from None


def supports_ray(ray_version: str) -> bool:
    """Whether the package works with this version of Ray.

    Raises:
        InputError: what it needs is not known.
    """
    [of_ray] = [each for each in _needed("ray") if each.name == "ray"]
    return of_ray.specifier.contains(ray_version, prereleases=True)


def _modules() -> dict[str, bytes]:
    """All files of the packages by their names in a wheel, in order."""
    root = Path(__file__).resolve().parents[2]
    return {
        str(path.relative_to(root)): path.read_bytes()
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _needed(extra: str = "") -> list["Requirement"]:
    """What the package needs, with an extra or without one."""
    from packaging.requirements import Requirement  # which comes with Ray

    needed = [Requirement(each) for each in _requirements()]
    return [each for each in needed if not each.marker or each.marker.evaluate({"extra": extra})]


def _requirements() -> list[str]:
    """All that the package may need, as its metadata say it."""
    try:
        return distribution("dist_dnn").requires or []
    except PackageNotFoundError:
        raise InputError(
            "dist_dnn is not installed, so that what it needs is not known: install it, from a "
            "checkout with `pip install -e '.[ray]'`"
        ) from None


def _metadata(full_version: str) -> bytes:
    lines = ["Metadata-Version: 2.1", "Name: dist_dnn", f"Version: {full_version}"]
    lines += [f"Requires-Dist: {each}" for each in _requirements()]
    return "".join(f"{line}\n" for line in lines).encode()


def _recorded(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(data)}\n"


def _zipped(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return whole.getvalue()
