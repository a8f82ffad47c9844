"""What training makes small, one idea per file.

May import: `tilth.ops` and the rooms below it, torch.
"""
