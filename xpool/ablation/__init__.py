"""Studies in Optuna: experiments, the lab that trains a trial, the queue, the workers."""
