"""EXPORT and FROM: images between the store and archives, directories and registries."""
