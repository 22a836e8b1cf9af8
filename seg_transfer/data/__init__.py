"""Datasets on disk: manifests, records (pairs of an image and a label map), decoding, audit."""
