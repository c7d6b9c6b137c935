"""The pipeline: one file for each command of ``dvc.yaml``, which only calls the other packages."""
