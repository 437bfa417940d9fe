"""The vocabulary of image-spec, runtime-spec and distribution-spec as frozen values; no input or output."""
