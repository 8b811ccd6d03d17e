"""Runs a program of OpenMSIStream with its own command line: run.py CLASS ARGUMENT..."""

import sys

import openmsistream

getattr(openmsistream, sys.argv[1]).run_from_command_line(sys.argv[2:])
