"""A bucket to a folder and back, for backup.sh and restore.sh; keys and endpoint from the AWS_* variables.

python mlflow/bucket.py down s3://BUCKET[/PREFIX] DIR    only what changed, whole objects, checked
python mlflow/bucket.py up DIR                           everything that `down` put there
"""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flawline.data.storage import fetch, list_objects, make_client, parse_address
from flawline.errors import FlawlineError
from flawline.files import inside, read_json, write_json
from flawline.progress import track

CONTENTS = "contents.json"  # {address: folder below DIR}


def down(address: str, folder: Path) -> None:
    """Bring the folder's copy of a bucket up to date; objects that are gone from the bucket go here as well."""
    copy = fetch(parse_address(address), folder)
    known = read_json(folder / CONTENTS) if (folder / CONTENTS).is_file() else {}
    write_json(folder / CONTENTS, {**known, address: copy.relative_to(folder).as_posix()})
    print(f"{address}: {sum(path.is_file() for path in copy.rglob('*'))} objects in {copy}")


def up(folder: Path) -> None:
    """Put every object back that is absent or another one; others in the bucket stay."""
    for address, name in sorted(read_json(folder / CONTENTS).items()):
        where, copy, client = parse_address(address), inside(folder, name), make_client()
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        try:
            there = {item.path: item.etag for item in list_objects(client, where)}
        except FlawlineError as error:
            if "nothing lies below" not in error.problem:
                raise
            there = {}

        def put(path: Path, where=where, copy=copy, client=client, there=there) -> int:  # type: ignore[no-untyped-def]
            below = path.relative_to(copy).as_posix()
            with path.open("rb") as stream:
                md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if there.get(below) == md5:
                return 0
            client.upload_file(str(path), where.bucket, f"{where.prefix}/{below}".lstrip("/"))
            return 1

        with ThreadPoolExecutor(8) as pool:
            written = sum(track(pool.map(put, files), f"restoring {address}", len(files)))
        print(f"{address}: {written} of {len(files)} objects written")


def main(arguments: list[str]) -> int:
    """The command line."""
    try:
        match arguments:
            case ["down", address, folder]:
                down(address, Path(folder))
            case ["up", folder]:
                up(Path(folder))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
        return 0
    except FlawlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
