"""What it costs and saves to accept gzip: the measurement behind the default of `accept_encoding`."""

import itertools

from . import local
from .cases import receive
from .figures import figure, order
from .local import MIB
from .subjects import CHUNK_SIZE, Ours

MOST = 25 * MIB
ACCEPTED = ("gzip", "identity")
SENT = ("plain", "gzip")
HEAD = ("content", "sent as", "accepts", "ms", "ms CPU", "MiB from MESH")


def measure(place, zips, bodies, rounds, say):
    """What the functions took for each content, each way to send it and each setting."""
    subjects = [Ours(place, zips, ACCEPT_ENCODING=accepted) for accepted in ACCEPTED]
    contents = {"text": bodies.text[:MOST], "random": bodies.random[:MOST]}
    measured = {}
    place.take_as_asked()
    for number in range(rounds):
        for (content, body), sent in itertools.product(contents.items(), SENT):
            for subject in order(subjects, number):
                place.reset()
                since = local.now()
                figures = receive(subject, body, CHUNK_SIZE, sent == "gzip") | {"bytes": place.downloaded(since)}
                found = measured.setdefault((content, sent, subject.settings["ACCEPT_ENCODING"]), {})
                for metric, value in figures.items():
                    found.setdefault(metric, []).append(value)
            say(f"round {number + 1}: {content}, sent as {sent}")
    place.take_uncompressed()
    return [dict(zip(("content", "sent", "accepted"), key, strict=True)) | found for key, found in measured.items()]


def text(measured):
    """The figures as a table."""
    rows = [HEAD]
    for line in measured:
        wall, cpu, received = (figure(line[metric]).median for metric in ("wall", "cpu", "bytes"))
        figures = (f"{wall * 1000:,.0f}", f"{cpu * 1000:,.0f}", f"{received / MIB:.1f}")
        rows.append((line["content"], line["sent"], line["accepted"], *figures))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
