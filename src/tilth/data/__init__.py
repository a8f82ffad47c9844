"""Records in one catalogue, whatever format they came in. This room never loads torch.

May import: ops' neighbours below it (config, lazy, seeding, errors), NumPy, SQLAlchemy, OpenCV.
To add a label format: one file in `formats/`, one line in the table `formats.FORMATS`.
"""
