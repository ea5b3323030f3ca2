"""The audit in a terminal: the findings, then what is behind those on labels, then what was written."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from neurodense.data.audit.confounding import Partition
from neurodense.data.audit.result import Audit, Finding, Weight
from neurodense.data.audit.shortcuts import Shortcuts
from neurodense.notice import NOTICE

_STYLE: Final[dict[Weight, str]] = {"serious": "bold red", "caution": "yellow", "note": "blue", "clear": "green"}


def print_audit(audit: Audit, console: Console) -> None:
    """Print what was found, why it matters and what to do next. Names from outside are printed as they stand."""
    counts = ", ".join(f"{name} {count:,}" for name, count in audit.data.classes.items())
    kind = "synthetic images" if audit.data.synthetic else "images"
    console.print(Text(f"Audit of {audit.data.name}: {audit.data.images:,} {kind} ({counts})", style="bold"))
    for finding in audit.findings:
        if finding.weight != "clear":
            _print_finding(finding, console)
    if audit.shortcuts is not None:
        console.print()
        console.print(_shortcuts(audit.shortcuts))
    for partition in audit.confounding.partitions[:1]:
        console.print()
        console.print(_sources(partition, audit))
    console.print()
    for finding in audit.findings:
        if finding.weight == "clear":
            console.print(Text.assemble(("ok ", _STYLE["clear"]), finding.found))
    console.print(Text(NOTICE, style="italic"))


def _print_finding(finding: Finding, console: Console) -> None:
    console.print()
    console.print(Text.assemble((f"{finding.weight}  ", _STYLE[finding.weight]), (_plain(finding.found), "bold")))
    for sentence in (finding.detail, finding.why):
        if sentence:
            console.print(Padding(Text(_plain(sentence)), (0, 0, 0, 2)))
    for step in finding.next:
        console.print(Text(f"  -> {_plain(step)}"), soft_wrap=True)  # a command must stay one line to be copied


def _plain(text: str) -> str:
    return text.replace("`", "")


def _shortcuts(shortcuts: Shortcuts) -> Table:
    table = Table(title=f"The label from what is not anatomy ({shortcuts.metric}; chance {shortcuts.chance:.2f})")
    table.title_justify = "left"
    table.add_column("facts")
    for head in ("score", "95% interval"):
        table.add_column(head, justify="right", no_wrap=True)
    for score in (shortcuts.everything, *shortcuts.families, shortcuts.names):
        table.add_row(score.family, f"{score.score:.2f}", f"{score.low:.2f} to {score.high:.2f}")
    return table


def _sources(partition: Partition, audit: Audit) -> Table:
    table = Table(title=f"Images by {partition.by} and class (Cramér's V {partition.cramers_v:.2f})")
    table.title_justify = "left"
    table.add_column(Text(partition.by), overflow="fold")
    for name in audit.data.classes:
        table.add_column(Text(name), justify="right", no_wrap=True)
    against = partition.against if audit.against is not None else None
    if against is not None and audit.against is not None:
        table.add_column(Text(audit.against.name), justify="right")
    for k, (name, row) in enumerate(zip(partition.sources, partition.counts, strict=True)):
        cells = [*row, *(() if against is None else (against[k],))]
        note = f": {partition.described[k]}" if partition.described else ""
        table.add_row(Text(f"{name}{note}"), *(f"{count:,}" for count in cells))
    return table
