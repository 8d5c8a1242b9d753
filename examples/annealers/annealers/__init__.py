"""A team of agents that anneal, judge, polish and crash: the example of MABEAM on Kubernetes."""
