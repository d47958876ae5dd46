#!/bin/sh
# The way back from mlflow/backup.sh: mlflow/restore.sh DIR. Stop the servers first; databases are replaced whole.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/environment.sh"
[ $# -eq 1 ] || { echo "usage: mlflow/restore.sh DIR" >&2; exit 2; }
from=$1

for name in ${FLAWLINE_DATABASES:-mlflow mlflow_auth prefect}; do
    [ -f "$from/$name.dump" ] || { echo "error: $from/$name.dump is missing — name the backup's folder" >&2; exit 2; }
done
# Files first: a database never names one that is not there yet.
if [ -d "$from/buckets" ]; then "$python" "$here/bucket.py" up "$from/buckets"; fi
for name in ${FLAWLINE_DATABASES:-mlflow mlflow_auth prefect}; do
    if [ -z "$(psql -d postgres -qAtc "select 1 from pg_database where datname = '$name'")" ]; then createdb "$name"; fi
    pg_restore --clean --if-exists --no-owner --single-transaction --dbname="$name" "$from/$name.dump"
    echo "database $name: restored"
done
