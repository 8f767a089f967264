"""`bench gpu`: live models on a GPU, by the code that nodes run; real architectures with random weights."""
