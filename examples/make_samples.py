#!/usr/bin/env python3
"""Writes the sample files in `data`: what a powder X-ray diffractometer exports as text.

    python3 make_samples.py [FOLDER]        (default: `data` beside this script)

Each file is a block `[Measurement conditions]` of `key,value` lines, then `[Scan points]` with one
`Angle,Intensity` row per step. The patterns are calculated: peak positions from the lattice (Bragg's
law, both copper K-alpha lines), pseudo-Voigt peaks that widen with the angle, a background that falls
off, and Poisson noise. The random numbers are seeded with the path of each file, so every run writes
the same bytes (another mathematics library may move a count by one). One file is broken on purpose: its
header was cut off, which shows what happens to a file that a metadata extractor cannot read.

Needs Python 3.9 or later and nothing else.
"""

import math
import random
import sys
from pathlib import Path

K_ALPHA_1 = 1.5405980  # angstrom, copper
K_ALPHA_2 = 1.5444260
K_BETA = 1.3922500
ALPHA_RATIO = 0.5  # intensity of K-alpha 2 relative to K-alpha 1

# Phases: peaks as (spacing of the lattice planes in angstrom, relative intensity in percent).
SILICON = [
    (3.1356, 100), (1.9201, 55), (1.6375, 30), (1.3577, 6), (1.2459, 11), (1.1086, 12), (1.0452, 6),
    (0.9600, 3), (0.9179, 7), (0.8587, 8),
]
ALUMINA = [
    (3.4797, 58), (2.5508, 99), (2.3794, 41), (2.1654, 1), (2.0853, 100), (1.9645, 2), (1.7401, 46),
    (1.6016, 90), (1.5467, 4), (1.5110, 9), (1.4045, 36), (1.3738, 56), (1.2755, 2), (1.2391, 17),
    (1.2344, 9), (1.1898, 8), (1.1471, 7), (1.0988, 9), (1.0782, 8), (1.0426, 15), (0.9978, 14),
]
QUARTZ = [
    (4.2550, 16), (3.3435, 100), (2.4569, 9), (2.2815, 8), (2.2361, 4), (2.1277, 6), (1.9799, 4),
    (1.8180, 13), (1.6717, 4), (1.6591, 2), (1.5415, 9), (1.4528, 2), (1.3821, 6), (1.3750, 7),
    (1.3718, 5), (1.2879, 2), (1.2558, 3), (1.1999, 3), (1.1804, 3), (1.1529, 1), (1.0815, 2),
]


class Pattern:
    """How many counts a scan expects at an angle."""

    def __init__(self, phases, counts, width, background, displacement=0.0):
        self.background = background
        self.peaks = []  # (position, height, half width), sorted by position
        for spacings, share in phases:
            for spacing, relative in spacings:
                for wavelength, ratio in ((K_ALPHA_1, 1.0), (K_ALPHA_2, ALPHA_RATIO)):
                    sine = wavelength / (2 * spacing)
                    if sine >= 1:
                        continue
                    theta = math.asin(sine)
                    position = 2 * math.degrees(theta) + displacement * math.cos(theta)
                    half = width / 2 * math.sqrt(0.8 - 0.3 * math.tan(theta) + 0.5 * math.tan(theta) ** 2)
                    self.peaks.append((position, counts * share * relative / 100 * ratio, half))
        self.peaks.sort()

    def expected(self, angles):
        """Expected counts at each of the ascending angles."""
        first = 0
        for angle in angles:
            value = self.background * (0.35 + 1.9 * math.exp(-angle / 22) + 0.0008 * angle)
            while first < len(self.peaks) and self.peaks[first][0] < angle - 4:
                first += 1
            for position, height, half in self.peaks[first:]:
                if position > angle + 4:
                    break
                x = (angle - position) / half
                value += height * (0.55 / (1 + x * x) + 0.45 * math.exp(-math.log(2) * x * x))
            yield value


def poisson(rng, mean):
    """A Poisson number; its normal approximation where the mean is large."""
    if mean > 60:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count


def header(points, start, step, **fields):
    """The lines of the header block; `fields` are those that differ between samples."""
    stop = start + (points - 1) * step
    return [
        "[Measurement conditions]",
        f"Sample identification,{fields['sample']}",
        f"Comment,{fields['comment']}",
        f"Measurement date / time,{fields['when']}",
        f"Operator,{fields['operator']}",
        f"Instrument,{fields['instrument']}",
        "Raw data origin,text export",
        f"Scan axis,{fields.get('axis', 'Gonio')}",
        f"Scan range,{start:.4f} - {stop:.4f}",
        f"Scan step size,{step:.4f}",
        f"No. of points,{points}",
        f"Scan type,{fields.get('type', 'CONTINUOUS')}",
        f"Time per step,{fields['seconds']:.2f}",
        "Anode material,Cu",
        f"K-Alpha1 wavelength,{K_ALPHA_1:.7f}",
        f"K-Alpha2 wavelength,{K_ALPHA_2:.7f}",
        f"Ratio K-Alpha2/K-Alpha1,{ALPHA_RATIO:.2f}",
        f"K-Beta wavelength,{K_BETA:.7f}",
        f"Generator voltage,{fields.get('voltage', 45)}",
        f"Tube current,{fields.get('current', 40)}",
        f"Divergence slit,{fields.get('slit', 'Fixed 0.38 mm')}",
        "Goniometer radius,240.00",
        f"Spinning,{fields.get('spinning', 'YES')}",
        f"Measured temperature,{fields.get('temperature', '25.00')}",
    ]


