"""From what is typed to a configuration."""
