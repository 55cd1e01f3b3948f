"""Tensors captured on a device: folders of dumps, known by what lies in them, read one tensor at a time.

A form is one function in ``forms``; ``matching`` ties its names to our layers, ``values`` makes an array of a file, and
``arranged`` lays it out as the model has it; ``compared`` sets it against float and our simulation, ``causes`` says why
it differs.
"""
