"""`python -m tilth` is the command `tilth`."""

from tilth.cli.app import main

if __name__ == "__main__":
    main()
