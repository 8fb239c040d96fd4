"""`python -m fm_al`, the same as `fm-al`."""

from fm_al.cli import main

if __name__ == "__main__":
    main()
