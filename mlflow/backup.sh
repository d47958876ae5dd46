#!/bin/sh
# Everything that git does not hold, into a folder: mlflow/backup.sh DIR s3://BUCKET[/PREFIX] …
# Databases by pg_dump (PGHOST, PGPORT, PGUSER, PGPASSWORD or PGPASSWORD_FILE), then the buckets: what a database names
# at the time of the dump is in the bucket by then, and nothing there is ever written twice. Servers may go on running.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/environment.sh"
[ $# -ge 1 ] || { echo "usage: mlflow/backup.sh DIR s3://BUCKET[/PREFIX] ..." >&2; exit 2; }
to=$1
shift

umask 077
mkdir -p "$to"
for name in ${FLAWLINE_DATABASES:-mlflow mlflow_auth prefect}; do
    pg_dump --format=custom --no-owner --dbname="$name" --file="$to/$name.dump.partial"
    mv "$to/$name.dump.partial" "$to/$name.dump"
    echo "database $name: $to/$name.dump"
done
for address in "$@"; do
    "$python" "$here/bucket.py" down "$address" "$to/buckets"
done
