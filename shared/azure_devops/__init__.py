"""Azure DevOps: what its service hooks say."""
