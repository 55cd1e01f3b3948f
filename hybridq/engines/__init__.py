"""Other runtimes that run the result: float and hybrid, each as the runtime's own converter makes it.

One file an engine; a runtime is an extra (``pip install 'hybridq[openvino]'``), imported where it is used.
"""
