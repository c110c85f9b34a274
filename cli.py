"""The program from a checkout: ``python cli.py run ...`` is ``s3local run ...``."""

from s3local.cli.main import main

main(prog_name="s3local")
