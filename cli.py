from s3local.cli import main

main()
