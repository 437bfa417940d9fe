"""Registries, by the OCI distribution spec 1.1.

In: a reference and a store. Out: the image's blobs, each verified, in the store (`Registry.pull`) or at the registry
(`Registry.push`). `config` of `Registry` says what is known of registries, and `Keychain` who we are there.
"""

from layersmith.transport.registry.registry import Registry

__all__ = ["Registry"]
