#!/bin/sh
# Makes the databases that are not there yet; compose.yaml runs it at PostgreSQL's first start.
# By hand: PGHOST=… PGUSER=… PGPASSWORD=… mlflow/databases.sh
set -eu
[ -z "${POSTGRES_USER-}" ] || export PGUSER="$POSTGRES_USER"
for name in ${FLAWLINE_DATABASES:-mlflow mlflow_auth prefect}; do
    if [ -z "$(psql -d postgres -qAtc "select 1 from pg_database where datname = '$name'")" ]; then
        psql -d postgres -qc "create database $name"
    fi
done
