#!/bin/sh
# The Prefect server, in the foreground: mlflow/prefect.sh [more options of `prefect server start`]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/environment.sh"

PREFECT_HOME=${PREFECT_HOME:-$workspace/.state/prefect}
export PREFECT_HOME
mkdir -p "$PREFECT_HOME"
[ -n "${PREFECT_SERVER_DATABASE_CONNECTION_URL-}" ] || unset PREFECT_SERVER_DATABASE_CONNECTION_URL
unset PREFECT_API_URL # of clients; the server would report to itself
cd "$PREFECT_HOME"
exec "$python" -m prefect server start \
    --host "$PREFECT_SERVER_API_HOST" --port "$PREFECT_SERVER_API_PORT" "$@"
