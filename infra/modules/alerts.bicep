// What calls for a person, and the page that shows how things are. Each alert has its section in docs/operations.md.
param name string
param location string
param tags object
param environmentName string
param insightsId string
param databaseId string
param addresses array

@description('Where docs/operations.md is read: each alert links to its section.')
param handbookUrl string

var alerts = loadJsonContent('../alerts.json')

resource operators 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'rs-${environmentName}'
    enabled: true
    emailReceivers: [for (address, index) in addresses: {
      name: 'operator-${index}'
      emailAddress: address
      useCommonAlertSchema: true
    }]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = [for alert in alerts: {
  name: '${name}-${alert.name}'
  location: location
  tags: tags
  properties: {
    displayName: '${name}: ${alert.name}'
    description: '${alert.description} ${handbookUrl}${alert.name}'
    severity: alert.severity
    enabled: true
    scopes: [insightsId]
    evaluationFrequency: alert.every
    windowSize: alert.window
    autoMitigate: true
    criteria: {
      allOf: [
        {
          query: alert.query
          // One alert for each of these, which it names; else a first one would hide a second.
          dimensions: map(alert.by, column => {
            name: column
            operator: 'Include'
            values: ['*']
          })
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [operators.id]
    }
  }
}]

resource full 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${name}-database-full'
  location: 'global'
  tags: tags
  properties: {
    description: 'The database has little room left: at 95 % it takes no more writes. ${handbookUrl}database-full'
    severity: 1
    enabled: true
    scopes: [databaseId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'storage'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.DBforPostgreSQL/flexibleServers'
          metricName: 'storage_percent'
          timeAggregation: 'Average'
          operator: 'GreaterThan'
          threshold: 85
        }
      ]
    }
    actions: [
      {
        actionGroupId: operators.id
      }
    ]
  }
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, name)
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Runtime Store ${environmentName}'
    category: 'workbook'
    sourceId: insightsId
    serializedData: string(union(loadJsonContent('../workbook.json'), { fallbackResourceIds: [insightsId] }))
  }
}
