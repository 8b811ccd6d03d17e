"""The rules of `datamill.to_json` once more, in Python: what `json.loads` gives back for a value."""

import base64
import datetime
import decimal
import enum
import math

import numpy as np


def expected(value):
    if isinstance(value, np.ndarray):
        return [expected(element) for element in value] if value.ndim else expected(value[()])
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return expected(value.item())
    if isinstance(value, enum.Enum):
        return expected(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        text = str(value)
        return float(text) if any(c in text for c in ".eE") else int(text)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): expected(inner) for key, inner in value.items()}
    return [expected(element) for element in value]
