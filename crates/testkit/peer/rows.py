"""Prints the rows of registry files, each as a JSON list, read as a script of a laboratory does: rows.py FILE..."""

import csv
import json
import sys

for path in sys.argv[1:]:
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.reader(file, delimiter=";"):
            print(json.dumps(row))
