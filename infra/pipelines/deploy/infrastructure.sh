#!/usr/bin/env bash
# Makes the resources of one environment as infra/main.bicep and its parameters say. Again, it changes nothing.
# usage: infra/pipelines/deploy/infrastructure.sh RESOURCE_GROUP ENVIRONMENT
set -euo pipefail

group=${1:?"usage: $0 RESOURCE_GROUP ENVIRONMENT"}
environment=${2:?"usage: $0 RESOURCE_GROUP ENVIRONMENT"}
cd "$(dirname "$0")/../.."

az deployment group create --resource-group "$group" --name runtime-store \
  --template-file main.bicep --parameters "@parameters/$environment.json" --output none
