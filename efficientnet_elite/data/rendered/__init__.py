"""Data sets that this project draws itself, similar to photographs, without any download.

`scene` draws images for classification and `masks` images with segmentation masks; both paint the
objects of `objects`, of the classes in `kinds`.
"""
