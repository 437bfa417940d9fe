"""layersmith: a daemonless container image builder.

The line is ``text --parse--> Buildfile --plan--> Plan --solve--> Image --export--> OCI``; `layersmith.build`
shows it on one screen.
"""

__version__ = "0.1.0"
