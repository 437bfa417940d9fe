"""CONTAINERS: an image run, and what is left of it. In: an image in the store and options. Out: a status.

There is no daemon: whoever starts a container is its *supervisor* (the command itself, or for ``run -d`` a small
process forked from it), which owns the spawner, the log and a lock on the container's directory. All else that is known of
a container lies in that directory, so any other process can list it, signal it, or enter it.
"""
