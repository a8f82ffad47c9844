"""Pure tensor functions that several networks need: boxes, suppression, letterbox, anchor grids.

May import: torch and `tilth.errors`. A function that only one file needs stays in that file.
"""
