"""A ``ComparisonReport`` for people: files, a page with plots, tables in the terminal. Reads only; measures nothing."""

from hybridq.report.files import render, write_report
from hybridq.report.plots import ParetoPoint
from hybridq.report.terminal import print_report

__all__ = ["ParetoPoint", "print_report", "render", "write_report"]
