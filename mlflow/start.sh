#!/bin/sh
# The MLflow tracking server of this checkout, in the foreground: mlflow/start.sh [more options of `mlflow server`]
# `make ui` (flawline ui) starts the same server together with Prefect's.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/environment.sh"

state=$workspace/.state/mlflow
mkdir -p "$state/artifacts"
export MLFLOW_BACKEND_STORE_URI="${MLFLOW_BACKEND_STORE_URI:-sqlite:///$state/mlflow.db}"
export MLFLOW_ARTIFACTS_DESTINATION="${MLFLOW_ARTIFACTS_DESTINATION:-file://$state/artifacts}"

case ${MLFLOW_AUTH-} in
'') ;;
basic)
    if [ -z "${MLFLOW_FLASK_SERVER_SECRET_KEY-}" ]; then
        echo "error: MLFLOW_AUTH=basic needs MLFLOW_FLASK_SERVER_SECRET_KEY — make one: openssl rand -hex 32" >&2
        exit 2
    fi
    if [ -z "${MLFLOW_AUTH_CONFIG_PATH-}" ]; then
        # Names a database and no password: libpq takes that from PGPASSWORD or ~/.pgpass.
        MLFLOW_AUTH_CONFIG_PATH=$state/auth.ini
        export MLFLOW_AUTH_CONFIG_PATH
        (
            umask 077
            printf '[mlflow]\ndefault_permission = %s\nauth_cache_ttl_seconds = %s\ndatabase_uri = %s\nadmin_username = %s\n%s\n' \
                "$MLFLOW_AUTH_DEFAULT_PERMISSION" "$MLFLOW_AUTH_CACHE_SECONDS" \
                "${MLFLOW_AUTH_DATABASE_URI:-sqlite:///$state/auth.db}" \
                "$MLFLOW_AUTH_ADMIN_USERNAME" \
                'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' \
                > "$MLFLOW_AUTH_CONFIG_PATH"
        )
    fi
    set -- --app-name basic-auth "$@"
    ;;
*)
    echo "error: MLFLOW_AUTH is '$MLFLOW_AUTH' — it may be empty or basic" >&2
    exit 2
    ;;
esac

cd "$state" # in the checkout's top folder, Python would look for the library in mlflow/ first
exec "$python" -m mlflow server --host "$MLFLOW_HOST" --port "$MLFLOW_PORT" "$@"
