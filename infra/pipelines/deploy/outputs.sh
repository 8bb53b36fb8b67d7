# What the last deployment of one environment told. Included by the other scripts, which are called with the name of the
# resource group.
set -euo pipefail

group=${1:?"usage: $0 RESOURCE_GROUP"}

output() {
  az deployment group show --resource-group "$group" --name runtime-store \
    --query "properties.outputs.$1.value" --output tsv
}
