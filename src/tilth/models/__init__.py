"""Networks, one file each; read `yolov4` first.

May import: `tilth.ops`, `tilth.data` and the rooms below them, torch.
"""
