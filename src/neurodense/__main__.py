"""`python -m neurodense`."""

from neurodense.cli import main

if __name__ == "__main__":
    main()
