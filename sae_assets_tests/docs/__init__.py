"""Documentation cannot drift: its commands, tables and keys are read here."""
