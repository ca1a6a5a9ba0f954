"""One module per subcommand of `glasschat`: each has `add(subparsers)` and a `main(args) -> int`."""
