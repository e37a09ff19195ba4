from latencylab.cli import main

main()
