"""Names under which every process of a cluster finds the head node and the actors on it."""

# Of named actors; sweeps of all users on a cluster share them.
NAMESPACE = "occse"
# A sliver that only the head node has: it keeps light processes off the workers.
HEAD = {"node:__internal_head__": 0.001}
# Environment variable that Ray sets for the program of `ray job submit`.
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
