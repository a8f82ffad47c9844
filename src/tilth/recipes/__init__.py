"""Complete runs that read from top to bottom, and the reports that they end with.

Start with `detect.py` (the experiment) and `detector.py` (one detector). May import every room but
`cli`; `cli` reaches this one by dotted names, because it loads torch.
"""
