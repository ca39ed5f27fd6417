#!/usr/bin/env python3
"""Reads a Tillward image repository with python-tuf, the reference client.

Usage: python_tuf.py SERVER_URL TRUSTED_ROOT TARGET_NAME...

SERVER_URL is the server's address (the repository is read below /tuf/image) or, with a path, the folder that holds
`metadata/` and `targets/`. Every target is looked up, downloaded and verified; every metadata file that the client kept
is parsed again and re-encoded to canonical form, and every key id is compared with the one securesystemslib computes.
Prints one JSON object; exits 1 on the first thing that does not hold.

Needs: pip install tuf==7.0.0 'securesystemslib[crypto]==1.4.0'
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata
from tuf.ngclient import Updater


def check_key_ids(name: str, keys: dict) -> int:
    """Compares declared key ids with the digest of the canonical key object."""
    for declared, key in keys.items():
        form = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
        expected = hashlib.sha256(encode_canonical(form).encode()).hexdigest()
        if declared != expected:
            raise SystemExit(f"{name}: key id {declared} should be {expected}")
    return len(keys)


def check_metadata(folder: Path) -> tuple[int, int]:
    """Parses every kept file; answers how many files and key ids were checked."""
    files = key_ids = 0
    for path in sorted(folder.glob("*.json")):
        metadata = Metadata.from_bytes(path.read_bytes())
        signed = metadata.signed
        if "." in signed.to_dict()["expires"]:
            raise SystemExit(f"{path.name}: expires has a fraction")
        key_ids += check_key_ids(path.name, getattr(signed, "keys", None) or {})
        delegations = getattr(signed, "delegations", None)
        if delegations is not None:
            key_ids += check_key_ids(path.name, delegations.keys)
            for role in delegations.roles.values():
                delegated = folder / f"{role.name}.json"
                if delegated.exists():
                    child = Metadata.from_bytes(delegated.read_bytes())
                    signed.verify_delegate(role.name, child.signed_bytes, child.signatures)
        files += 1
    return files, key_ids


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    url, trusted_root, names = sys.argv[1].rstrip("/"), Path(sys.argv[2]), sys.argv[3:]
    base = url if urlsplit(url).path else f"{url}/tuf/image"
    with tempfile.TemporaryDirectory() as scratch:
        metadata_dir, target_dir = Path(scratch, "metadata"), Path(scratch, "targets")
        metadata_dir.mkdir()
        target_dir.mkdir()
        updater = Updater(
            metadata_dir=str(metadata_dir),
            metadata_base_url=f"{base}/metadata/",
            target_dir=str(target_dir),
            target_base_url=f"{base}/targets/",
            bootstrap=trusted_root.read_bytes(),
        )
        updater.refresh()
        sizes = {}
        for name in names:
            info = updater.get_targetinfo(name)
            if info is None:
                raise SystemExit(f"{name} is not listed")
            path = Path(updater.download_target(info))
            sizes[name] = path.stat().st_size
            if hashlib.sha256(path.read_bytes()).hexdigest() != info.hashes["sha256"]:
                raise SystemExit(f"{name} has another digest")
            if not isinstance(info.custom, dict):
                raise SystemExit(f"{name} has no custom block")
        files, key_ids = check_metadata(metadata_dir)
    print(json.dumps({"targets": sizes, "metadata_files": files, "key_ids": key_ids}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
