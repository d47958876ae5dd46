# Sourced by the scripts here: settings of server.env that are not set yet, and secrets that lie in files.
# A secret is given in the environment (PGPASSWORD=…) or, better, as the path of a file (PGPASSWORD_FILE=/run/secrets/…).
# No secret is ever an argument of a command: arguments can be read by every user of the machine.

while IFS='=' read -r key value; do
    case $key in '' | '#'*) continue ;; esac
    eval "given=\${$key-}"
    # shellcheck disable=SC2154
    if [ -z "$given" ] && [ -n "$value" ]; then export "$key=$value"; fi
done < "$here/server.env"

for key in PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY MLFLOW_AUTH_ADMIN_PASSWORD \
    MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD \
    PREFECT_SERVER_API_AUTH_STRING PREFECT_API_AUTH_STRING; do
    eval "file=\${${key}_FILE-}"
    # shellcheck disable=SC2154
    if [ -n "$file" ]; then
        [ -r "$file" ] || { echo "error: ${key}_FILE names $file, which cannot be read — correct the path" >&2; exit 2; }
        value=$(cat "$file")
        export "$key=$value"
    fi
done

workspace=${FLAWLINE_WORKSPACE:-$root}
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
