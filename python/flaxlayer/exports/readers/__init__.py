"""Programs that run an exported model in a process with its own runtime."""
