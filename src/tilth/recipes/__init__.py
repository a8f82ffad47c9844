"""Complete runs that read from top to bottom, and the reports that they end with."""
