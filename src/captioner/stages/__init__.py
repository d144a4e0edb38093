"""The stages of the pipeline, each a module with ``run(params, paths, …) -> report``."""
