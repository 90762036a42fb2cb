A second receiver on a machine takes a port that is free, unless `--listen` says which; `doctor` does not take whatever listens on port 60000 for a receiver of ours.
