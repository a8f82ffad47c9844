"""The numbers that readers compare.

May import: `tilth.data`, `tilth.ops` and the rooms below them, the library that defines a protocol.
"""
