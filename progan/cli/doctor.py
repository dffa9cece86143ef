"""The command `progan doctor`: whether this machine trains correctly, and how to fix it."""

import sys
from pathlib import Path

import click

from progan.cli.options import PathOption, check_target
from progan.runtime.disk import write_json
from progan.runtime.launch import is_main
from progan.runtime.text import printable


@click.command()
@click.option(
    "--json",
    "json_file",
    type=PathOption(),
    metavar="FILE",
    help="Also write a report, to attach to a bug report.",
)
def doctor(json_file: Path | None) -> None:
    """Check whether this machine trains correctly.

    Says how to fix it if not. Takes up to two minutes and needs no data. Compares the gradients of
    both networks with float64 on the CPU, in each precision, uncompiled and compiled. Prints a line
    per check that begins with good, slow or wrong, or with "not here" where a check does not apply.
    Exit code 1 if anything is wrong. The report contains no names of users or hosts, and no paths.

    \b
    progan doctor
    progan doctor --json report.json
    torchrun --nproc_per_node 8 -m progan doctor
    """
    report_in = check_target(json_file)
    from progan.doctor.checks import examine, report
    from progan.doctor.finding import WRONG

    findings = []
    for finding in examine():
        findings.append(finding)
        if is_main():
            click.echo(printable(finding.line()))
    wrong = [finding.name for finding in findings if finding.state == WRONG]
    if is_main():
        click.echo(f"wrong: {', '.join(wrong)}" if wrong else "nothing is wrong")
        if json_file:
            write_json(json_file, report(findings))
            click.echo(f"a report, without names and paths, in {report_in}")
    sys.exit(1 if wrong else 0)
