"""The `millrace` command: one subcommand a file, and the one place that says what runs."""
