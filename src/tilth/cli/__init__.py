"""The command `tilth`: one thin file per verb. This room never loads torch.

May import: data and curate inside a command; recipes that train only by dotted name through
`tilth.lazy.attribute`. To add a verb: one file with a function `command`, one line in the table
`app.VERBS`, then `python -m tilth.cli.reference` to renew the page in `docs/reference/`.
"""
