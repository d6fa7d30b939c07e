"""One module per method, named as `dvc.yaml` names it, with a `build_method(context)`; it reads the files that only this method needs."""
