"""Pure machine-learning code: paths, arrays and dataclasses in, boxes and weights out. Imports no Django.

`pictures` and `types` are light (Pillow and NumPy only) and may be imported by the web process. PyTorch is
imported only by the modules that train or convert, never by the process that infers on a CPU.
"""
