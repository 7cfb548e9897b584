"""Models as files that are served without this package's layers."""
