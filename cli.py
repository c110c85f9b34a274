from s3local.cli import main

main(prog_name="s3local")
