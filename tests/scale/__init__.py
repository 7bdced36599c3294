"""`make scale-test`: the pipeline on the engines of several hosts, as far as one machine can be several."""
