#!/bin/sh
# The MLflow tracking server of this checkout, in the foreground: mlflow/start.sh [more options of `mlflow server`]
# `make ui` (flawline ui) starts the same server together with Prefect's.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")

while IFS='=' read -r key value; do
    case $key in '' | '#'*) continue ;; esac
    eval "given=\${$key-}"
    # shellcheck disable=SC2154
    if [ -z "$given" ] && [ -n "$value" ]; then export "$key=$value"; fi
done < "$here/server.env"

state=${FLAWLINE_WORKSPACE:-$root}/.state/mlflow
mkdir -p "$state/artifacts"
export MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI:-sqlite:///$state/mlflow.db}"
export MLFLOW_ARTIFACTS_DESTINATION="${MLFLOW_ARTIFACTS_DESTINATION:-file://$state/artifacts}"

python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
cd "$state" # in the checkout's top folder, Python would look for the library in mlflow/ first
exec "$python" -m mlflow server --host "$MLFLOW_HOST" --port "$MLFLOW_PORT" "$@"
