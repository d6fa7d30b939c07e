"""Damage to what DVC keeps: dvc.lock, its cache and the outs in the workspace. Found by content, mended by `make verify`."""
