"Loss functions you can read, edit, run and trust."
__version__ = "0.1.0"
