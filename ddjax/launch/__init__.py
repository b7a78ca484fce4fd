"""The machinery of launchers: flags, settings, plan, work directory, exit codes, results, tables."""
