"""Datasets on disk: manifests, pairs of image and label, decoding, audit."""
