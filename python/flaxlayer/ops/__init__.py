"""The operations that have a kernel of their own, and what picks the kernel.

One file an operation, with its pure JAX reference beside it; `dispatch` says
which of the two runs, `native` loads the compiled extension. Layers use
`dispatch` and the operations, never `native`.
"""
