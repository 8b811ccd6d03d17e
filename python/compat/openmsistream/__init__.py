"""The names of OpenMSIStream, on datamill's engine."""

import sys

from datamill.openmsistream import _compat

_compat.serve(sys.modules[__name__])
