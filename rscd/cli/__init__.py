"""The command line: parse, call, print. All printing and every exit code is here."""
