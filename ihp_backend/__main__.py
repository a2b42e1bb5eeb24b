"""Makes ``python -m ihp_backend`` the same as ``ihp``."""

from ihp_backend.cli import main

main(prog_name="ihp")
