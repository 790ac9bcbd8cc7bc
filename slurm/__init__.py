"""Running on a SLURM cluster, or in several processes of one machine, through submitit."""
