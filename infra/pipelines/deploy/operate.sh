#!/usr/bin/env bash
# Runs a command of runtime-store against one environment in Azure, as the owner of its database: whoever is signed in to
# the Azure CLI. The firewall of the database is open for this machine meanwhile.
# usage: infra/pipelines/deploy/operate.sh RESOURCE_GROUP COMMAND [ARGUMENT...]
source "$(dirname "$0")/outputs.sh"
shift

rule="$(output databaseServerId)/firewallRules/operate-$$"
close() {
  az resource delete --ids "$rule" --api-version 2024-08-01 --output none
}

# OPERATE_FROM is empty where no rule is needed, such as on an agent in the network.
address=${OPERATE_FROM-$(curl --fail --silent --show-error --max-time 30 https://api.ipify.org)}
if [[ -n $address ]]; then
  trap close EXIT
  az resource create --id "$rule" --api-version 2024-08-01 --output none \
    --properties "{\"startIpAddress\": \"$address\", \"endIpAddress\": \"$address\"}"
fi

owner=$(output databaseOwner) host=$(output databaseHost) database=$(output databaseName)
# Not through PgBouncer: a migration is no transaction among many.
DATABASE_URL="host=$host port=5432 dbname=$database user='$owner' sslmode=verify-full"
DATABASE_LOGIN=entra
ENVIRONMENT=$(output environmentName)
BRANCHES=$(output branches)
KEY_VAULT_URL=$(output vaultUrl)
AZURE_DEVOPS_ORGANIZATION=$(output organizationUrl)
PUBLIC_URL=$(output url)
export DATABASE_URL DATABASE_LOGIN ENVIRONMENT BRANCHES KEY_VAULT_URL AZURE_DEVOPS_ORGANIZATION PUBLIC_URL
runtime-store "$@"
