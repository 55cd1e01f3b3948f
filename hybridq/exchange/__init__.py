"""Foreign formats, one a file, reader and writer together.

Other toolchains' layer choices, ranges and parameters, out (``step4``) and in (``import``). What a format cannot say is
told line by line.
"""
