// One environment of Runtime Store in a resource group of its own: az deployment group create -f infra/main.bicep
// What Bicep cannot do (database roles, secrets, the organization's users and hooks) is in docs/deployment.md.
targetScope = 'resourceGroup'

@description('Name of this environment, lowercase letters and digits: in the names of its resources and the setting ENVIRONMENT.')
@minLength(2)
@maxLength(8)
param environmentName string

@description('Branches that a repository ingests here, with commas between them: the setting BRANCHES.')
param branches string

@description('URL of the Azure DevOps organization whose repositories are read.')
param organizationUrl string

@description('Principal that owns the schema and runs migrations: name, objectId and type (Group, ServicePrincipal or User).')
param databaseAdministrator object

@description('Size of the database server: name and tier. Every tier but Burstable gets PgBouncer in front.')
param databaseSku object = {
  name: 'Standard_D2ds_v5'
  tier: 'GeneralPurpose'
}

@description('Storage of the database server in GiB. It grows by itself and never shrinks: at least what it has grown to.')
param databaseStorage int = 32

@description('Name of the database server. Empty: made from the environment. Another one after a restore.')
param databaseServer string = ''

@description('Days that backups of the database are kept.')
@minValue(7)
@maxValue(35)
param backupDays int = 7

@description('Whether the database has a standby in another zone. Not for Burstable.')
param isHighlyAvailable bool = false

@description('Requests that one instance works on at a time: its concurrency, its threads and its database connections.')
@minValue(2)
@maxValue(32)
param concurrency int = 16

@description('Most instances of the function app. Times concurrency, that is how many connections the database must bear.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 40

@description('Instances that are kept warm for HTTP. 0 costs nothing, and the first request waits for a cold start.')
@minValue(0)
param warmInstances int = 0

@description('IPv4 addresses from which operators and migrations reach Key Vault and the database. Empty: only the network.')
param operatorAddresses array = []

@description('Who is told by e-mail when an alert fires.')
param alertAddresses array = []

@description('Where docs/operations.md of this repository is read: alerts link there.')
param handbookUrl string = 'https://dev.azure.com/contoso/platform/_git/runtime-store?path=/docs/operations.md&_a=preview&anchor='

@description('Where the app is reached, when it has a domain of its own. Empty: its address at azurewebsites.net.')
param publicUrl string = ''

param location string = resourceGroup().location

@description('Address space of the network: a /24 or larger that nothing else in reach uses.')
param addressSpace string = '10.60.0.0/24'

var suffix = uniqueString(resourceGroup().id, environmentName)
var name = 'runtime-store-${environmentName}'
var uniqueName = '${name}-${suffix}'
var hasPooler = databaseSku.tier != 'Burstable'
var tags = {
  application: 'runtime-store'
  environment: environmentName
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    name: name
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    name: name
    location: location
    tags: tags
    publisherId: identity.outputs.principalId
  }
}

module network 'modules/network.bicep' = {
  name: 'network'
  params: {
    name: name
    location: location
    tags: tags
    addressSpace: addressSpace
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: 'rs${suffix}'
    location: location
    tags: tags
    ownerId: identity.outputs.principalId
    endpointSubnetId: network.outputs.endpointSubnetId
    networkId: network.outputs.networkId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  params: {
    name: 'rs-${suffix}'
    location: location
    tags: tags
    readerId: identity.outputs.principalId
    operatorAddresses: operatorAddresses
    endpointSubnetId: network.outputs.endpointSubnetId
    networkId: network.outputs.networkId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module database 'modules/database.bicep' = {
  name: 'database'
  params: {
    name: empty(databaseServer) ? uniqueName : databaseServer
    location: location
    tags: tags
    sku: databaseSku
    storage: databaseStorage
    backupDays: backupDays
    isHighlyAvailable: isHighlyAvailable
    hasPooler: hasPooler
    administrator: databaseAdministrator
    operatorAddresses: operatorAddresses
    endpointSubnetId: network.outputs.endpointSubnetId
    networkId: network.outputs.networkId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module app 'modules/function_app.bicep' = {
  name: 'function-app'
  params: {
    name: uniqueName
    location: location
    tags: tags
    environmentName: environmentName
    branches: branches
    organizationUrl: organizationUrl
    publicUrl: publicUrl
    identityId: identity.outputs.id
    identityName: identity.outputs.name
    clientId: identity.outputs.clientId
    subnetId: network.outputs.appSubnetId
    storageName: storage.outputs.name
    packageUrl: storage.outputs.packageUrl
    vaultUrl: vault.outputs.url
    databaseHost: database.outputs.host
    databaseName: database.outputs.databaseName
    hasPooler: hasPooler
    telemetryConnection: monitoring.outputs.connection
    workspaceId: monitoring.outputs.workspaceId
    concurrency: concurrency
    maximumInstances: maximumInstances
    warmInstances: warmInstances
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    name: name
    location: location
    tags: tags
    environmentName: environmentName
    insightsId: monitoring.outputs.insightsId
    databaseId: database.outputs.id
    addresses: alertAddresses
    handbookUrl: handbookUrl
  }
}

output functionAppName string = app.outputs.name
output url string = app.outputs.url
output environmentName string = environmentName
output branches string = branches
output organizationUrl string = organizationUrl
output vaultName string = vault.outputs.name
output vaultUrl string = vault.outputs.url
output databaseHost string = database.outputs.host
output databaseName string = database.outputs.databaseName
output appRole string = identity.outputs.name
output appObjectId string = identity.outputs.principalId
output databaseServerId string = database.outputs.id
output databaseOwner string = databaseAdministrator.name
