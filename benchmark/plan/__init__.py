"""What is to be run: settings resolved from the recipes, and the tables and figures as lists of runs."""
