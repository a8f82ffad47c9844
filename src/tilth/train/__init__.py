"""The loop and what it stands on. It receives model, loss and data as arguments and names none.

May import: `tilth.data`, `tilth.ops` and the rooms below them, torch, accelerate. Read `loop.fit`
first; every other file here is one idea that the loop uses. A new optimiser is one function and one
line in `optimiser.OPTIMISERS`.
"""
