#!/usr/bin/env bash
# Publishes this folder's app, and looks whether Azure found its functions: one that cannot be imported has none, and
# nothing else would say so.
# usage: infra/pipelines/deploy/publish.sh RESOURCE_GROUP
source "$(dirname "$0")/outputs.sh"
cd "$(dirname "$0")/../../.."

name=$(output functionAppName)
func azure functionapp publish "$name" --python

expected="config_api reconcile webhook"
for _ in {1..12}; do
  found=$(az functionapp function list --resource-group "$group" --name "$name" --query "[].name" --output tsv |
    sed 's|.*/||' | sort | xargs) || true # an app that is just starting may not answer yet
  if [[ $found == "$expected" ]]; then
    echo "$name has the functions $found."
    exit 0
  fi
  sleep 15
done
echo "$name has the functions '$found' instead of '$expected'. See its log stream: an import that fails leaves none." >&2
exit 1
