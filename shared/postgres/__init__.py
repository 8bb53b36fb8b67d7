"""PostgreSQL: the registry, the queue, the configs and the journal, in one database and one dialect."""
