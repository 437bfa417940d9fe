"""EXECUTE: an op on what it needs. In: an op and its inputs on disk. Out: a layer's items, or a finished process."""
