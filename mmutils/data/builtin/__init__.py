"""The built-in emoji data."""
