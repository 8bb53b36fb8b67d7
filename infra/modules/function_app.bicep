// The function app on Flex Consumption: three functions, signed in as one identity everywhere.
param name string
param location string
param tags object
param environmentName string
param branches string
param organizationUrl string
param publicUrl string
param identityId string
param identityName string
param clientId string
param subnetId string
param storageName string
param packageUrl string
param vaultUrl string
param databaseHost string
param databaseName string
param hasPooler bool
param telemetryConnection string
param workspaceId string
param concurrency int
param maximumInstances int
param warmInstances int

var bodyLimit = 4194304 // bytes; Azure DevOps sends at most 2 MB
var databasePort = hasPooler ? 6432 : 5432
var address = 'https://${name}.azurewebsites.net'

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    virtualNetworkSubnetId: subnetId
    siteConfig: {
      minTlsVersion: '1.2'
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.12'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: maximumInstances
        alwaysReady: warmInstances == 0 ? [] : [
          {
            name: 'http'
            instanceCount: warmInstances
          }
        ]
        triggers: {
          http: {
            perInstanceConcurrency: concurrency
          }
        }
      }
    }
  }
}

// Publishing is for tokens of Microsoft Entra.
resource noPasswords 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = [for way in ['ftp', 'scm']: {
  parent: app
  name: way
  properties: {
    allow: false
  }
}]

resource settings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: {
    AzureWebJobsStorage__blobServiceUri: 'https://${storageName}.blob.${environment().suffixes.storage}'
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: clientId
    AzureWebJobsDisableHomepage: 'true'
    APPLICATIONINSIGHTS_CONNECTION_STRING: telemetryConnection
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${clientId};Authorization=AAD'
    OTEL_SERVICE_NAME: name
    PYTHON_ENABLE_OPENTELEMETRY: 'true'
    FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: string(bodyLimit)
    PYTHON_THREADPOOL_THREAD_COUNT: string(concurrency)

    ENVIRONMENT: environmentName
    BRANCHES: branches
    DATABASE_URL: 'postgresql://${identityName}@${databaseHost}:${databasePort}/${databaseName}?sslmode=verify-full'
    DATABASE_LOGIN: 'entra'
    DATABASE_POOLER: hasPooler ? 'transaction' : 'none'
    DATABASE_POOL_SIZE: string(concurrency)
    KEY_VAULT_URL: vaultUrl
    KEY_VAULT_CACHE_SECONDS: '600'
    AZURE_CLIENT_ID: clientId
    READ_ACCESS: 'keys'
    AUTO_REGISTER: 'true'
    AZURE_DEVOPS_ORGANIZATION: organizationUrl
    COMMIT_STATUSES: 'true'
    PUBLIC_URL: empty(publicUrl) ? address : publicUrl
    GIT_URL_TEMPLATE: ''
    SCHEMA: ''
    GIT_TIMEOUT_SECONDS: '60'
    WEBHOOK_BUDGET_SECONDS: '8'
    WEBHOOK_BUDGET_FILES: '500'
    WEBHOOK_MAX_BYTES: string(bodyLimit)
    MANUAL_BUDGET_SECONDS: '60'
    RECONCILE_SCHEDULE: '0 * * * * *'
    RECONCILE_BUDGET_SECONDS: '240'
    RECONCILE_WORKERS: '4'
    HEAD_CHECK_MINUTES: '15'
    RETENTION_DAYS: '30'
    LIST_CACHE_MB: '64'
    LOG_LEVEL: 'INFO'
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'workspace'
  scope: app
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'FunctionAppLogs'
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
}

output id string = app.id
output name string = app.name
output url string = empty(publicUrl) ? address : publicUrl
