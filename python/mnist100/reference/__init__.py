"""The same network without our kernels: readable NumPy, and PyTorch as the numerical reference."""
