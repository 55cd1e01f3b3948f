"""A ``ComparisonReport`` for people: verdict, files, a page, the terminal. Reads only; measures nothing."""

from hybridq.report.files import render, report_json, write_report
from hybridq.report.known import Known
from hybridq.report.plots import ParetoPoint
from hybridq.report.terminal import print_report
from hybridq.report.verdict import Level, Verdict, judge

__all__ = [
    "Known",
    "Level",
    "ParetoPoint",
    "Verdict",
    "judge",
    "print_report",
    "render",
    "report_json",
    "write_report",
]
