"""The verbs of the command line, a module for each group of them: ``add`` names them, handlers import what they need.

``cli.py`` puts them together. A handler parses, calls, shows; it raises what it is told and translates nothing.
"""
