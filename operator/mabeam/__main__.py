"""`python -m mabeam`."""

from mabeam.cli import main

if __name__ == "__main__":
    main()
