"""Any Git repository, by path or URL, read through the `git` executable."""
