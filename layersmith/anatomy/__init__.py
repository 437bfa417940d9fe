"""ANATOMY: what the images of a store are made of, for a person to look at. In: descriptors. Out: plain values.

``images`` lists them, ``layers`` takes one apart, ``documents`` tells all as JSON, ``differences`` says which paths
layers add, change and delete, and ``whiteouts`` how they do it, on disk and in the tar. Nothing is printed here.
"""
