"""PARSE: a Buildfile's text to typed instructions, and what is said about that text alone (lint, fmt).

In: text. Out: `instructions.Buildfile`. Nothing here knows images, contexts or the machine.
"""
