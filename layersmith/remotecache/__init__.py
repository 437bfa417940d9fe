"""The build cache shared between machines: `--cache-to` and `--cache-from`.

What is shared is an OCI artifact: a manifest whose config lists cache records and whose layers are the blobs that these
name, so any registry keeps all of it and any OCI tool copies it. `document` is that config, `options` the command
line's words, `sources` and `targets` where it lies, `borrow` brings it in, `lend` sends it out, `mounts` does the same
with the content of cache mounts.

A record is trusted as far as its source is, as with every builder: who can write to a cache can have any files put
where a step's would be. What is checked: each record's key is made again from its parts, each blob has its digest, and
each layer unpacks to the DiffID that was said to be its.
"""
