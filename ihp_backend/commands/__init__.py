"""The subcommands of `ihp`, each imported only when it runs."""
