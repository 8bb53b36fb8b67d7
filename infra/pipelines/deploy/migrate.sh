#!/usr/bin/env bash
# Brings the schema up to date, and gives the app's identity its role in the database. Again, it changes nothing.
# usage: infra/pipelines/deploy/migrate.sh RESOURCE_GROUP
source "$(dirname "$0")/outputs.sh"

# By name: artifacts of Azure Pipelines keep no executable bits.
exec bash "$(dirname "$0")/operate.sh" "$group" \
  migrate --app-role "$(output appRole)" --app-identity "$(output appObjectId)" --wait 120
