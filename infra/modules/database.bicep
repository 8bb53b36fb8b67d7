// The database server. Nobody has a password: people and the app log in with a token of Microsoft Entra.
// The server takes one change at a time, so that its children are chained by dependsOn. What follows the firewall names
// what the firewall follows too: a loop over nothing waits for nothing.
param name string
param location string
param tags object
param sku object
param storage int
param backupDays int
param isHighlyAvailable bool
param hasPooler bool
param administrator object
param operatorAddresses array
param endpointSubnetId string
param networkId string
param workspaceId string

var always = [
  {
    name: 'default_toast_compression'
    value: 'lz4'
  }
  {
    name: 'ssl_min_protocol_version'
    value: 'TLSv1.2'
  }
  {
    name: 'log_min_duration_statement' // milliseconds
    value: '5000'
  }
]
var pooling = [
  {
    name: 'pgbouncer.enabled' // in transaction mode, unless told otherwise
    value: 'true'
  }
]
var parameters = hasPooler ? concat(always, pooling) : always

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2024-08-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: sku.name
    tier: sku.tier
  }
  properties: {
    version: '16'
    storage: {
      storageSizeGB: storage
      autoGrow: 'Enabled'
    }
    backup: {
      backupRetentionDays: backupDays
      geoRedundantBackup: 'Disabled'
    }
    highAvailability: {
      mode: isHighlyAvailable ? 'ZoneRedundant' : 'Disabled'
    }
    authConfig: {
      activeDirectoryAuth: 'Enabled'
      passwordAuth: 'Disabled'
      tenantId: subscription().tenantId
    }
    network: {
      // Closed but for firewall rules: those of operators, and the one that migrate.sh makes for itself.
      publicNetworkAccess: 'Enabled'
    }
  }
}

resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2024-08-01' = {
  parent: server
  name: 'runtime_store'
  properties: {
    charset: 'UTF8'
    collation: 'en_US.utf8'
  }
}

@batchSize(1)
resource configuration 'Microsoft.DBforPostgreSQL/flexibleServers/configurations@2024-08-01' = [for parameter in parameters: {
  parent: server
  name: parameter.name
  properties: {
    value: parameter.value
    source: 'user-override'
  }
  dependsOn: [database]
}]

@batchSize(1)
resource firewall 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2024-08-01' = [for (address, index) in operatorAddresses: {
  parent: server
  name: 'operator-${index}'
  properties: {
    startIpAddress: address
    endIpAddress: address
  }
  dependsOn: [configuration]
}]

// Late, since a server that has just been made or changed refuses principals for a while:
// https://github.com/Azure/azure-postgresql/issues/127
resource owner 'Microsoft.DBforPostgreSQL/flexibleServers/administrators@2024-08-01' = {
  parent: server
  name: administrator.objectId
  properties: {
    principalName: administrator.name
    principalType: administrator.type
    tenantId: subscription().tenantId
  }
  dependsOn: [configuration, firewall]
}

module endpoint 'private_endpoint.bicep' = {
  name: 'database-endpoint'
  params: {
    name: '${name}-database'
    location: location
    tags: tags
    serviceId: server.id
    group: 'postgresqlServer'
    zoneName: 'privatelink.postgres.database.azure.com'
    subnetId: endpointSubnetId
    networkId: networkId
  }
  dependsOn: [owner]
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'workspace'
  scope: server
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'PostgreSQLLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
  dependsOn: [endpoint]
}

output id string = server.id
output host string = server.properties.fullyQualifiedDomainName
output databaseName string = database.name
