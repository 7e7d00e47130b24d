"""The command line. Only click and the table of options are imported before a command runs."""
