"""`python -m mixmo_fast` is `mixmo-fast`."""

from mixmo_fast.cli.app import main

main()
