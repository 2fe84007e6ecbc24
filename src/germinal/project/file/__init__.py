"""germinal.toml as typed data: its keys, how it is read, its published schema, and the tasks that [scope] can name."""
