#!/bin/sh
# A worker of this workspace, in the foreground: mlflow/worker.sh [more options of `prefect worker start`]
# Needs PREFECT_API_URL, and what the runs need: MLFLOW_TRACKING_URI with its name and password, AWS_* keys.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/environment.sh"

if [ -z "${PREFECT_API_URL-}" ]; then
    echo "error: PREFECT_API_URL is not set — name the server: PREFECT_API_URL=http://HOST:4200/api" >&2
    exit 2
fi
export PREFECT_SERVER_EPHEMERAL_ENABLED=false # never a server of its own, silently
PREFECT_HOME=${PREFECT_HOME:-$workspace/.state/worker}
export PREFECT_HOME
mkdir -p "$PREFECT_HOME"
PATH=$(dirname -- "$python"):$PATH # stages are called by name
export PATH
cd "$workspace"
exec "$python" -m prefect worker start --pool "$FLAWLINE_WORK_POOL" --type process "$@"