def scan(path, pattern, start, stop, step, **fields):
    """The text of a whole file."""
    rng = random.Random(path)
    points = round((stop - start) / step) + 1
    angles = [start + step * number for number in range(points)]
    lines = header(points, start, step, **fields)
    lines += ["", "[Scan points]", "Angle,Intensity"]
    for angle, mean in zip(angles, pattern.expected(angles)):
        lines.append(f"{angle:.4f},{poisson(rng, mean)}")
    return "\n".join(lines) + "\n"


def samples():
    """Relative path and text of every file."""
    lab = {"instrument": "Powder diffractometer 2"}

    # The reference powder that the instrument is aligned with, measured before and after a day of work.
    silicon = {"sample": "Si reference powder", "operator": "M. Keller", "seconds": 0.5, **lab}
    folder = "2026-03-02_Si_standard"
    for name, when, shift in (("morning", "2026-03-02 08:41:17", 0.004), ("evening", "2026-03-02 18:05:52", 0.011)):
        path = f"{folder}/si_{name}.csv"
        pattern = Pattern([(SILICON, 1.0)], 9000, 0.09, 120, shift)
        yield path, scan(path, pattern, 20, 120, 0.02, when=when, comment=f"alignment check {name}", **silicon)
    path = f"{folder}/si_111_fine.csv"
    yield path, scan(
        path, Pattern([(SILICON, 1.0)], 52000, 0.07, 260, 0.004), 27.5, 29.5, 0.001,
        when="2026-03-02 09:20:03", comment="line profile of the 111 peak", **{**silicon, "seconds": 4},
    )

    # Alumina heated step by step: the crystals grow and the peaks get narrower.
    for number, (temperature, width) in enumerate(((600, 0.62), (900, 0.34), (1200, 0.13)), start=1):
        path = f"2026-03-03_alumina_series/heated/al2o3_{number:02}_{temperature}C.csv"
        yield path, scan(
            path, Pattern([(ALUMINA, 1.0)], 5200 * 0.2 / width, width, 210), 20, 100, 0.02,
            sample=f"Al2O3 {temperature} C", comment="calcined 2 h in air", operator="A. Osei", seconds=0.75,
            when=f"2026-03-03 {9 + 2 * number:02}:12:40", temperature=f"{temperature}.00", spinning="NO", **lab,
        )

    # A long scan of a mixture, for a refinement: the largest file.
    path = "2026-03-04_mixtures/long/quartz_alumina_50_50_overnight.csv"
    mixture = Pattern([(QUARTZ, 0.5), (ALUMINA, 0.5)], 64000, 0.08, 900)
    yield path, scan(
        path, mixture, 5, 145, 0.0005, sample="Quartz / Al2O3 50:50", comment="overnight scan for refinement",
        operator="A. Osei", when="2026-03-04 19:30:00", seconds=0.2, type="STEP", **lab,
    )
    path = "2026-03-04_mixtures/quartz_si_90_10.csv"
    yield path, scan(
        path, Pattern([(QUARTZ, 0.9), (SILICON, 0.1)], 11000, 0.1, 180), 10, 90, 0.01,
        sample="Quartz with 10 % Si", comment="internal standard", operator="M. Keller",
        when="2026-03-04 10:02:31", seconds=0.4, **lab,
    )

    # Names as people choose them.
    path = "Proben Zürich/Quarz µ-Fokus 1.csv"
    yield path, scan(
        path, Pattern([(QUARTZ, 1.0)], 3100, 0.16, 60), 15, 75, 0.02, sample="Quarz, Körnung < 20 µm",
        comment="Messfleck 0.1 mm × 0.1 mm", operator="J. Müller", when="2026-03-05 14:47:09", seconds=2,
        instrument="Diffraktometer Zürich", current=30, slit="µ-Fokus 0.1 mm",
    )

    # Broken on purpose: the copy of this file ended in the middle of the line `Scan range`, and the rows
    # of the scan were appended to it by a second try.
    path = "2026-03-03_alumina_series/al2o3_broken_transfer.csv"
    text = scan(
        path, Pattern([(ALUMINA, 1.0)], 4000, 0.2, 210), 20, 60, 0.02, sample="Al2O3 as received",
        comment="copied while it was written", operator="A. Osei", when="2026-03-03 09:03:55", seconds=0.75, **lab,
    )
    head, rows = text.split("Scan range,", 1)
    yield path, head + "Scan ra" + rows[rows.index("\n20."):]


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "data"
    for path, text in samples():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8"))
        print(f"{target.stat().st_size:>9}  {path}")


if __name__ == "__main__":
    main()
