"""`python -m ssl_transfer`."""

from ssl_transfer.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
