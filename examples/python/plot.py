"""A plot of each X-ray diffraction file as its result: an SVG image, drawn with nothing but Python.

    datamill reproduce examples/python/plot.py:plot --consumer_topic_name files --producer_topic_name plots
"""

from __future__ import annotations

from xml.sax.saxutils import escape

import datamill

WIDTH, HEIGHT = 800, 300


def plot(file: datamill.DownloadDataFile) -> bytes:
    """Draw intensity over angle, from the lines `angle,intensity` behind `[Scan points]`."""
    _, _, scan = file.bytestring.decode("utf-8").partition("[Scan points]")
    points = [tuple(map(float, line.split(","))) for line in scan.splitlines() if line[:1].isdigit()]
    if len(points) < 2:
        raise ValueError("the file has no scan points")
    angles, counts = zip(*(point[:2] for point in points))
    low, high, top = min(angles), max(angles), max(counts) or 1.0
    path = " ".join(
        f"{(angle - low) / (high - low or 1.0) * WIDTH:.1f},{HEIGHT - count / top * HEIGHT:.1f}"
        for angle, count in zip(angles, counts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><title>{escape(file.filename)}</title>'
        f'<polyline points="{path}" fill="none" stroke="black"/></svg>'
    ).encode()


if __name__ == "__main__":
    datamill.reproduce(plot)
