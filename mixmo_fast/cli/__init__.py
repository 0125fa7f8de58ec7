"""The command line: arguments are parsed and tables printed here; what does the work is imported when it is called."""
