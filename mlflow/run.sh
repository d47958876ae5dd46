#!/bin/sh
# A command with the settings and secrets of these scripts: mlflow/run.sh flawline deploy
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/environment.sh"
[ $# -ge 1 ] || { echo "usage: mlflow/run.sh COMMAND [ARGUMENT ...]" >&2; exit 2; }
PATH=$(dirname -- "$python"):$PATH
export PATH
cd "$workspace"
exec "$@"
