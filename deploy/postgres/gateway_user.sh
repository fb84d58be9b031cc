#!/bin/sh
# The postgres image runs this once, when it makes the cluster: the gateway gets a user of its own, behind the wall.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$GATEWAY_POSTGRES_PASSWORD" --username="$POSTGRES_USER" --dbname=postgres <<'SQL'
CREATE ROLE atelier_gateway NOLOGIN;
CREATE ROLE gateway LOGIN PASSWORD :'password' IN ROLE atelier_gateway;
SQL
