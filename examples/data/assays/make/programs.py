"""What the programs of plate readers write around a plate. `→` stands for a tab."""

from __future__ import annotations

from truth import LETTERS, grid

Wells = dict[str, str]

_MARS = r"""
User: LAB,Path: C:\Program Files (x86)\BMG\CLARIOstar\User\Data,Test run no.: 65
Test name: SIX6 ELISA,Date: 02/03/2026,Time: 14:34:46

ID1: {id1},ID2: 100 ul
Absorbance
"""
_GEN5 = r"""


Software Version→3.12.08

Experiment File Path:→
Protocol File Path:→C:\Protocols\binding.prt

Plate Number→{plate}
Date→3/2/2026
Time→5:27:15 PM
Reader Type:→Synergy H1
Reading Type→Reader

Procedure Details

Plate Type→96 WELL PLATE (Use plate lid)
Read→binding
→Absorbance Endpoint
→Full Plate
→Read Speed: Normal,  Delay: 100 msec,  Measurements/Data Point: 8

{layout}Actual Temperature:→26.3

Results
"""
_ICONTROL = """
Application: Tecan i-control→→→→Tecan i-control , 1.11.1.0
Device: infinite 200Pro→→→→Serial number: 1409000001
Plate→→→→Greiner 96 Flat Bottom Transparent Polystyrol

Label: Label1→
Mode→→→→Absorbance
Measurement Wavelength→→→→450→nm
Bandwidth→→→→9→nm
Start Time:→02.03.2026 14:11:38

→Temperature: 23.1 °C
{drawn}


End Time:→02.03.2026 14:12:04
"""
_GERMAN = {
    "Application": "Programm",
    "Device": "Gerät",
    "Measurement Wavelength": "Messwellenlänge",
    "Start Time": "Startzeit",
    "End Time": "Endzeit",
}
_SOFTMAX = """
##BLOCKS= 1
Plate:→{plate}→1.3→PlateFormat→Endpoint→Absorbance→Raw→FALSE→1→→→→→→{n}→{names} →1→12→96→1→8→→
→Temperature(°C)→{numbers}→→
{drawn}

{more}~End
Original Filename: binding; Date Last Saved: 3/2/2026 2:23:07 PM
"""
_ENVISION = """
Plate information
Plate,Repeat,Barcode,Measured height,Chamber temperature at start,Group,Label,ScanX,ScanY,Measurement date,
{i},1,{barcode},14.35,22.00,1,A450(1),0,0,3/2/2026 10:30:00 AM,

Background information
Plate,Label,Result,Signal,Flashes/Time,
{i},A450,0,295000,300,

Results for A450(1) - channel 1 (A)
{drawn}

"""
_ENVISION_END = """
Basic assay information
Assay ID: ,,,,101

Platemap:
{blank}

 - - Undefined

Exported with EnVision Workstation version 1.14.3049.1642
"""


def mars(*reads: tuple[str, Wells], id1: str, trail: str = "", rows: int = 8, columns: int = 12) -> list[str]:
    """BMG MARS: several `Key: value` a line, an ID in free text, a title above each plate."""
    out = [line + trail for line in _MARS.strip("\n").format(id1=id1).split("\n")]
    for title, measured in reads:
        out += [trail, f"{title}{trail}", trail, *grid(measured, rows=rows, columns=columns)]
    return out


def gen5(plate: str, results: list[str], *, layout: list[str] | None = None) -> list[str]:
    """BioTek Gen5: sections with tabs between key and value."""
    above = "".join(f"{line}\n" for line in [*layout, ""]) if layout else ""
    return [*_GEN5.format(plate=plate, layout=above).replace("→", "\t").rstrip("\n").split("\n"), *results]


def gen5_two_reads(first: Wells, second: Wells) -> list[str]:
    """Gen5's matrix of two reads: a row each below its letter, the read's name behind it, not always in the same order."""
    lines = ["\t" + "\t".join(map(str, range(1, 13)))]
    for i, letter in enumerate(LETTERS[:8]):
        pair = [(first, "450"), (second, "600")]
        for lead, (measured, label) in zip((letter, ""), pair if i != 1 else pair[::-1], strict=True):
            lines.append("\t".join([lead, *_row(measured, letter), label]))
    return lines


def icontrol(drawn: list[str], *, sep: str = ",", german: bool = False) -> list[str]:
    """Tecan i-control: settings of a label, then a plate with the corner `<>`, then the end time."""
    template = _ICONTROL
    for english, word in _GERMAN.items() if german else ():
        template = template.replace(english, word)
    return template.strip("\n").replace("→", sep).format(drawn="\n".join(drawn)).split("\n")


def softmax(*reads: tuple[str, Wells], plate: str = "Plate1", more: list[str] | None = None) -> list[str]:
    """SoftMax Pro: no letters before the rows, wavelengths side by side, their names in a field of the line `Plate:`."""
    drawn = []
    for i, letter in enumerate(LETTERS[:8]):
        side_by_side = "→→".join("→".join(_row(measured, letter)) for _, measured in reads)
        drawn.append(f"→{'23.5' if i == 0 else ''}→{side_by_side}→→")
    text = _SOFTMAX.format(
        plate=plate,
        n=len(reads),
        names=" ".join(name for name, _ in reads),
        numbers="→→".join(["→".join(map(str, range(1, 13)))] * len(reads)),
        drawn="\n".join(drawn),
        more="".join(f"{line}\n" for line in more or []),
    )
    return text.strip("\n").replace("→", "\t").split("\n")


def envision(*plates: tuple[str, Wells]) -> list[str]:
    """EnVision: a table about each plate, its results, and a plate map of dashes at the end."""
    lines = []
    for i, (barcode, measured) in enumerate(plates, 1):
        drawn = ["," + ",".join(f"{n:02d}" for n in range(1, 13)), *grid(measured)[1:]]
        text = _ENVISION.strip("\n").format(i=i, barcode=f'"=""{barcode}"""', drawn="\n".join(drawn))
        lines += [*text.split("\n"), ""]
    blank = grid({f"{letter}{column:02d}": "- " for letter in LETTERS[:8] for column in range(1, 13)})
    return [*lines, *_ENVISION_END.strip("\n").format(blank="\n".join(blank)).split("\n")]


def _row(measured: Wells, letter: str) -> list[str]:
    return [measured.get(f"{letter}{column:02d}", "") for column in range(1, 13)]
