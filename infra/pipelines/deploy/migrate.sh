#!/usr/bin/env bash
# Brings the schema up to date and gives the app's identity its role, as the owner of the database: whoever is signed in
# to the Azure CLI. The server's firewall is open for this machine meanwhile. Again, it changes nothing.
# usage: infra/pipelines/deploy/migrate.sh RESOURCE_GROUP
source "$(dirname "$0")/outputs.sh"

server=$(output databaseServerId)
rule="$server/firewallRules/migrate-$$"
close() {
  az resource delete --ids "$rule" --api-version 2024-08-01 --output none
}

# MIGRATE_FROM is empty where no rule is needed, such as on an agent in the network.
address=${MIGRATE_FROM-$(curl --fail --silent --show-error --max-time 30 https://api.ipify.org)}
if [[ -n $address ]]; then
  trap close EXIT
  az resource create --id "$rule" --api-version 2024-08-01 --output none \
    --properties "{\"startIpAddress\": \"$address\", \"endIpAddress\": \"$address\"}"
fi

owner=$(output databaseOwner) host=$(output databaseHost) database=$(output databaseName)
export DATABASE_LOGIN=entra
# Not through PgBouncer: an owner's work is no transaction among many.
export DATABASE_URL="host=$host port=5432 dbname=$database user='$owner' sslmode=verify-full"
runtime-store migrate --app-role "$(output appRole)" --app-identity "$(output appObjectId)" --wait 120
