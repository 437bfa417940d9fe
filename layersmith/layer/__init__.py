"""DIFF, LAYER: an overlay's upper directory, or any stream of entries, to a layer's blob; and a blob back to files.

``changes`` or ``scan`` make items, ``pack`` turns items into a blob with its file index, ``unpack`` turns a blob
into an overlay lowerdir, and ``view`` answers questions about a stack of layers without unpacking anything.
"""
