"""What is vendored is what the manifest says."""

import hashlib
import re

from django.conf import settings

VENDOR = settings.BASE_DIR / "static" / "vendor"
MANIFEST = (VENDOR / "MANIFEST.md").read_text()


def test_every_vendored_file_has_the_digest_of_the_manifest() -> None:
    listed = dict(re.findall(r"^- `([^`]+)` ([0-9a-f]{64})$", MANIFEST, re.MULTILINE))
    found = {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name not in ("LICENSE", "MANIFEST.md")
    }
    assert found == listed


def test_every_vendored_package_has_its_licence() -> None:
    packages = [path for path in VENDOR.iterdir() if path.is_dir()]
    assert all((path / "LICENSE").is_file() for path in packages)
    assert all(f"| {path.name} |" in MANIFEST for path in packages)


def test_no_vendored_file_names_a_source_map() -> None:
    assert not [path for path in VENDOR.rglob("*.js") if b"sourceMappingURL" in path.read_bytes()]
