"""LINUX: everything that talks to the kernel. In: frozen descriptions (`Overlay`, `Sandbox`). Out: mounts, processes.

ctypes is used nowhere else. Whatever can be described before it is done is a value first: overlays, mounts, the
sandbox itself; so they can be compared, logged and tested without being root.
"""
