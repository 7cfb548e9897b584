"""Modules, functions and pytrees as plain configurations, and back.

`module_config` is the way in; the other files are its parts. A configuration
comes from a file that nobody vouches for: `name_resolution` says what a name
in one may mean.
"""
