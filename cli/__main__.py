from pyro_dsae.cli.main import main

main()
