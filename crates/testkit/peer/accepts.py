"""Ends well if a program of OpenMSIStream takes these arguments: accepts.py CLASS ARGUMENT...

CLASS is one of the package's own, or `Reproducer` or `Processor` for a user's program.
"""

import sys

import openmsistream


class Reproducer(openmsistream.MetadataJSONReproducer):
    def _get_metadata_dict_for_file(self, datafile):
        return {}


class Processor(openmsistream.DataFileStreamProcessor):
    def _process_downloaded_data_file(self, datafile, lock):
        return None

    @classmethod
    def run_from_command_line(cls, args=None):
        raise NotImplementedError


users = {"Reproducer": Reproducer, "Processor": Processor}
program = users.get(sys.argv[1]) or getattr(openmsistream, sys.argv[1])
program.get_argument_parser().parse_args(sys.argv[2:])
