"""Looks at folders of images and masks, and concludes how they are to be read."""
