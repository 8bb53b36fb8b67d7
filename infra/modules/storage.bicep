// What the Functions host needs: the app's package, and the lease that lets one instance run the timer. No keys.
param name string
param location string
param tags object
param ownerId string
param endpointSubnetId string
param networkId string

var blobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b' // Storage Blob Data Owner: the host takes leases and makes containers

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Disabled'
    networkAcls: {
      defaultAction: 'Deny'
      bypass: 'None'
    }
  }

  resource blobs 'blobServices' = {
    name: 'default'

    resource package 'containers' = {
      name: 'package'
    }
  }
}

resource owns 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, ownerId, blobDataOwner)
  scope: account
  properties: {
    principalId: ownerId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataOwner)
  }
}

module endpoint 'private_endpoint.bicep' = {
  name: 'storage-endpoint'
  params: {
    name: '${name}-blob'
    location: location
    tags: tags
    serviceId: account.id
    group: 'blob'
    zoneName: 'privatelink.blob.${environment().suffixes.storage}'
    subnetId: endpointSubnetId
    networkId: networkId
  }
}

output name string = account.name
output packageUrl string = '${account.properties.primaryEndpoints.blob}${account::blobs::package.name}'
