"""A ``ComparisonReport`` for people: verdict, files, a page, the terminal. Reads only; measures nothing."""

from hybridq.report.extras import Entered, Extras, ParetoPoint
from hybridq.report.files import render, report_json, write_report
from hybridq.report.known import Known
from hybridq.report.prediction import Prediction
from hybridq.report.terminal import print_report
from hybridq.report.verdict import Level, Verdict, judge

__all__ = [
    "Entered",
    "Extras",
    "Known",
    "Level",
    "ParetoPoint",
    "Prediction",
    "Verdict",
    "judge",
    "print_report",
    "render",
    "report_json",
    "write_report",
]
