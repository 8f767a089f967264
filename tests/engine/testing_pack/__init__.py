"""Node classes for the engine's tests, one per thing that an executor must be able to do. Loaded as a custom pack."""

from . import calls, results, trouble, v3, values

NODES = (*values.NODES, *calls.NODES, *results.NODES, *trouble.NODES, *v3.NODES)
NODE_CLASS_MAPPINGS = {f"Test{cls.__name__}": cls for cls in NODES}
