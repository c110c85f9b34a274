from s3local.cli.main import main

main(prog_name="s3local")
